"""Batches that hold a fixed number of samples of each of several data sets."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from torch.utils.data import Dataset, Sampler

from cmunet_monai.engines.seeding import SeededCacheDataset

Place = tuple[int, int, int]
"""A data set, a row of it, and how often that row has been drawn before in this epoch."""


class MixedDataset(Dataset):
    """Several data sets whose samples have the same keys, concatenated and indexed by position.

    Args:
        datasets: the data sets; None where there is none (no labels).
    """

    def __init__(self, datasets: Sequence[SeededCacheDataset | None]) -> None:
        self.datasets = list(datasets)

    def __len__(self) -> int:
        return sum(len(dataset) for dataset in self.datasets if dataset is not None)

    def __getitem__(self, place: Place) -> Any:
        dataset = self.datasets[place[0]]
        assert dataset is not None
        return dataset.draw(place[1], place[2])

    def set_epoch(self, epoch: int) -> None:
        """Name the epoch whose samples are drawn next."""
        for dataset in self.datasets:
            if dataset is not None:
                dataset.set_epoch(epoch)


class MixedBatchSampler(Sampler[list[Place]]):
    """The places of one epoch's batches: `counts[k]` samples of data set k in each.

    Each data set is shuffled by (seed, epoch), and again when it has been passed; a row that comes again is drawn anew.
    `set_epoch` names the epoch.

    Args:
        dataset: the data sets.
        counts: samples of each in a batch of one process; 0 leaves a data set out, as does a data set that is None.
        paced_by: index of the data set that defines the length of an epoch: it is passed once, without a last
            incomplete batch.
        num_replicas: processes that share the batches.
        rank: number of this process.
        seed: seed of the run.
    Raises:
        ValueError: if a batch would be empty, or the pacing data set does not fill one batch in each process.
    """

    def __init__(
        self,
        dataset: MixedDataset,
        counts: Sequence[int],
        *,
        paced_by: int,
        num_replicas: int = 1,
        rank: int = 0,
        seed: int = 0,
    ) -> None:
        self.sizes = [0 if part is None else len(part) for part in dataset.datasets]
        if len(counts) != len(self.sizes) or min(counts) < 0:
            raise ValueError(f"`counts` must hold {len(self.sizes)} numbers, one for each data set, got {counts}")
        self.counts = [count if size else 0 for count, size in zip(counts, self.sizes, strict=True)]
        self.num_replicas = num_replicas
        self.rank = rank
        self.seed = seed
        self.epoch = 0
        pace = self.counts[paced_by] * num_replicas
        if pace == 0 or self.sizes[paced_by] < pace:
            raise ValueError(
                f"the {self.sizes[paced_by]} frames of an epoch are too few for one batch "
                f"({counts[paced_by]} of them in each of {num_replicas} processes)"
            )
        self.steps = self.sizes[paced_by] // pace

    def __len__(self) -> int:
        return self.steps

    def set_epoch(self, epoch: int) -> None:
        """Name the epoch whose order is drawn next."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[list[Place]]:
        streams = [self._stream(number) for number, count in enumerate(self.counts) if count]
        counts = [count for count in self.counts if count]
        for step in range(self.steps * self.num_replicas):
            batch = [next(stream) for stream, count in zip(streams, counts, strict=True) for _ in range(count)]
            if step % self.num_replicas == self.rank:
                yield batch

    def _stream(self, number: int) -> Iterator[Place]:
        size, passes = self.sizes[number], 0
        while True:
            order = np.random.default_rng([self.seed, self.epoch, number, passes]).permutation(size)
            yield from ((number, int(index), passes) for index in order)
            passes += 1
