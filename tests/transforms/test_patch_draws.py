import pytest
import torch

from cmunet_monai.transforms import RandPatchDrawsd


def test_each_patch_has_its_numbers():
    draws = RandPatchDrawsd("image", patch_size=8)({"image": torch.zeros(1, 32, 64)})["draws"]
    assert draws.shape == (2, 4, 8)
    assert draws.dtype == torch.float32
    assert draws.unique().numel() == 64


def test_numbers_are_uniform():
    draws = RandPatchDrawsd("image", patch_size=1).set_random_state(0)({"image": torch.zeros(1, 100, 100)})["draws"]
    assert 0 <= draws.min() < draws.max() <= 1
    # a mean of 20,000 numbers of variance 1/12 has a standard deviation of 0.002
    assert draws.mean().item() == pytest.approx(0.5, abs=0.01)
    assert draws.var().item() == pytest.approx(1 / 12, abs=0.005)


def test_numbers_differ_between_draws_and_follow_the_seed():
    first, second = (RandPatchDrawsd("image").set_random_state(3) for _ in range(2))
    row = {"image": torch.zeros(1, 64, 64)}
    a, b = first(row)["draws"], first(row)["draws"]
    assert not torch.equal(a, b)
    assert torch.equal(second(row)["draws"], a)


def test_sides_that_are_no_multiple_of_the_patch_are_named():
    with pytest.raises(ValueError, match="patch size 16, got 64 x 50"):
        RandPatchDrawsd("image")({"image": torch.zeros(1, 64, 50)})
