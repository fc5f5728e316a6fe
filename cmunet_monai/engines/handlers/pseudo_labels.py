"""Pictures of what a teacher says of unlabelled frames."""

import os
from pathlib import Path

import torch
from ignite.engine import Engine, Events
from torch.utils.data import default_collate

from cmunet_monai.engines.handlers.reconstruction import draw_reconstructions
from cmunet_monai.engines.handlers.resume import is_main_process
from cmunet_monai.engines.mean_teacher import MeanTeacher
from cmunet_monai.engines.seeding import SeededCacheDataset
from cmunet_monai.losses.mean_teacher import confident
from cmunet_monai.methods import Reconstruction
from cmunet_monai.methods.base import in_range_of


class PseudoLabelPictures:
    """Write a PNG of the same few unlabelled frames every few epochs: frame, probability, and the answers that count.

    In the last column an artery is white, background black, and a pixel that the teacher is not sure of grey.

    Args:
        mean_teacher: gives the answers.
        dataset: the unlabelled frames; its first rows are shown, as drawn for epoch 0.
        output_dir: folder of `pseudo_labels_epoch_0010.png`, ...
        threshold: as of `MeanTeacherLoss`.
        every: epochs between two pictures; the last epoch always has one.
        frames: number of frames shown.
    """

    def __init__(
        self,
        mean_teacher: MeanTeacher,
        dataset: SeededCacheDataset,
        output_dir: str | os.PathLike[str],
        *,
        threshold: float,
        every: int = 1,
        frames: int = 4,
    ) -> None:
        self.mean_teacher = mean_teacher
        self.dataset = dataset
        self.output_dir = Path(output_dir)
        self.threshold = threshold
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
        clean = default_collate([row["clean"] for row in rows]).to(engine.state.device)
        probability = self.mean_teacher.answer(clean)
        sure = torch.where(confident(probability, self.threshold), (probability > 0.5).float(), 0.5)
        pictures = Reconstruction(
            clean,
            in_range_of(clean, probability),
            in_range_of(clean, sure),
            titles=("unlabelled frame", "the teacher's probability", "what counts"),
        )
        draw_reconstructions(pictures, self.output_dir / f"pseudo_labels_epoch_{epoch:04d}.png", epoch)
