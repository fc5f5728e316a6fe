import numpy as np
import pytest
import torch

from cmunet_monai.transforms import RandPatchMaskd
from cmunet_monai.transforms.patch_mask import random_patch_mask


def test_sixty_five_percent_of_a_224_view_is_127_of_196_patches():
    mask = RandPatchMaskd("view_a", ratio=0.65)({"view_a": torch.zeros(1, 224, 224)})["mask"]
    assert mask.shape == (1, 14, 14)
    assert mask.dtype == torch.bool
    assert int(mask.sum()) == 127


def test_every_patch_is_hidden_equally_often():
    generator = np.random.RandomState(0)
    share = torch.stack([random_patch_mask(4, 4, 0.5, generator) for _ in range(2000)]).float().mean(0)
    assert (share - 0.5).abs().max() < 0.06  # five standard deviations of a share of 2000 draws


def test_masks_differ_between_draws_and_follow_the_seed():
    first, second = (RandPatchMaskd("image").set_random_state(3) for _ in range(2))
    row = {"image": torch.zeros(1, 64, 64)}
    a, b = first(row)["mask"], first(row)["mask"]
    assert not torch.equal(a, b)
    assert torch.equal(second(row)["mask"], a)


def test_sides_that_are_no_multiple_of_the_patch_are_named():
    with pytest.raises(ValueError, match="patch size 16, got 64 x 50"):
        RandPatchMaskd("image")({"image": torch.zeros(1, 64, 50)})
    with pytest.raises(ValueError, match="between 0 and 1, got 1"):
        RandPatchMaskd("image", ratio=1)
