"""Pictures of what a method reconstructs."""

import os
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from matplotlib.figure import Figure
from torch.utils.data import default_collate

from cmunet_monai.atomic import atomic_path
from cmunet_monai.engines.handlers.resume import is_main_process
from cmunet_monai.engines.seeding import SeededCacheDataset
from cmunet_monai.methods import PretrainingMethod, Reconstruction


class ReconstructionPictures:
    """Write a PNG of the same few views every few epochs: what a method gives as its `Reconstruction`.

    Args:
        method: the method, or its `DistributedDataParallel`; one that reconstructs nothing gives no picture.
        dataset: gives the views; its first rows are shown, as drawn for epoch 0.
        output_dir: folder of `reconstruction_epoch_0010.png`, ...
        every: epochs between two pictures; the last epoch always has one.
        frames: number of views shown.
    """

    def __init__(
        self,
        method: PretrainingMethod,
        dataset: SeededCacheDataset,
        output_dir: str | os.PathLike[str],
        *,
        every: int = 5,
        frames: int = 4,
    ) -> None:
        self.method = method
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
        method: Any = getattr(self.method, "module", self.method)
        self.dataset.set_epoch(0)
        rows = [self.dataset[index] for index in range(min(self.frames, len(self.dataset)))]
        views, _ = engine.prepare_batch(default_collate(rows), engine.state.device)  # type: ignore[attr-defined]
        method.eval()
        with torch.no_grad():
            pictures = method.reconstruct(views)
        method.train()
        if pictures is not None:
            draw_reconstructions(pictures, self.output_dir / f"reconstruction_epoch_{epoch:04d}.png", epoch)


def draw_reconstructions(pictures: Reconstruction, path: Path, epoch: int) -> None:
    """One row a frame, upright, in the grey scale of the whole view."""
    *first, last = pictures.titles
    titles = dict(zip(("image", "masked", "reconstruction"), (*first, f"{last}, epoch {epoch}"), strict=True))
    count = len(pictures.image)
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
