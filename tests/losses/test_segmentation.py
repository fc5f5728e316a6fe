import math

import pytest
import torch

from cmunet_monai.losses import SegmentationLoss


def line_and_gap():
    """A line of 5 px, and a mask of it with a gap; (1, 1, 32, 32) each."""
    line = torch.zeros(1, 1, 32, 32)
    line[..., 14:19, 4:28] = 1
    gap = line.clone()
    gap[..., 14:16] = 0
    return line, gap


def logits_of(mask, certainty=20.0):
    return torch.cat([-certainty * mask, certainty * (mask - 0.5)], dim=1)


def test_one_half_everywhere_has_the_loss_by_hand():
    label, _ = line_and_gap()
    artery, pixels = 5 * 24, 32 * 32
    dice = 1 - artery / (0.5 * pixels + artery)
    loss = SegmentationLoss(lambda_ce=0.5)(torch.zeros(1, 2, 32, 32), label)
    assert loss.item() == pytest.approx(dice + 0.5 * math.log(2), rel=1e-4)


def test_a_gap_costs_more_with_cl_dice_and_the_true_mask_next_to_nothing():
    label, gap = line_and_gap()
    for lambda_cl_dice, least in ((0.0, 0.0), (1.0, 0.02)):
        plain = SegmentationLoss()(logits_of(gap), label)
        weighted = SegmentationLoss(lambda_cl_dice=lambda_cl_dice)(logits_of(gap), label)
        assert weighted - plain >= least
    assert SegmentationLoss(lambda_cl_dice=1.0)(logits_of(label), label) < 0.02


def test_a_negative_weight_is_refused():
    with pytest.raises(ValueError, match="`lambda_cl_dice`"):
        SegmentationLoss(lambda_cl_dice=-1)
