import json

import numpy as np
import pytest
import torch

from cmunet_monai.transforms import RandPaintArteriesd
from cmunet_monai.transforms.paint_arteries import TreeBank, paint

SIDE = 64


@pytest.fixture
def bank(tmp_path):
    """A bank of one tree: a straight artery of 4 px and 2 mm, a wire, and a frame of 7s."""
    agent, mask = np.zeros((SIDE, SIDE), np.float16), np.zeros((SIDE, SIDE), np.uint8)
    agent[20:40, 30:34], mask[20:40, 30:34] = 2.0, 1
    devices = np.zeros((SIDE, SIDE), np.float16)
    devices[5, :] = 0.5
    (tmp_path / "trees").mkdir()
    frame = np.full((SIDE, SIDE), 7, np.uint8)
    np.savez_compressed(tmp_path / "trees" / "a.npz", agent_mm=agent, devices=devices, mask=mask, frame=frame)
    (tmp_path / "trees.json").write_text(json.dumps({"trees": ["trees/a.npz"]}))
    return tmp_path


def painter(bank, seed=0, **settings):
    return RandPaintArteriesd("image", bank, **settings).set_random_state(seed)


def test_two_millimetres_of_agent_darken_by_beer_and_lambert():
    image, agent = np.full((9, 9), 100, np.float32), np.zeros((9, 9), np.float32)
    agent[4, 4] = 2.0
    painted = paint(image, agent, np.zeros_like(agent), iodine_per_mm=0.5)
    assert painted[4, 4] == pytest.approx(100 * np.exp(-1))
    assert np.delete(painted.ravel(), 40).tolist() == [100] * 80


def test_scatter_is_not_absorbed_and_devices_add_to_the_exponent():
    image, ones = np.full((3, 3), 200, np.float32), np.ones((3, 3), np.float32)
    painted = paint(image, ones, 0.5 * ones, iodine_per_mm=0.25, scatter=0.2)
    assert painted == pytest.approx(200 * (0.2 + 0.8 * np.exp(-0.75)))


def test_a_blur_keeps_what_is_absorbed_in_all():
    image, agent = np.full((41, 41), 100, np.float32), np.zeros((41, 41), np.float32)
    agent[20, 20] = 1.0
    sharp, soft = (paint(image, agent, 0 * agent, iodine_per_mm=0.3, blur_px=blur) for blur in (0, 1.5))
    assert (100 - soft).sum() == pytest.approx((100 - sharp).sum(), rel=1e-3)
    assert soft[20, 20] > sharp[20, 20]


def test_edge_enhancement_leaves_a_bright_halo_beside_an_artery():
    image, agent = np.full((41, 41), 100, np.float32), np.zeros((41, 41), np.float32)
    agent[:, 18:23] = 3.0
    painted = paint(image, agent, 0 * agent, iodine_per_mm=0.2, halo=0.8)
    assert painted[20, 25] > 100
    assert painted[20, 20] < 100 * np.exp(-0.6)


def test_painting_changes_only_what_the_tree_covers(bank):
    image = np.random.default_rng(0).uniform(50, 200, (SIDE, SIDE)).astype(np.float32)
    tree = TreeBank(bank)[0]
    painted = paint(image, tree.agent_mm, tree.devices, iodine_per_mm=0.2, scatter=0.3)
    covered = (tree.agent_mm > 0) | (tree.devices > 0)
    assert np.array_equal(painted[~covered], image[~covered])
    assert (painted[covered] < image[covered]).all()


@pytest.mark.parametrize("seed", range(8))
def test_the_mask_is_the_turned_tree_exactly(bank, seed):
    row = painter(bank, seed, synthetic_share=0)({"image": torch.full((1, SIDE, SIDE), 100.0)})
    mask = TreeBank(bank)[0].mask
    turned = [np.rot90(tree, quarters) for tree in (mask, mask[::-1]) for quarters in range(4)]
    label = row["label"][0].numpy()
    assert any(np.array_equal(label, tree) for tree in turned)
    assert row["image"][0].numpy()[label > 0].max() < 100


def test_pairs_and_contrast_are_drawn_anew_and_a_seed_repeats_them(bank):
    image = torch.rand(1, SIDE, SIDE) * 100
    first, again = painter(bank, 1), painter(bank, 1)
    rows = [first({"image": image}) for _ in range(4)]
    assert len({row["image"].sum().item() for row in rows}) == 4
    for row in rows:
        repeated = again({"image": image})
        assert torch.equal(repeated["image"], row["image"])
        assert torch.equal(repeated["label"], row["label"])


def test_the_synthetic_share_is_the_frame_of_the_bank(bank):
    row = painter(bank, synthetic_share=1)({"image": torch.zeros(1, SIDE, SIDE)})
    assert row["image"].unique().tolist() == [7]
    assert row["label"].sum() == 80


def test_a_tree_is_brought_to_the_size_of_the_frame_and_stays_0_and_1(bank):
    row = painter(bank, synthetic_share=0)({"image": torch.full((1, 128, 128), 50.0)})
    assert row["image"].shape == row["label"].shape == (1, 128, 128)
    assert row["label"].unique().tolist() == [0, 1]
    assert row["label"].sum() == 4 * 80


def test_a_folder_without_a_bank_is_refused_with_the_command_that_makes_one(tmp_path):
    with pytest.raises(FileNotFoundError, match="cmunet trees"):
        RandPaintArteriesd("image", tmp_path)


@pytest.mark.parametrize("content", [b"", b"not a zip"])
def test_a_cut_tree_is_named(bank, content):
    (bank / "trees" / "a.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.npz is no tree of a bank"):
        painter(bank)({"image": torch.zeros(1, SIDE, SIDE)})


def test_a_frame_that_is_no_square_is_refused(bank):
    with pytest.raises(ValueError, match="square"):
        painter(bank)({"image": torch.zeros(1, SIDE, 32)})
