"""What several views say of a frame, together."""

import pytest
import torch

from cmunet_monai.transforms import JoinViewsd
from cmunet_monai.transforms.join_views import join_views


def logits(*probabilities):
    """(2 * views, W, H) of the probabilities of vessel, each (W, H)."""
    vessel = torch.tensor(probabilities).logit()
    return torch.stack([torch.zeros_like(vessel), vessel], dim=1).flatten(0, 1)


def test_one_view_is_its_own_probability_without_a_spread():
    joined = join_views(logits([[0.2, 0.9]]))
    assert torch.allclose(joined.probability, torch.tensor([[[0.2, 0.9]]]))
    assert joined.spread is None
    assert joined.agreement is None


def test_views_are_averaged_and_their_spread_is_the_standard_deviation():
    joined = join_views(logits([[0.2, 0.9]], [[0.6, 0.9]]))
    assert torch.allclose(joined.probability, torch.tensor([[[0.4, 0.9]]]))
    assert torch.allclose(joined.spread, torch.tensor([[[0.2, 0.0]]]), atol=1e-6)


def test_agreement_is_the_dice_of_what_all_say_with_what_any_says():
    # all say 1 pixel, any says 3: 2 * 1 / (1 + 3)
    assert join_views(logits([[0.9, 0.9, 0.1]], [[0.9, 0.1, 0.9]])).agreement == 0.5


def test_views_agree_on_nothing():
    assert join_views(logits([[0.1, 0.2]], [[0.3, 0.4]])).agreement == 1.0


def test_an_odd_number_of_channels_is_named():
    with pytest.raises(ValueError, match=r"\(2 \* views, W, H\), got \(3, 4, 4\)"):
        join_views(torch.zeros(3, 4, 4))


def test_the_dictionary_form_leaves_out_what_one_view_does_not_have():
    assert JoinViewsd("pred")({"pred": logits([[0.2]])}).keys() == {"pred"}
    both = JoinViewsd("pred")({"pred": logits([[0.2]], [[0.2]])})
    assert both.keys() == {"pred", "uncertainty", "agreement"}
    assert both["pred"].shape == both["uncertainty"].shape == (1, 1, 1)
