"""Inference by each runtime beside plain torch: ms a frame in the network and from file to mask, memory, agreement.

    python tests/benchmarks/bench_inference.py [--weights model.safetensors] [--networks compact] [--sizes 256 512]

The variants take turns, frame by frame in the network and folder by folder from file to mask, so that all see the same
machine; `cpu` is the time that the process computed, which other programs disturb less. From file to mask is the
segmentation bundle's own `inference.json` on synthetic frames of 512 x 512 pixels, its loading process and everything
that it writes included. Agreement is with plain torch in float32, on those frames; the Dice of masks is given where
`--weights` names a trained model of the compact network, since masks of random weights mean nothing. Memory is the peak
of a process of its own that converts and computes two frames. Reported, never asserted.
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import mean, median
from time import perf_counter, process_time
from types import SimpleNamespace
from typing import Any

import torch
from ignite.engine import Events
from monai.bundle import ConfigParser
from monai.data import decollate_batch, list_data_collate
from torch import Tensor, nn

from cmunet_monai.inferers.runtime import RUNTIMES, RuntimeNetwork, missing_packages
from cmunet_monai.networks import UNet, load_unet_weights, save_unet_weights
from data_prep.__main__ import main as data_prep

BUNDLE = Path(__file__).parents[2] / "bundles" / "coronary_xa_segmentation"
NETWORKS = {"compact": (16, 32, 64, 128, 256), "paper": (64, 128, 256, 512, 1024)}
FRAME_SIZE = 512
EAGER = "eager"  # plain torch, the rest are runtimes
GOALS = "goals: the best runtime at least 2.5 times as fast as eager, Dice 0.995; compact at 256 at least 15 frames a s"


def build(channels: Sequence[int], weights: Path | None) -> UNet:
    torch.manual_seed(0)
    network = UNet(channels=channels).eval()
    if weights is not None:
        load_unet_weights(network, weights)
    return network


def variants(network: nn.Module, dtype: str | None) -> dict[str, nn.Module]:
    runtimes = [name for name in reversed(RUNTIMES) if not missing_packages(name)]
    return {EAGER: network, **{name: RuntimeNetwork(network, name, dtype=dtype) for name in runtimes}}


def bundle(folder: Path, channels: Sequence[int], size: int, **settings: Any) -> ConfigParser:
    """The inference of the bundle on the frames of `folder`, with another network and size."""
    parser = ConfigParser()
    parser.read_config(str(BUNDLE / "configs" / "inference.json"))
    parser.read_meta(str(BUNDLE / "configs" / "metadata.json"))
    settings |= {"channels": list(channels), "image_size": [size, size], "device": "$torch.device('cpu')"}
    parser.update({"bundle_root": str(BUNDLE), "dataset_dir": str(folder / "data" / "images"), **settings})
    return parser


def network_times_ms(
    networks: Mapping[str, nn.Module], images: Sequence[Tensor], repeats: int
) -> dict[str, tuple[float, float]]:
    """Median wall and processor time of a call with one frame, after a call that warms up."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in networks}
    for repeat in range(repeats + 1):
        for name, network in networks.items():
            begin, cpu = perf_counter(), process_time()
            with torch.no_grad():
                network(images[repeat % len(images)])
            times[name].append((perf_counter() - begin, process_time() - cpu))
    return {
        name: (1000 * median(wall for wall, _ in values[1:]), 1000 * median(cpu for _, cpu in values[1:]))
        for name, values in times.items()
    }


def file_to_mask_ms(parser: ConfigParser, network: nn.Module) -> float:
    """Median time from one finished frame to the next in the bundle's own evaluator."""
    evaluator = parser.get_parsed_content("evaluator")
    evaluator.network = network
    finished = [perf_counter()]
    evaluator.add_event_handler(Events.ITERATION_COMPLETED, lambda _: finished.append(perf_counter()))
    evaluator.run()
    # The first frame waits for the loading process to start
    return 1000 * median(after - before for before, after in pairwise(finished[1:]))


@torch.no_grad()
def logits(network: nn.Module, images: Sequence[Tensor]) -> list[Tensor]:
    return [network(image) for image in images]


def agreement(results: Sequence[Tensor], references: Sequence[Tensor]) -> dict[str, float]:
    """Differences of logits, share of pixels with the same class, and mean Dice of artery where any is found."""
    pairs = list(zip(results, references, strict=True))
    differences = torch.stack([(own - other).abs() for own, other in pairs])
    masks = [(own.argmax(1) > 0, other.argmax(1) > 0) for own, other in pairs]
    dice = [float(2 * (own & other).sum() / (own.sum() + other.sum())) for own, other in masks if (own | other).any()]
    return {
        "largest": float(differences.max()),
        "mean": float(differences.mean()),
        "same": float(torch.stack([(own == other).float().mean() for own, other in masks]).mean()),
        "dice": mean(dice) if dice else math.nan,
    }


def peak_memory_gib(name: str, channels: Sequence[int], size: int, dtype: str | None) -> float:
    words = [sys.executable, __file__, "--memory-of", json.dumps([name, channels, size, dtype])]
    result = subprocess.run(
        [*words, "--threads", str(torch.get_num_threads())], check=True, capture_output=True, text=True
    )
    return float(result.stdout.split()[-1])


def print_peak_memory(name: str, channels: Sequence[int], size: int, dtype: str | None) -> None:
    """Of this process: no runtime at all for an empty name."""
    if name:
        network = variants(build(channels, None), dtype)[name]
        with torch.no_grad():
            for _ in range(2):
                network(torch.zeros(1, 1, size, size))
    # `ru_maxrss` would begin with what the parent occupied when it started this process
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    print(next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 2**20)


def compare(name: str, size: int, folder: Path, arguments: argparse.Namespace) -> None:
    """Print one table: the variants of one network at one size."""
    channels = NETWORKS[name]
    trained = arguments.weights if name == "compact" else None
    network = build(channels, trained)
    weights = folder / f"{name}.safetensors"
    save_unet_weights(network, weights)
    dataset = bundle(folder, channels, size, weights=str(weights), output_dir=str(folder / "unused"))
    images = [item["image"].as_tensor()[None] for item in dataset.get_parsed_content("dataset")]
    references = logits(network, images)
    networks = variants(network, arguments.dtype)
    times = network_times_ms(networks, images, arguments.repeats)
    whole = {}
    for runtime, variant in networks.items():
        output = str(folder / f"{name}_{size}_{runtime}")
        parser = bundle(folder, channels, size, weights=str(weights), output_dir=output)
        whole[runtime] = file_to_mask_ms(parser, variant)
    print(f"\n{name} {channels} at {size} x {size}, {'trained' if trained else 'random'} weights")
    print(
        f"{'':<10}{'precision':<10}{'network ms':>11}{'faster':>8}{'cpu ms':>8}{'faster':>8}{'file to mask ms':>17}"
        f"{'faster':>8}{'converted s':>13}{'peak GiB':>10}   agreement with eager: logits, pixels, Dice"
    )
    for runtime, variant in networks.items():
        (wall, cpu), (eager_wall, eager_cpu) = times[runtime], times[EAGER]
        precision, seconds = (getattr(variant, what, None) for what in ("precision", "conversion_seconds"))
        memory = peak_memory_gib(runtime, channels, size, arguments.dtype)
        same = agreement(logits(variant, images), references)
        dice = f"{same['dice']:.5f}" if trained else "-"
        print(
            f"{runtime:<10}{precision or 'float32':<10}{wall:>11.0f}{eager_wall / wall:>8.2f}{cpu:>8.0f}"
            f"{eager_cpu / cpu:>8.2f}{whole[runtime]:>17.0f}{whole[EAGER] / whole[runtime]:>8.2f}{seconds or 0:>13.1f}"
            f"{memory:>10.2f}   largest {same['largest']:.1e}, mean {same['mean']:.1e}, {same['same']:.4%}, {dice}",
            flush=True,
        )


def print_stages(name: str, size: int, folder: Path, trained: Path | None) -> None:
    """Print what each step of the bundle's inference but the network takes, one after another in one process."""
    channels = NETWORKS[name]
    network = build(channels, trained)
    weights = folder / f"{name}.safetensors"
    save_unet_weights(network, weights)
    parser = bundle(folder, channels, size, weights=str(weights), output_dir=str(folder / "stages"), num_workers=0)
    before, after = (parser.get_parsed_content(f"{part}processing").transforms for part in ("pre", "post"))
    handlers = [handler for handler in parser.get_parsed_content("handlers") if callable(handler)]
    times: dict[str, list[tuple[float, float]]] = {}

    def timed(step: str, call: Callable[..., Any], *arguments: Any) -> Any:
        begin, cpu = perf_counter(), process_time()
        result = call(*arguments)
        times.setdefault(step, []).append((perf_counter() - begin, process_time() - cpu))
        return result

    for row in parser.get_parsed_content("dataset").data:
        item = row
        for transform in before:
            item = timed(type(transform).__name__, transform, item)
        batch = list_data_collate([{"image": item["image"]}])
        with torch.no_grad():
            output = decollate_batch({**batch, "pred": network(batch["image"])})[0]
        for transform in after:
            output = timed(f"{type(transform).__name__} of the mask", transform, output)
        engine = SimpleNamespace(state=SimpleNamespace(batch=[item], output=[output]))
        for handler in handlers:
            timed(f"{type(handler).__name__} (writing)", handler, engine)
    print(f"\nsteps beside the network, {size} x {size}, frames of {FRAME_SIZE} x {FRAME_SIZE}: median ms, and of cpu")
    for step, values in times.items():
        print(f"  {step:<28}{1000 * median(w for w, _ in values):>8.1f}{1000 * median(c for _, c in values):>8.1f}")
    totals = [1000 * sum(median(value[kind] for value in values) for values in times.values()) for kind in (0, 1)]
    print(f"  {'together':<28}{totals[0]:>8.1f}{totals[1]:>8.1f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--sizes", nargs="+", type=int, default=[256, 512])
    parser.add_argument("--repeats", type=int, default=5, help="calls of each network")
    parser.add_argument("--frames", type=int, default=6, help="frames from file to mask")
    parser.add_argument("--weights", type=Path, help="a trained model of the compact network")
    parser.add_argument("--dtype", choices=("bfloat16", "float16"), help="for the runtimes that have it")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.memory_of:
        print_peak_memory(*json.loads(arguments.memory_of))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # Every fifth patient is for tests, but the images of all lie in one folder
        frames = ["--frames", str(arguments.frames), "--frames-per-patient", "1", "--size", str(FRAME_SIZE)]
        if data_prep(["synthesize", *frames, "--output", str(folder / "data")]):
            raise SystemExit(2)
        print(
            f"{torch.get_num_threads()} threads; one frame a call, median of {arguments.repeats}; {arguments.frames} "
            f"frames from file to mask\n{GOALS}\n"
            f"peak memory without a network: {peak_memory_gib('', [], 0, None):.2f} GiB"
        )
        print_stages("compact", arguments.sizes[0], folder, arguments.weights)
        for network in arguments.networks:
            for size in arguments.sizes:
                compare(network, size, folder, arguments)


if __name__ == "__main__":
    main()
