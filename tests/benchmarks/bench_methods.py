"""Seconds and peak memory of a pre-training step of every method, beside a plain UNet step and the arithmetic.

    python tests/benchmarks/bench_methods.py [--steps 5]

Each method runs in a process of its own, from its overlay after `compact.json`, on synthetic frames; steps of the
method and of a plain supervised UNet alternate there, so that both see the same machine. The arithmetic is the number
of floating-point operations of convolutions and matrix products, forward and backward, as torch counts them. Data
loading is not in it (`bench_pretraining.py`). Reported, never asserted.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter

import torch
from monai.bundle import ConfigParser
from monai.bundle.scripts import run
from torch.nn import functional
from torch.utils.data import default_collate
from torch.utils.flop_counter import FlopCounterMode

from cmunet_monai.methods.base import prepare_views
from cmunet_monai.networks import UNet
from data_prep.__main__ import main as data_prep

BUNDLE = Path(__file__).parents[2] / "bundles" / "coronary_xa_pretraining"
BATCH, VIEW, CHANNELS = 16, 160, (16, 32, 64, 128, 256)
# name -> overlay, and the passes of a step: F forward, B backward; E encoder, D decoder, S segmentor
METHODS = {
    "MAE": ("mae", "F+B of E and D"),
    "SparK": ("spark", "F+B of E (convolutions on whole frames) and D"),
    "MoCo v2": ("moco_v2", "F+B of E, F of E"),
    "Models Genesis": ("models_genesis", "F+B of E and D"),
    "VasoMIM": ("vaso_mim", "F+B of E and D, 2 F and half a B of S"),
    "vessel prior": ("vessel_prior", "F+B of E and D"),
    "CM-UNet": (None, "F+B of E and D, F of E"),
    "CM-UNet with prior": ("cm_unet_prior", "F+B of E and D, F of E"),
}


def configs(overlay: str | None) -> list[str]:
    names = ["train.json", "compact.json", *([f"methods/{overlay}.json"] if overlay else [])]
    return [str(BUNDLE / "configs" / name) for name in names]


def plain_step() -> Callable[[], None]:
    """One supervised step of the same UNet on a batch of the same size."""
    network = UNet(channels=CHANNELS).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters())
    image = torch.randn(BATCH, 1, VIEW, VIEW).contiguous(memory_format=torch.channels_last)
    label = torch.randint(0, 2, (BATCH, VIEW, VIEW))

    def step() -> None:
        optimizer.zero_grad()
        functional.cross_entropy(network(image), label).backward()
        optimizer.step()

    return step


def method_step(overlay: str | None, folder: Path) -> Callable[[], None]:
    parser = ConfigParser()
    parser.read_config(configs(overlay))
    parser.update({"dataset_dir": str(folder / "data"), "output_dir": str(folder / "run"), "batch_size": BATCH})
    if overlay == "vaso_mim":
        parser.update({"segmentor_weights": str(folder / "segmentor" / "unet.safetensors")})
    parser["train#dataset#data"] = parser.get_parsed_content("train#data")[:BATCH]
    parser["train#dataset#progress"] = False
    dataset, method = parser.get_parsed_content("train#dataset"), parser.get_parsed_content("method")
    optimizer = parser.get_parsed_content("optimizer")
    method.to(memory_format=torch.channels_last)
    views, _ = prepare_views(default_collate(list(dataset)))

    def step() -> None:
        optimizer.zero_grad()
        method(views)["loss"].backward()
        optimizer.step()
        method.after_step()

    return step


def measure(overlay: str | None, folder: Path, steps: int) -> dict[str, float]:
    """Seconds of a step, and of a plain one beside it; operations of both; peak memory of the process in GiB."""
    both = {"plain": plain_step(), "step": method_step(overlay, folder)}
    operations = {}
    for name, step in both.items():
        with FlopCounterMode(display=False) as counter:
            step()
        operations[name] = counter.get_total_flops()
    seconds: dict[str, list[float]] = {name: [] for name in both}
    for _ in range(steps):
        for name, step in both.items():
            begin = perf_counter()
            step()
            seconds[name].append(perf_counter() - begin)
    return {
        "seconds": median(seconds["step"]),
        "ratio": median(own / plain for own, plain in zip(seconds["step"], seconds["plain"], strict=True)),
        "arithmetic": operations["step"] / operations["plain"],
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }


def make_data(folder: Path) -> None:
    """Frames, and a segmentor for VasoMIM that is hardly trained: its time does not depend on its weights."""
    command = ["synthesize", "--frames", str(2 * BATCH), "--frames-per-patient", "1", "--size", "256"]
    if data_prep([*command, "--output", str(folder / "data")]):
        raise SystemExit(2)
    datalist = folder / "data" / "datalist.json"
    lists = json.loads(datalist.read_text(encoding="utf-8"))
    datalist.write_text(json.dumps(lists | {"pretraining": lists["training"]}), encoding="utf-8")
    run(
        config_file=configs("vaso_mim_segmentor"),
        bundle_root=str(BUNDLE),
        dataset_dir=str(folder / "data"),
        output_dir=str(folder / "segmentor"),
        max_epochs=1,
        num_workers=0,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--one", nargs=2, metavar=("NAME", "FOLDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        name, folder = arguments.one
        print(json.dumps(measure(METHODS[name][0], Path(folder), arguments.steps)))
        return
    with tempfile.TemporaryDirectory() as folder:
        make_data(Path(folder))
        print(f"views of {VIEW}, batch {BATCH}, channels {CHANNELS}, float32, {torch.get_num_threads()} threads")
        print(f"{'method':<19}{'s a step':>9}{'x plain':>9}{'arithmetic':>12}{'ratio':>7}{'peak GiB':>10}  passes")
        for name, (_, passes) in METHODS.items():
            words = [sys.executable, __file__, "--steps", str(arguments.steps), "--one", name, folder]
            result = subprocess.run(words, check=True, capture_output=True, text=True).stdout
            m = json.loads(result.strip().splitlines()[-1])
            print(
                f"{name:<19}{m['seconds']:>9.2f}{m['ratio']:>9.2f}{m['arithmetic']:>12.2f}"
                f"{m['ratio'] / m['arithmetic']:>7.2f}{m['memory']:>10.2f}  {passes}",
                flush=True,
            )
        print("ratio: time beside what the arithmetic explains (goal: at most 1.25)")


if __name__ == "__main__":
    main()
