"""torch, tuned for inference."""

import pytest
import torch
from torch import nn

from cmunet_monai.inferers import torch_runtime
from cmunet_monai.inferers.torch_runtime import fold_batch_norms, tune_torch


def block():
    """A convolution that gives x, a BatchNorm of mean 1, variance 4, scale 3 and shift 5: 3 (x - 1) / 2 + 5."""
    convolution, norm = nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1, eps=0)
    with torch.no_grad():
        for tensor, value in (
            (convolution.weight, 1),
            (convolution.bias, 0),
            (norm.running_mean, 1),
            (norm.running_var, 4),
            (norm.weight, 3),
            (norm.bias, 5),
        ):
            tensor.fill_(value)
    return nn.Sequential(convolution, norm).eval()


def test_a_folded_convolution_has_the_weight_and_bias_worked_out_by_hand():
    """3 (x - 1) / 2 + 5 = 1.5 x + 3.5"""
    folded = fold_batch_norms(block())
    assert folded[0].weight.item() == pytest.approx(1.5)
    assert folded[0].bias.item() == pytest.approx(3.5)
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in folded.modules())


def test_folding_leaves_the_network_as_it_was():
    network = block()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    fold_batch_norms(network)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert network[0].weight.requires_grad


def test_a_batch_norm_that_follows_no_convolution_stays():
    network = nn.Sequential(nn.ReLU(), nn.BatchNorm2d(1)).eval()
    assert isinstance(fold_batch_norms(network)[1], nn.BatchNorm2d)


def test_bfloat16_is_used_where_the_processor_has_it(monkeypatch):
    monkeypatch.setattr(torch_runtime, "processor_has_bfloat16", lambda: True)
    run, dtype = tune_torch(block(), dtype="bfloat16")
    result = run(torch.full((1, 1, 2, 2), 1.01))
    assert (dtype, result.dtype) == ("bfloat16", torch.float32)
    # 1.01 lies between the bfloat16 numbers 1.0078125 and 1.015625: 1.5 * 1.0078125 + 3.5 rounds to 5.0 (steps of 1/32)
    assert torch.equal(result, torch.full((1, 1, 2, 2), 5.0))


def test_bfloat16_becomes_float32_where_the_processor_lacks_it(monkeypatch):
    monkeypatch.setattr(torch_runtime, "processor_has_bfloat16", lambda: False)
    run, dtype = tune_torch(block(), dtype="bfloat16")
    assert dtype == "float32"
    assert run(torch.full((1, 1, 2, 2), 1.01)).mean().item() == pytest.approx(5.015)
