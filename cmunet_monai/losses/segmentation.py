"""The loss of fine-tuning: Dice, cross-entropy and, on request, soft clDice."""

from monai.losses import DiceCELoss, SoftclDiceLoss
from torch import Tensor, nn

SKELETON_STEPS = 10  # MONAI's 3 leave no skeleton of an artery that is 21 px wide


class SegmentationLoss(nn.Module):
    """MONAI's Dice and cross-entropy, and its soft clDice, which counts broken and missing branches.

    Dice and clDice are those of the artery alone, as they are reported: the background's, near 1 for any mask, would
    halve their gradient. Cross-entropy sees both classes.

    Args:
        lambda_ce: weight of the cross-entropy beside the Dice loss.
        lambda_cl_dice: weight of the soft clDice loss; 0 leaves it out.
    Raises:
        ValueError: if a weight is negative.
    Source: Challier et al. 2025, section IV (Dice and cross-entropy); Shit et al. 2021 (clDice).
    """

    def __init__(self, *, lambda_ce: float = 1.0, lambda_cl_dice: float = 0.0) -> None:
        super().__init__()
        if lambda_cl_dice < 0:
            raise ValueError(f"`lambda_cl_dice` must be at least 0, got {lambda_cl_dice}")
        self.lambda_cl_dice = lambda_cl_dice
        self.dice_ce = DiceCELoss(include_background=False, to_onehot_y=True, softmax=True, lambda_ce=lambda_ce)
        self.cl_dice = SoftclDiceLoss(SKELETON_STEPS, include_background=False, to_onehot_y=True, softmax=True)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """The mean over a batch.

        Args:
            input: (B, 2, H, W) logits.
            target: (B, 1, H, W) of 0 and 1.
        """
        loss: Tensor = self.dice_ce(input, target)
        return loss + self.lambda_cl_dice * self.cl_dice(input, target) if self.lambda_cl_dice else loss
