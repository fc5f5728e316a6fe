import numpy as np
import pytest
import torch

from cmunet_monai.transforms import RandShadingd


def fields(count=200, **settings):
    shade = RandShadingd("image", prob=1.0, **settings).set_random_state(0)
    return np.stack([shade({"image": torch.zeros(1, 64, 64)})["image"][0].numpy() for _ in range(count)])


def test_the_field_is_smooth_and_its_spread_is_that_of_its_nodes():
    made = fields(std=0.5)
    assert made[:, 8, 8].std() == pytest.approx(0.5, rel=0.25)  # the middle of the first of four cells of 16 px
    assert np.abs(np.diff(made, axis=2)).max() < 0.5
    assert made.mean() == pytest.approx(0, abs=0.05)


def test_it_is_added_to_the_frame_which_is_not_modified():
    image = torch.randn(1, 32, 32)
    before = image.clone()
    zero, row = (
        RandShadingd("image", prob=1.0).set_random_state(1)({"image": item}) for item in (torch.zeros(1, 32, 32), image)
    )
    assert torch.equal(image, before)
    assert torch.allclose(row["image"] - image, zero["image"], atol=1e-6)


def test_prob_0_leaves_the_frame():
    image = torch.randn(1, 32, 32)
    assert torch.equal(RandShadingd("image", prob=0.0)({"image": image})["image"], image)


def test_one_node_is_refused():
    with pytest.raises(ValueError, match="2 nodes or more"):
        RandShadingd("image", grid=1)
