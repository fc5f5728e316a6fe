"""Batches of frames of one size."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from torch.utils.data import Sampler


class RunBatches(Sampler[list[int]]):
    """Batches that hold frames of one DICOM run, which have one size; other frames come one by one.

    Args:
        rows: of `cmunet_monai.readers.list_frames`.
        batch_size: at most so many frames.
    Raises:
        ValueError: if `batch_size` is not positive.
    """

    def __init__(self, rows: Sequence[Mapping[str, Any]], batch_size: int = 1) -> None:
        if batch_size < 1:
            raise ValueError(f"`batch_size` must be positive, got {batch_size}")
        self.batches: list[list[int]] = []
        for run, group in groupby(range(len(rows)), key=lambda index: rows[index].get("run")):
            indices, size = list(group), batch_size if run is not None else 1
            self.batches += [indices[start : start + size] for start in range(0, len(indices), size)]

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)
