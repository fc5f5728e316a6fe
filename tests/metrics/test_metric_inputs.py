"""What all metrics accept and refuse."""

import math

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from cmunet_monai.metrics import (
    compute_all,
    compute_artery_diameter,
    compute_artery_diameter_difference,
    compute_cl_dice,
    compute_modified_hausdorff,
    compute_pointwise_diameter_error,
)

PAIR_FUNCTIONS = [
    compute_all,
    compute_artery_diameter_difference,
    compute_cl_dice,
    compute_modified_hausdorff,
    compute_pointwise_diameter_error,
]
pair_functions = pytest.mark.parametrize("function", PAIR_FUNCTIONS, ids=lambda function: function.__name__)


def bar(dtype=torch.float32):
    mask = torch.zeros(1, 1, 32, 32, dtype=dtype)
    mask[..., 10:15, 0:28] = 1
    return mask


def flat(result):
    if isinstance(result, torch.Tensor):
        return [result]
    return list(result) if isinstance(result, tuple) else list(vars(result).values())


@pair_functions
def test_two_shapes_that_differ_are_both_named(function):
    with pytest.raises(ValueError, match=r"same shape, got \(1, 1, 32, 32\) and \(1, 1, 32, 31\)"):
        function(bar(), bar()[..., :31])


@pair_functions
@pytest.mark.parametrize("shape", [(32, 32), (1, 32, 32), (1, 1, 8, 32, 32), (0, 1, 32, 32), (1, 0, 32, 32)])
def test_anything_but_batches_of_planes_is_refused(function, shape):
    with pytest.raises(ValueError, match=r"`y_pred` must be \(B, C, H, W\), got \(" + ", ".join(map(str, shape))):
        function(torch.zeros(shape), torch.zeros(shape))


@pair_functions
@pytest.mark.parametrize("value", [0.5, 255.0, -1.0, math.nan, math.inf])
@pytest.mark.parametrize("side", ["y_pred", "y"])
def test_a_value_that_is_neither_0_nor_1_is_named(function, value, side):
    masks = {"y_pred": bar(), "y": bar()}
    masks[side][..., 3, 3] = value
    with pytest.raises(ValueError, match=rf"`{side}` must hold only 0 and 1, got {value}"):
        function(**masks)


@pytest.mark.parametrize("value", [2, 255])
def test_integer_labels_are_refused(value):
    with pytest.raises(ValueError, match=rf"`mask` must hold only 0 and 1, got {value}"):
        compute_artery_diameter(bar(torch.uint8) * value)


@pair_functions
def test_an_array_is_refused(function):
    with pytest.raises(TypeError, match=r"`y` must be a torch\.Tensor, got ndarray"):
        function(bar(), bar().numpy())


@pytest.mark.parametrize("shape", [(32, 32), (1, 1, 4, 32, 32)])
def test_the_diameter_of_anything_but_batches_of_planes_is_refused(shape):
    with pytest.raises(ValueError, match=r"`mask` must be \(B, C, H, W\), got"):
        compute_artery_diameter(torch.zeros(shape))


@pair_functions
def test_inputs_are_not_modified(function):
    y_pred, y = torch.ones(1, 1, 32, 32), bar()
    function(y_pred, y)
    assert torch.equal(y_pred, torch.ones(1, 1, 32, 32))
    assert torch.equal(y, bar())


@pair_functions
@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.float16, torch.bfloat16, torch.float64])
def test_the_dtype_of_a_mask_does_not_matter(function, dtype):
    y_pred = bar().roll(1, dims=2)
    for value, expected in zip(
        flat(function(y_pred.to(dtype), bar(dtype))), flat(function(y_pred, bar())), strict=True
    ):
        assert value.dtype == torch.float32
        assert torch.equal(value, expected)


@pair_functions
def test_a_strided_mask_and_one_with_a_gradient_are_read(function):
    y_pred = bar().roll(1, dims=2)
    strided = torch.from_numpy(np.asfortranarray(y_pred.numpy())).requires_grad_()
    for value, expected in zip(flat(function(strided, bar())), flat(function(y_pred, bar())), strict=True):
        assert torch.equal(value, expected)


@pair_functions
def test_a_meta_tensor_gives_a_plain_tensor(function):
    for value in flat(function(MetaTensor(bar()), MetaTensor(bar()))):
        assert type(value) is torch.Tensor
