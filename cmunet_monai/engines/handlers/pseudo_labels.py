"""Pictures of a teacher's pseudo-labels on unlabelled frames."""

import os
from typing import Any

import torch

from cmunet_monai.engines.handlers.reconstruction import EpochPictures
from cmunet_monai.engines.mean_teacher import MeanTeacher
from cmunet_monai.engines.seeding import SeededCacheDataset
from cmunet_monai.losses.mean_teacher import confident
from cmunet_monai.methods import Reconstruction
from cmunet_monai.methods.base import in_range_of


class PseudoLabelPictures(EpochPictures):
    """`EpochPictures` of unlabelled frames: the frame, the teacher's probability, and the answers that count.

    In the last column an artery is white, background black, and a pixel that the teacher is not sure of grey.

    Args:
        mean_teacher: gives the answers.
        dataset: the unlabelled frames.
        threshold: as of `MeanTeacherLoss`.
        output_dir, every, frames: as of `EpochPictures`.
    """

    prefix = "pseudo_labels"

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
        super().__init__(dataset, output_dir, every=every, frames=frames)
        self.mean_teacher = mean_teacher
        self.threshold = threshold

    def pictures(self, engine: Any, batch: Any) -> Reconstruction:
        clean = batch["clean"].to(engine.state.device)
        probability = self.mean_teacher.answer(clean)
        sure = torch.where(confident(probability, self.threshold), (probability > 0.5).float(), 0.5)
        return Reconstruction(
            clean,
            in_range_of(clean, probability),
            in_range_of(clean, sure),
            titles=("unlabelled frame", "the teacher's probability", "what counts"),
        )
