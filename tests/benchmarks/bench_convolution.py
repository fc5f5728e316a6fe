"""Convolution throughput of the UNet beside this machine's own matrix product, in one run.

    python tests/benchmarks/bench_convolution.py [--bfloat16]

Reported, never asserted: machines differ, and are noisy. torch's FlopCounterMode counts the operations.
"""

import argparse
from collections.abc import Callable
from statistics import median
from time import perf_counter

import torch
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from cmunet_monai.networks import UNet

SIZE = 256
SCALES = {"compact": ((16, 32, 64, 128, 256), 4), "paper": ((64, 128, 256, 512, 1024), 1)}


def seconds(call: Callable[[], object]) -> float:
    start = perf_counter()
    call()
    return perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bfloat16", action="store_true", help="also in bfloat16")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    print(f"UNet at {SIZE} x {SIZE}, channels-last, {torch.get_num_threads()} threads; median of {arguments.repeats}")
    for dtype in (torch.float32, torch.bfloat16)[: 1 + arguments.bfloat16]:
        for name, (channels, batch) in SCALES.items():
            report(name, channels, batch, dtype, arguments.repeats)


def report(name: str, channels: tuple[int, ...], batch: int, dtype: torch.dtype, repeats: int) -> None:
    """Print forward and training throughput of one UNet, each repeat beside a matrix product."""
    network = UNet(channels=channels).to(memory_format=torch.channels_last)
    image = torch.randn(batch, 1, SIZE, SIZE).contiguous(memory_format=torch.channels_last)
    label = torch.randint(0, 2, (batch, SIZE, SIZE))
    left, right = torch.randn(2, 2048, 2048, dtype=dtype)

    def forward() -> torch.Tensor:
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            return network(image)

    def step() -> None:
        network.zero_grad()
        functional.cross_entropy(forward().float(), label).backward()

    @torch.no_grad()
    def infer() -> None:
        forward()

    for kind, call in (("inference", infer), ("training step", step)):
        network.train(kind != "inference")
        with FlopCounterMode(display=False) as counter:
            call()
        pairs = [(seconds(lambda: left @ right), seconds(call)) for _ in range(repeats)]
        peak = 2 * 2048**3 / median(matrix for matrix, _ in pairs) / 1e9
        rate = counter.get_total_flops() / median(own for _, own in pairs) / 1e9
        print(
            f"{name:8s} {str(dtype).removeprefix('torch.'):9s} {kind:13s} "
            f"{median(own for _, own in pairs) / batch:.3f} s/image, "
            f"{rate:6.1f} GFLOP/s, matrix product {peak:6.1f} GFLOP/s, share {rate / peak:.0%} (goal 60%)"
        )


if __name__ == "__main__":
    main()
