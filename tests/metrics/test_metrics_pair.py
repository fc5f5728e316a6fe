"""All metrics at once against plain ones: scikit-image on whole frames, brute-force distances, no shared work."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from skimage.draw import disk, line
from skimage.measure import find_contours
from skimage.morphology import skeletonize

from cmunet_monai.metrics import (
    compute_all,
    compute_artery_diameter,
    compute_artery_diameter_difference,
    compute_cl_dice,
    compute_modified_hausdorff,
    compute_pointwise_diameter_error,
)


def tree(seed, shape=(96, 120)):
    """Branches of tapering width between random points; some leave the frame."""
    rng = np.random.default_rng(seed)
    mask = np.zeros(shape, dtype=bool)
    start = rng.integers(0, shape)
    for _ in range(4):
        end = rng.integers(0, shape)
        rows, columns = line(*start, *end)
        for row, column, radius in zip(rows, columns, np.linspace(4.5, 0.8, len(rows)), strict=True):
            mask[disk((row, column), radius, shape=shape)] = True
        start = end
    return mask


def pair(seed):
    y = tree(seed)
    kind = seed % 3
    if kind == 0:  # shifted, with a branch too many
        y_pred = np.roll(y, (2, -1), axis=(0, 1)) | (tree(seed + 100) & (np.arange(y.shape[1]) > 90))
    elif kind == 1:  # ragged and with holes
        y_pred = y ^ (np.random.default_rng(seed).random(y.shape) < 0.03)
    else:  # half of it, thinner
        y_pred = y & np.roll(y, 2, axis=0) & (np.arange(y.shape[0]) < 60)[:, None]
    return y_pred, y


def contour_points(mask):
    return np.unique(np.concatenate(find_contours(mask.astype(float), 0.5)), axis=0)


def nearest(a, b):
    return cdist(a, b).min(axis=1)


def cleared(mask):
    inner = np.pad(np.ones(np.subtract(mask.shape, 2), dtype=bool), 1)
    return mask & inner


def skeleton_and_diameters(mask):
    mask = cleared(mask)
    points = np.argwhere(skeletonize(mask))
    return points, 2 * nearest(points, contour_points(mask))


def plain(y_pred, y):
    overlap, total = (y_pred & y).sum(), y_pred.sum() + y.sum()
    precision, sensitivity = y[skeletonize(y_pred)].mean(), y_pred[skeletonize(y)].mean()
    contour_pred, contour_ref = contour_points(y_pred), contour_points(y)
    points_pred, diameters_pred = skeleton_and_diameters(y_pred)
    points_ref, diameters_ref = skeleton_and_diameters(y)
    errors = []
    for point, diameter in zip(points_ref, diameters_ref, strict=True):
        squared = ((points_pred - point) ** 2).sum(axis=1)
        if math.sqrt(squared.min()) <= max(diameter / 2, 1.5):
            errors.append(abs(diameters_pred[squared == squared.min()].mean() - diameter))
    return {
        "dice": 2 * overlap / total,
        "iou": overlap / (total - overlap),
        "cl_dice": 2 * precision * sensitivity / (precision + sensitivity),
        "modified_hausdorff": max(nearest(contour_pred, contour_ref).mean(), nearest(contour_ref, contour_pred).mean()),
        "diameter_pred": diameters_pred.mean(),
        "diameter_ref": diameters_ref.mean(),
        "diameter_difference": abs(diameters_pred.mean() - diameters_ref.mean()),
        "pointwise_diameter_error": np.mean(errors),
        "unmatched_share": 1 - len(errors) / len(points_ref),
    }


def as_batch(mask):
    return torch.from_numpy(mask)[None, None].float()


@pytest.mark.parametrize("seed", range(9))
def test_all_values_are_those_of_the_plain_way(seed):
    y_pred, y = pair(seed)
    values = {name: value.item() for name, value in vars(compute_all(as_batch(y_pred), as_batch(y))).items()}
    assert values == pytest.approx(plain(y_pred, y), rel=1e-6, abs=1e-6)


def test_some_of_these_trees_leave_the_frame():
    touching = [seed for seed in range(9) if (cleared(tree(seed)) != tree(seed)).any()]
    assert 0 < len(touching) < 9


def test_shared_work_gives_the_values_of_the_single_functions():
    y_pred, y = (torch.cat([as_batch(pair(seed)[side]) for seed in (0, 1, 2)]) for side in (0, 1))
    spacing_mm = [0.2, 0.3, 0.4]
    values = compute_all(y_pred, y, spacing_mm=spacing_mm)
    error, unmatched_share = compute_pointwise_diameter_error(y_pred, y, spacing_mm=spacing_mm)
    for together, alone in (
        (values.cl_dice, compute_cl_dice(y_pred, y)),
        (values.modified_hausdorff, compute_modified_hausdorff(y_pred, y, spacing_mm=spacing_mm)),
        (values.diameter_pred, compute_artery_diameter(y_pred, spacing_mm=spacing_mm)),
        (values.diameter_ref, compute_artery_diameter(y, spacing_mm=spacing_mm)),
        (values.diameter_difference, compute_artery_diameter_difference(y_pred, y, spacing_mm=spacing_mm)),
        (values.pointwise_diameter_error, error),
        (values.unmatched_share, unmatched_share),
    ):
        assert together.shape == (3, 1)
        assert torch.equal(together, alone)


@pytest.mark.parametrize("seed", [1, 2, 5])
def test_the_empty_frame_around_a_tree_changes_nothing(seed):
    y_pred, y = (cleared(mask) for mask in pair(seed))
    small = compute_all(as_batch(y_pred), as_batch(y))
    large = compute_all(*(as_batch(np.pad(mask, ((31, 7), (5, 64)))) for mask in (y_pred, y)))
    for field in dataclasses.fields(small):
        torch.testing.assert_close(getattr(small, field.name), getattr(large, field.name), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_exchanging_the_spatial_axes_hardly_moves_the_values(seed):
    # contours are symmetric, so Dice, IoU and Hausdorff are equal; scikit-image's thinning may choose another pixel
    y_pred, y = (as_batch(mask) for mask in pair(seed))
    straight, turned = compute_all(y_pred, y), compute_all(y_pred.mT, y.mT)
    for name in ("dice", "iou", "modified_hausdorff"):
        torch.testing.assert_close(getattr(straight, name), getattr(turned, name))
    assert straight.cl_dice.item() == pytest.approx(turned.cl_dice.item(), abs=0.03)
    assert straight.diameter_ref.item() == pytest.approx(turned.diameter_ref.item(), abs=0.2)


def test_dice_and_iou_of_half_a_line_are_two_thirds_and_a_half():
    y = torch.zeros(1, 1, 40, 40)
    y[..., 10, 10:30] = 1
    y_pred = y.clone()
    y_pred[..., 20:] = 0
    values = compute_all(y_pred, y)
    assert values.dice.item() == pytest.approx(2 / 3)
    assert values.iou.item() == pytest.approx(1 / 2)


def test_one_hot_channels_each_have_a_value_and_the_background_has_none():
    first, second = as_batch(tree(1)), as_batch(tree(2))
    background = 1 - torch.maximum(first, second)
    y = torch.cat([background, first, second], dim=1)
    y_pred = torch.cat([background, second, second], dim=1)
    values = compute_all(y_pred, y)
    for field in dataclasses.fields(values):
        assert getattr(values, field.name).shape == (1, 2)
    assert values.dice[0, 1] == values.iou[0, 1] == values.cl_dice[0, 1] == 1
    assert values.dice[0, 0] == compute_all(second, first).dice
    assert compute_all(y_pred, y, include_background=True).dice.shape == (1, 3)


EMPTY, TREE = np.zeros((96, 120), dtype=bool), tree(1)
NOWHERE = dict.fromkeys([field.name for field in dataclasses.fields(compute_all(*[as_batch(TREE)] * 2))], math.nan)
DIAMETER = skeleton_and_diameters(TREE)[1].mean()


@pytest.mark.parametrize(
    "y_pred, y, defined",
    [
        (EMPTY, TREE, {"dice": 0, "iou": 0, "cl_dice": 0, "unmatched_share": 1, "diameter_ref": DIAMETER}),
        (TREE, EMPTY, {"diameter_pred": DIAMETER}),
        (EMPTY, EMPTY, {}),
    ],
    ids=["empty prediction", "empty reference", "both empty"],
)
def test_what_an_empty_mask_leaves_defined(y_pred, y, defined):
    values = {name: value.item() for name, value in vars(compute_all(as_batch(y_pred), as_batch(y))).items()}
    assert values == pytest.approx(NOWHERE | defined, nan_ok=True)
