"""Randomness that depends on (seed, epoch, sample) alone: not on workers, order, or where a run was interrupted."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from monai.data import CacheDataset, get_track_meta, set_track_meta
from monai.transforms import Compose, Randomizable


class SeededCacheDataset(CacheDataset):
    """MONAI's `CacheDataset` whose random transforms are seeded anew for every sample of every epoch.

    The same (seed, epoch, index) gives the same sample with any number of workers and in a resumed run, which MONAI's
    per-worker state does not. `draw` gives a row several times an epoch, another sample each time. `set_epoch` is
    called at each epoch's start by `SetDataEpoch` (workers are started anew each epoch, so they see it;
    `persistent_workers` must stay off). One random state serves all transforms, and random transforms keep no record of
    themselves (MONAI's `track_meta`), which takes as long as most of them do.

    Args:
        data: rows of the data list.
        transform: transforms; those before the first random one are applied once and cached.
        seed: seed of the run.
        settings: further arguments of `CacheDataset`.
    Raises:
        ValueError: if `data` is empty.
    """

    def __init__(self, data: Sequence[Any], transform: Sequence[Any] | Compose, *, seed: int = 0, **settings: Any):
        if not data:
            raise ValueError("`data` is empty: the data list has no row in this list")
        self.seed = seed
        self.epoch = 0
        self.random_state = np.random.RandomState()
        super().__init__(data, transform if isinstance(transform, Compose) else Compose(transform), **settings)
        # once: flattening makes a new Compose, which seeds every transform
        self.random_transforms = [t for t in self.transform.flatten().transforms if isinstance(t, Randomizable)]

    def set_epoch(self, epoch: int) -> None:
        """Name the epoch whose samples are drawn next."""
        self.epoch = epoch

    def draw(self, index: int, repeat: int) -> Any:
        """Return a new random sample of a row; `repeat` (from 0) counts its samples in this epoch."""
        name = (self.seed, self.epoch, index) if repeat == 0 else (self.seed, self.epoch, index, repeat)
        self.random_state.seed(int(np.random.SeedSequence(name).generate_state(1)[0]))
        for item in self.random_transforms:
            item.set_random_state(state=self.random_state)  # MONAI's loaders give each its own
        tracked = get_track_meta()
        set_track_meta(False)
        try:
            return super()._transform(index)
        finally:
            set_track_meta(tracked)

    def _transform(self, index: int) -> Any:
        return self.draw(index, 0)
