"""A teacher that is the average of its student, and answers for the unlabelled frames of each batch."""

from collections.abc import Mapping
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.inferers import Inferer, SimpleInferer
from torch import Tensor, nn
from torch.optim import Optimizer

from cmunet_monai.methods.base import prepare_views


class MeanTeacher:
    """Keeps the teacher, and prepares batches for MONAI's `SupervisedTrainer` (its `prepare_batch` and a handler).

    The teacher begins as a copy of the student and moves towards it after each of the optimiser's steps, BatchNorm's
    statistics included: t <- m t + (1 - m) s, with m = min(momentum, (1 + step) / (10 + step)), so that the first steps
    count too. It is never trained, and sees each frame as the student does, but without its changes of intensity.

    Args:
        network: the student, or its `DistributedDataParallel`.
        teacher: another UNet of the same shape, on the same device.
        optimizer: of the student.
        momentum: share of the teacher that stays in each step.
        inferer: how the teacher is called; `cmunet_monai.inferers.AutocastInferer` for bfloat16.
    Source: Tarvainen and Valpola 2017.
    """

    def __init__(
        self,
        network: nn.Module,
        teacher: nn.Module,
        optimizer: Optimizer,
        *,
        momentum: float = 0.99,
        inferer: Inferer | None = None,
    ) -> None:
        self.network = network
        self.teacher = teacher.eval().requires_grad_(False)
        self.momentum = momentum
        self.inferer = inferer or SimpleInferer()
        self.step = 0
        optimizer.register_step_post_hook(lambda *_: self.follow())

    def attach(self, engine: Engine) -> None:
        """Register the handlers; call this after the handler that resumes a run."""
        engine.add_event_handler(Events.STARTED, self.start)

    def start(self, engine: Engine) -> None:
        self.step = engine.state.iteration
        if self.step == 0:
            self.teacher.load_state_dict(self._student().state_dict())
        self.teacher.eval()

    @torch.no_grad()
    def follow(self) -> None:
        """Move the teacher towards the student."""
        momentum = min(self.momentum, (1 + self.step) / (10 + self.step))
        for average, value in zip(
            self.teacher.state_dict().values(), self._student().state_dict().values(), strict=True
        ):
            if average.is_floating_point():
                average.lerp_(value, 1 - momentum)
            else:
                average.copy_(value)
        self.step += 1

    def prepare_batch(
        self, batch: Mapping[str, Any], device: torch.device | str | None = None, non_blocking: bool = False, **_: Any
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The student's frames, and what the loss compares its answer with.

        Args:
            batch: `image`, (B, 1, H, W), what the student sees; `clean`, the same before changes of intensity; `label`,
                (B, 1, H, W), of 0 and 1, 0 where there is none; `labelled`, (B,) bool.
        Returns:
            `image`, and a target with `label`, `labelled` and `teacher`. `teacher` is (B, 1, H, W), the teacher's
            probability of an artery; it is 0 for labelled frames, where it is not used.
        """
        views = prepare_views(batch, device, non_blocking)[0]
        labelled = views["labelled"].bool()
        probability = torch.zeros_like(views["label"], dtype=torch.float32)
        if not labelled.all():
            probability[~labelled] = self.answer(views["clean"][~labelled])
        return views["image"], {"label": views["label"], "labelled": labelled, "teacher": probability}

    @torch.no_grad()
    def answer(self, image: Tensor) -> Tensor:
        """(B, 1, H, W) frames -> (B, 1, H, W) the teacher's probability of an artery."""
        return self.inferer(image, self.teacher).float().softmax(dim=1)[:, 1:]

    def _student(self) -> nn.Module:
        student: nn.Module = getattr(self.network, "module", self.network)
        return student
