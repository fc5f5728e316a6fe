import pytest
import torch

from cmunet_monai.losses import MaskedMSELoss


def frame_with_mask():
    target = torch.zeros(1, 1, 4, 4)
    mask = torch.tensor([[True, False], [False, False]]).view(1, 1, 2, 2)
    return target, mask


def test_only_hidden_patches_count():
    target, mask = frame_with_mask()
    guess = torch.full_like(target, 100.0)
    guess[..., :2, :2] = 3.0  # the hidden patch, as (row, column) of `mask` says
    assert MaskedMSELoss(2, normalise_targets=False)(guess, target, mask).item() == 9.0


def test_no_gradient_reaches_visible_pixels():
    target, mask = frame_with_mask()
    guess = torch.ones_like(target, requires_grad=True)
    MaskedMSELoss(2, normalise_targets=False)(guess, target, mask).backward()
    assert guess.grad[..., :2, :2].tolist() == [[[[0.5, 0.5], [0.5, 0.5]]]]  # 2 * (1 - 0) / 4 pixels
    assert guess.grad[..., 2:, :].abs().sum() == 0
    assert guess.grad[..., :2, 2:].abs().sum() == 0


def test_normalised_targets_ignore_brightness_and_contrast_of_a_patch():
    target, mask = frame_with_mask()
    target[..., :2, :2] = torch.tensor([[10.0, 30.0], [30.0, 10.0]])
    guess = torch.zeros_like(target)
    # values 10, 30, 30, 10: mean 20, unbiased variance 400 / 3, so each normalised value squared is 3 / 4
    assert MaskedMSELoss(2)(guess, target, mask).item() == pytest.approx(0.75, rel=1e-5)


def test_masks_are_per_image():
    target = torch.zeros(2, 1, 4, 4)
    guess = torch.zeros_like(target)
    guess[1, :, :2, :2] = 4.0
    mask = torch.zeros(2, 1, 2, 2, dtype=torch.bool)
    mask[0, 0, 0, 0] = mask[1, 0, 1, 1] = True
    assert MaskedMSELoss(2, normalise_targets=False)(guess, target, mask).item() == 0.0
    mask[1, 0, 0, 0] = True
    assert MaskedMSELoss(2, normalise_targets=False)(guess, target, mask).item() == pytest.approx(16 / 3)


def test_a_constant_patch_is_finite():
    target, mask = frame_with_mask()
    assert MaskedMSELoss(2)(target, target, mask).item() == 0.0


@pytest.mark.parametrize("shape", [(1, 1, 4, 4), (1, 1, 2, 1), (2, 1, 2, 2)])
def test_a_mask_of_another_grid_is_named(shape):
    target, _ = frame_with_mask()
    with pytest.raises(ValueError, match="multiples of 2"):
        MaskedMSELoss(2)(target, target, torch.ones(shape, dtype=torch.bool))


def test_nothing_hidden_is_an_error():
    target, mask = frame_with_mask()
    with pytest.raises(ValueError, match="hides nothing"):
        MaskedMSELoss(2)(target, target, torch.zeros_like(mask))
