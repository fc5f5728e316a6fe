import math

import pytest
import torch

from cmunet_monai.losses import VesselBCELoss


def losses_of(logits, targets, **settings):
    shape = (1, 1, 1, -1)
    return VesselBCELoss(**settings)(torch.tensor(logits).view(shape), torch.tensor(targets).view(shape)).item()


def test_vessels_weigh_by_their_target():
    # probabilities 3/4 of a vessel and 1/2 of background: weights 1 + 9 and 1
    expected = (10 * math.log(4 / 3) + math.log(2)) / 11
    assert losses_of([math.log(3), 0.0], [1.0, 0.0]) == pytest.approx(expected)


def test_without_a_weight_it_is_the_mean_cross_entropy():
    expected = (math.log(4 / 3) + math.log(2)) / 2
    assert losses_of([math.log(3), 0.0], [1.0, 0.0], vessel_weight=0) == pytest.approx(expected)


def test_the_least_loss_of_a_soft_target_is_its_entropy():
    entropy = 0.25 * math.log(4) + 0.75 * math.log(4 / 3)
    assert losses_of([-math.log(3)], [0.25]) == pytest.approx(entropy)
    assert losses_of([-math.log(3) + 0.1], [0.25]) > entropy


def test_targets_beyond_zero_and_one_are_clipped():
    assert losses_of([1.0, -2.0], [1.2, -0.1]) == losses_of([1.0, -2.0], [1.0, 0.0])


def test_it_is_float32_in_half_precision():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = VesselBCELoss()(torch.zeros(1, 1, 2, 2, dtype=torch.bfloat16), torch.ones(1, 1, 2, 2))
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(math.log(2))


def test_what_cannot_work_is_named():
    with pytest.raises(ValueError, match="`vessel_weight` must not be negative, got -1"):
        VesselBCELoss(-1)
    with pytest.raises(ValueError, match=r"got \(1, 1, 2, 2\) and \(1, 2, 2\)"):
        VesselBCELoss()(torch.zeros(1, 1, 2, 2), torch.zeros(1, 2, 2))
