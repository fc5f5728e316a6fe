"""Loss of mean teacher: supervised loss on labels, and pseudo-label loss on a teacher's confident pixels."""

from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn import functional

from cmunet_monai.losses.segmentation import SegmentationLoss


def confident(probability: Tensor, threshold: float) -> Tensor:
    """Which pixels a teacher is sure of: at least `threshold` for or against an artery; bool, the same shape."""
    return (probability >= threshold) | (probability <= 1 - threshold)


def confident_pixel_loss(logits: Tensor, probability: Tensor, *, threshold: float) -> Tensor:
    """Cross-entropy and Dice with a teacher's hard answer, over the pixels that it is sure of.

    Args:
        logits: (B, 2, H, W) of the student.
        probability: (B, 1, H, W) of an artery, of the teacher.
        threshold: 0.5 to 1; other pixels have no gradient.
    Returns:
        a scalar; 0 where no pixel is sure.
    """
    sure = confident(probability, threshold).float()  # (B, 1, H, W)
    target = (probability > 0.5).float() * sure
    cross_entropy = functional.cross_entropy(logits, target[:, 0].long(), reduction="none")[:, None] * sure
    found = logits.softmax(dim=1)[:, 1:] * sure
    overlap, total = (found * target).sum((1, 2, 3)), found.sum((1, 2, 3)) + target.sum((1, 2, 3))  # (B,)
    dice_loss = 1 - (2 * overlap + 1) / (total + 1)
    return cross_entropy.sum() / sure.sum().clamp(min=1) + dice_loss.mean()


class MeanTeacherLoss(nn.Module):
    """Supervised loss of the labelled frames of a batch, and `confident_pixel_loss` of the others.

    Args:
        threshold: probability from which a teacher's pixel counts, for or against.
        unlabelled_weight: of the unlabelled frames' loss.
        lambda_ce, lambda_cl_dice: of the labelled frames' loss, as of `SegmentationLoss`.
    Raises:
        ValueError: if `threshold` is not in 0.5 .. 1.
    Source: mean teacher (Tarvainen and Valpola 2017), with the confident hard answers of FixMatch (Sohn et al. 2020) in
        place of a squared difference.
    """

    def __init__(
        self,
        *,
        threshold: float = 0.8,
        unlabelled_weight: float = 1.0,
        lambda_ce: float = 1.0,
        lambda_cl_dice: float = 0.0,
    ) -> None:
        super().__init__()
        if not 0.5 <= threshold < 1:
            raise ValueError(f"`threshold` must be at least 0.5 and below 1, got {threshold}")
        self.threshold = threshold
        self.unlabelled_weight = unlabelled_weight
        self.supervised = SegmentationLoss(lambda_ce=lambda_ce, lambda_cl_dice=lambda_cl_dice)

    def forward(self, input: Tensor, target: Mapping[str, Tensor]) -> Tensor:
        """The loss of a mixed batch.

        Args:
            input: (B, 2, H, W) logits of the student.
            target: `label`, (B, 1, H, W) of 0 and 1; `labelled`, (B,) bool; `teacher`, (B, 1, H, W) probability.
        """
        labelled = target["labelled"]
        loss = input.sum() * 0  # a batch of one kind alone still has a graph
        if labelled.any():
            loss = loss + self.supervised(input[labelled], target["label"][labelled])
        if not labelled.all():
            probability = target["teacher"][~labelled]  # (unlabelled frames, 1, H, W)
            unlabelled = confident_pixel_loss(input[~labelled], probability, threshold=self.threshold)
            loss = loss + self.unlabelled_weight * unlabelled
        return loss
