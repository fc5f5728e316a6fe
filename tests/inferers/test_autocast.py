"""Half precision by config, on the CPU too."""

import pytest
import torch
from monai.data import MetaTensor
from monai.inferers import SlidingWindowInferer
from torch import nn

from cmunet_monai.inferers import AutocastInferer


class Recorder(nn.Module):
    """A convolution that notes the type of its own result."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(1, 2, 3, padding=1)

    def forward(self, inputs):
        image = inputs["image"] if isinstance(inputs, dict) else inputs
        result = self.convolution(image)
        self.dtype = result.dtype
        return {"result": result, "count": torch.tensor(3)} if isinstance(inputs, dict) else result


IMAGE = torch.rand(1, 1, 16, 16)


def test_bfloat16_is_used_inside_and_float32_comes_back():
    network = Recorder()
    result = AutocastInferer(dtype="bfloat16")(IMAGE, network)
    assert network.dtype == torch.bfloat16
    assert result.dtype == torch.float32
    torch.testing.assert_close(result, network(IMAGE), atol=0.02, rtol=0.02)  # bfloat16 has 8 bits of mantissa


def test_without_a_dtype_the_result_is_that_of_the_network():
    network = Recorder()
    assert torch.equal(AutocastInferer()(IMAGE, network), network(IMAGE))
    assert network.dtype == torch.float32


def test_dictionaries_are_converted_item_by_item_and_integers_kept():
    result = AutocastInferer(dtype="bfloat16")({"image": IMAGE}, Recorder())
    assert result["result"].dtype == torch.float32
    assert result["count"].dtype == torch.int64


def test_another_inferer_is_called_inside():
    network = Recorder()
    inferer = AutocastInferer(SlidingWindowInferer(roi_size=(8, 8), overlap=0), dtype="bfloat16")
    assert inferer(IMAGE, network).shape == (1, 2, 16, 16)
    assert network.dtype == torch.bfloat16


def test_a_meta_tensor_is_taken():
    assert AutocastInferer(dtype="bfloat16")(MetaTensor(IMAGE), Recorder()).dtype == torch.float32


def test_gradients_flow_to_float32_weights():
    network = Recorder()
    AutocastInferer(dtype="bfloat16")(IMAGE, network).sum().backward()
    assert network.convolution.weight.grad.dtype == torch.float32


def test_an_unknown_type_is_named():
    with pytest.raises(ValueError, match="got 'half'"):
        AutocastInferer(dtype="half")


def test_float16_is_refused_in_training():
    with pytest.raises(ValueError, match="inference only"):
        AutocastInferer(dtype="float16")(IMAGE, Recorder())
