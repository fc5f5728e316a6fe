"""Pictures of what a network makes of the same few frames, every few epochs."""

import os
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from torch.utils.data import default_collate

from cmunet_monai.engines.distributed import is_main_process
from cmunet_monai.engines.seeding import SeededCacheDataset
from cmunet_monai.files.atomic import atomic_path
from cmunet_monai.methods import PretrainingMethod, Reconstruction


class EpochPictures(ABC):
    """Write a PNG of the same few rows every few epochs.

    Args:
        dataset: its first rows are shown, as drawn for epoch 0.
        output_dir: folder of `PREFIX_epoch_0010.png`, ...
        every: epochs between two pictures; the last epoch always has one.
        frames: number of rows shown.
    """

    prefix: str

    def __init__(
        self, dataset: SeededCacheDataset, output_dir: str | os.PathLike[str], *, every: int = 5, frames: int = 4
    ) -> None:
        self.dataset = dataset
        self.output_dir = Path(output_dir)
        self.every = every
        self.frames = frames

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        epoch = engine.state.epoch
        if not is_main_process() or not (epoch % self.every == 0 or epoch == engine.state.max_epochs):
            return
        self.dataset.set_epoch(0)
        rows = [self.dataset[index] for index in range(min(self.frames, len(self.dataset)))]
        pictures = self.pictures(engine, default_collate(rows))
        if pictures is not None:
            draw_reconstructions(pictures, self.output_dir / f"{self.prefix}_epoch_{epoch:04d}.png", epoch)

    @abstractmethod
    def pictures(self, engine: Any, batch: Any) -> Reconstruction | None:
        """What is drawn of a batch; None where there is nothing."""


class ReconstructionPictures(EpochPictures):
    """`EpochPictures` of what a method gives as its `Reconstruction`.

    Args:
        method: the method, or its `DistributedDataParallel`; one that reconstructs nothing gives no picture.
        dataset: gives the views.
        output_dir, every, frames: as of `EpochPictures`.
    """

    prefix = "reconstruction"

    def __init__(
        self,
        method: PretrainingMethod,
        dataset: SeededCacheDataset,
        output_dir: str | os.PathLike[str],
        *,
        every: int = 5,
        frames: int = 4,
    ) -> None:
        super().__init__(dataset, output_dir, every=every, frames=frames)
        self.method = method

    def pictures(self, engine: Any, batch: Any) -> Reconstruction | None:
        method: Any = getattr(self.method, "module", self.method)
        views, _ = engine.prepare_batch(batch, engine.state.device)
        method.eval()
        with torch.no_grad():
            pictures: Reconstruction | None = method.reconstruct(views)
        method.train()
        return pictures


def draw_reconstructions(pictures: Reconstruction, path: Path, epoch: int) -> None:
    """One row a frame, upright, in the grey scale of the whole view."""
    *first, last = pictures.titles
    titles = dict(zip(("image", "masked", "reconstruction"), (*first, f"{last}, epoch {epoch}"), strict=True))
    count = len(pictures.image)
    from matplotlib.figure import Figure  # which prediction does without

    figure = Figure(figsize=(7.5, 2.5 * count + 0.4), layout="constrained")
    axes = figure.subplots(count, len(titles), squeeze=False)
    for row in range(count):
        low, high = torch.quantile(pictures.image[row].float().cpu(), torch.tensor([0.005, 0.995])).tolist()
        for column, (name, title) in enumerate(titles.items()):
            image = getattr(pictures, name)[row, 0].float().cpu().numpy()
            axes[row, column].imshow(image.T, cmap="gray", vmin=low, vmax=high)
            axes[row, column].set_axis_off()
            if row == 0:
                axes[row, column].set_title(title, fontsize=9)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)
