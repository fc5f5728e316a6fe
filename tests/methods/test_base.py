import pytest
import torch
from torch import nn

from cmunet_monai.methods.base import fill_hidden, update_average


def one_hidden_patch():
    mask = torch.tensor([[True, False], [False, False]]).view(1, 1, 2, 2)
    return torch.full((1, 1, 4, 4), 5.0), mask


def test_only_hidden_patches_are_filled():
    image, mask = one_hidden_patch()
    filled = fill_hidden(image, torch.full_like(image, 9.0), mask, 2, normalised=False)
    assert filled[0, 0].tolist() == [[9, 9, 5, 5], [9, 9, 5, 5], [5, 5, 5, 5], [5, 5, 5, 5]]


def test_normalised_pixels_are_shown_in_the_scale_of_their_patch():
    image, mask = one_hidden_patch()
    image[..., :2, :2] = torch.tensor([[10.0, 30.0], [30.0, 10.0]])  # mean 20, unbiased variance 400 / 3
    filled = fill_hidden(image, torch.full_like(image, 3.0), mask, 2, normalised=True)
    assert filled[0, 0, 0].tolist() == pytest.approx([20 + 3 * (400 / 3) ** 0.5] * 2 + [5.0] * 2)


def test_filling_lets_the_gradient_of_hidden_pixels_through():
    image, mask = one_hidden_patch()
    pixels = torch.zeros_like(image, requires_grad=True)
    fill_hidden(image, pixels, mask, 2, normalised=False).sum().backward()
    assert pixels.grad[0, 0].tolist() == [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]


def test_an_average_moves_its_parameters_and_keeps_its_buffers():
    average, online = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
    nn.init.constant_(average.weight, 0.0)
    nn.init.constant_(online.weight, 4.0)
    online.running_mean.fill_(7.0)
    update_average(average, online, 0.75)
    assert average.weight.tolist() == [1.0, 1.0]
    assert average.running_mean.tolist() == [0.0, 0.0]
