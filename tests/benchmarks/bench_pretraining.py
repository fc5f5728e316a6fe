"""Seconds and peak memory of a pre-training step, and its share spent waiting for data, beside a plain UNet step.

    python tests/benchmarks/bench_pretraining.py [--frames 48] [--epochs 3]

Runs the pre-training bundle with `compact.json` on synthetic frames of 512 x 512. Reported, never asserted.
"""

import argparse
import csv
import resource
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter

import torch
from monai.bundle.scripts import run
from torch.nn import functional

from cmunet_monai.networks import UNet
from data_prep.__main__ import main as data_prep

BUNDLE = Path(__file__).parents[2] / "bundles" / "coronary_xa_pretraining"
BATCH, VIEW, CHANNELS = 16, 160, (16, 32, 64, 128, 256)


def plain_step_seconds(repeats: int = 5) -> float:
    """Seconds of one supervised step of the same UNet on a batch of the same size."""
    network = UNet(channels=CHANNELS).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters())
    image = torch.randn(BATCH, 1, VIEW, VIEW).contiguous(memory_format=torch.channels_last)
    label = torch.randint(0, 2, (BATCH, VIEW, VIEW))
    seconds = []
    for _ in range(repeats):
        start = perf_counter()
        optimizer.zero_grad()
        functional.cross_entropy(network(image), label).backward()
        optimizer.step()
        seconds.append(perf_counter() - start)
    return median(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=48)
    parser.add_argument("--epochs", type=int, default=3)
    arguments = parser.parse_args()
    before = plain_step_seconds()
    with tempfile.TemporaryDirectory() as folder:
        data, splits, output = (Path(folder) / name for name in ("data", "splits", "run"))
        frames = ["--frames", str(2 * arguments.frames), "--frames-per-patient", "1", "--size", "512"]
        finetuning = ["--datalist", str(data / "datalist.json"), "--finetune-images", "6"]
        for command in (["synthesize", *frames, "--output", data], ["split", *finetuning, "--output", splits]):
            if data_prep([str(part) for part in command]):
                raise SystemExit(2)
        run(
            config_file=[str(BUNDLE / "configs" / name) for name in ("train.json", "compact.json")],
            bundle_root=str(BUNDLE),
            dataset_dir=str(data),
            datalist=str(splits / "final.json"),
            output_dir=str(output),
            max_epochs=arguments.epochs,
            picture_interval=1000,
        )
        with (output / "training.csv").open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))[1:]  # the first epoch warms up
    plain = median([before, plain_step_seconds()])
    step = median(BATCH / float(row["images_per_second"]) for row in rows)
    waiting = median(float(row["data_wait_share"]) for row in rows)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"CM-UNet (pooled), views of {VIEW}, batch {BATCH}: {step:.3f} s a step, {step / plain:.2f} times a plain UNet "
        f"step ({plain:.3f} s); waiting for data {waiting:.1%} of the time (goal: below 5%); peak "
        f"memory {memory:.2f} GiB"
    )


if __name__ == "__main__":
    main()
