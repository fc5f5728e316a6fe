"""The metric classes: MONAI's buffers and reductions, lists of images, ignite evaluators."""

import math

import pytest
import torch
from ignite.engine import Engine
from monai.handlers import IgniteMetricHandler

from cmunet_monai.metrics import (
    ArteryDiameterDifferenceMetric,
    ClDiceMetric,
    ModifiedHausdorffMetric,
    PointwiseDiameterErrorMetric,
)


def wall(first, last):
    """A vessel that crosses a frame of 40 x 40; rows are inclusive."""
    mask = torch.zeros(1, 1, 40, 40)
    mask[..., first : last + 1, :] = 1
    return mask


EMPTY = torch.zeros(1, 1, 40, 40)
REFERENCE = torch.cat([wall(10, 17)] * 3)
PREDICTION = torch.cat([wall(11, 18), wall(13, 20), EMPTY])  # distances 1 and 3, and one that is undefined


def test_the_mean_leaves_undefined_images_out_and_counts_the_others():
    metric = ModifiedHausdorffMetric(get_not_nans=True)
    values = metric(PREDICTION, REFERENCE)
    torch.testing.assert_close(values, torch.tensor([[1.0], [3.0], [math.nan]]), equal_nan=True)
    mean, not_nans = metric.aggregate()
    assert (mean.item(), not_nans.item()) == (2.0, 2)


def test_batches_accumulate_until_the_reset():
    metric = ModifiedHausdorffMetric()
    metric(PREDICTION[:1], REFERENCE[:1])
    metric(PREDICTION[1:], REFERENCE[1:])
    assert metric.aggregate().item() == 2.0
    metric.reset()
    metric(PREDICTION[1:2], REFERENCE[1:2])
    assert metric.aggregate().item() == 3.0


def test_the_reduction_may_be_chosen_late_and_none_keeps_every_value():
    metric = ModifiedHausdorffMetric(reduction="sum")
    metric(PREDICTION, REFERENCE)
    assert metric.aggregate().item() == 4.0
    values = metric.aggregate("none")
    torch.testing.assert_close(values, torch.tensor([[1.0], [3.0], [math.nan]]), equal_nan=True)


@pytest.mark.parametrize("reduction", ["mean", "mean_batch", "mean_channel"])
def test_a_mean_over_nothing_defined_is_nan_not_a_perfect_zero(reduction):
    metric = ModifiedHausdorffMetric(reduction=reduction)
    metric(EMPTY, wall(10, 17))
    assert metric.aggregate().isnan().all()


def test_aggregating_before_any_batch_is_an_error():
    with pytest.raises(ValueError, match="ClDiceMetric has nothing to aggregate"):
        ClDiceMetric().aggregate()


def test_a_metric_needs_a_reference():
    with pytest.raises(TypeError, match="ClDiceMetric needs `y`"):
        ClDiceMetric()(EMPTY)


def test_a_list_of_frames_of_several_sizes_is_taken():
    larger = torch.nn.functional.pad(wall(11, 18), (0, 0, 0, 8)), torch.nn.functional.pad(wall(10, 17), (0, 0, 0, 8))
    metric = ModifiedHausdorffMetric()
    values = metric([PREDICTION[1], larger[0][0]], [REFERENCE[1], larger[1][0]])
    torch.testing.assert_close(values, torch.tensor([[3.0], [1.0]]))


def test_a_spacing_of_the_metric_counts_unless_the_call_has_its_own():
    metric = ModifiedHausdorffMetric(spacing_mm=0.5)
    assert metric(PREDICTION[:1], REFERENCE[:1]).item() == 0.5
    assert metric(PREDICTION[:1], REFERENCE[:1], spacing_mm=0.1).item() == pytest.approx(0.1)


@pytest.mark.parametrize("as_list", [False, True])
def test_each_image_of_a_batch_or_list_has_its_own_spacing(as_list):
    y_pred, y = PREDICTION[:2], REFERENCE[:2]
    if as_list:
        y_pred, y = list(y_pred), list(y)
    values = ModifiedHausdorffMetric()(y_pred, y, spacing_mm=[0.2, 0.1])
    torch.testing.assert_close(values, torch.tensor([[0.2], [0.3]]))


def test_the_background_channel_is_left_out_unless_asked_for():
    y, y_pred = torch.cat([EMPTY, wall(10, 17)], dim=1), torch.cat([EMPTY, wall(11, 18)], dim=1)
    assert ModifiedHausdorffMetric()(y_pred, y).shape == (1, 1)
    assert ModifiedHausdorffMetric(include_background=True)(y_pred, y).shape == (1, 2)


@pytest.mark.parametrize("value, expected", [("error", 0.0), ("unmatched_share", 0.5)])
def test_the_pointwise_metric_collects_the_value_it_is_asked_for(value, expected):
    # the second frame's prediction is elsewhere: no error is defined there, and all is unmatched
    y = torch.cat([wall(10, 14), wall(10, 14)])
    metric = PointwiseDiameterErrorMetric(value=value)
    metric(torch.cat([wall(10, 14), wall(30, 34)]), y)
    assert metric.aggregate().item() == expected


def test_the_pointwise_metric_names_a_value_it_does_not_know():
    with pytest.raises(ValueError, match="`value` must be 'error' or 'unmatched_share', got 'share'"):
        PointwiseDiameterErrorMetric(value="share")


def test_an_ignite_evaluator_records_means_and_the_values_of_every_image():
    metrics = {
        "cl_dice": ClDiceMetric(),
        "hausdorff": ModifiedHausdorffMetric(),
        "add": ArteryDiameterDifferenceMetric(spacing_mm=0.5),
        "unmatched": PointwiseDiameterErrorMetric(value="unmatched_share"),
    }
    y_pred, y = PREDICTION[:2], REFERENCE[:2]
    engine = Engine(lambda _, index: (list(y_pred[index : index + 1]), list(y[index : index + 1])))
    for name, metric in metrics.items():
        IgniteMetricHandler(metric).attach(engine, name)
    engine.run([0, 1])
    # same vessel, moved by 1 and by 3 rows. Its skeleton lies within it after 1 and after 3 rows (half-width 4), and
    # within the reference's radius; diameters are the same
    assert engine.state.metrics["hausdorff"] == 2.0
    assert engine.state.metrics["add"] == 0.0
    assert engine.state.metrics["unmatched"] < 0.1
    assert engine.state.metrics["cl_dice"] > 0.8
    torch.testing.assert_close(engine.state.metric_details["hausdorff"], torch.tensor([[1.0], [3.0]]))
