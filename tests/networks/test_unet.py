import pytest
import torch
from torch import nn

from cmunet_monai.networks import ProjectionHead, UNet


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_default_unet_has_the_published_parameter_counts():
    network = UNet()
    assert count(network.encoder) == 18_849_984
    assert count(network.decoder) == 12_192_320
    assert count(network.head) == 130
    assert count(network) == 31_042_434


def test_projection_heads_have_the_published_parameter_counts():
    assert count(ProjectionHead(224 * 224)) == 77_468_160
    assert count(ProjectionHead(256)) == 791_040


@pytest.mark.parametrize("size", [(1, 1), (37, 50), (16, 16), (33, 8)])
def test_any_height_and_width_keep_their_geometry(size):
    network = UNet(channels=(2, 4, 8))
    assert network(torch.zeros(2, 1, *size)).shape == (2, 2, *size)


def test_padding_inside_does_not_change_a_frame_of_fitting_size():
    network = UNet(channels=(2, 4)).eval()
    image = torch.randn(1, 1, 8, 8)
    assert torch.equal(network(image), network.head(network.decoder(network.encoder(image))))


def test_one_stage_of_each_path_is_what_the_contract_says():
    network = UNet(channels=(2, 4))
    kinds = [type(layer) for layer in network.encoder.stages[0]]
    assert kinds == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU] * 2
    assert network.encoder.stages[0][0].bias is not None
    assert isinstance(network.decoder.ups[0], nn.ConvTranspose2d)
    assert network.decoder.stages[0][0].in_channels == 4


def test_decoder_concatenates_upsampled_before_skip():
    decoder = UNet(channels=(1, 2)).decoder.eval()
    with torch.no_grad():
        decoder.ups[0].weight.zero_()
        decoder.ups[0].bias.fill_(5.0)
        seen = {}
        decoder.stages[0].register_forward_pre_hook(lambda _, inputs: seen.update(image=inputs[0]))
        decoder([torch.full((1, 1, 2, 2), 7.0), torch.zeros(1, 2, 1, 1)])
    assert seen["image"][0, :, 0, 0].tolist() == [5.0, 7.0]


def test_wrong_channels_and_wrong_shapes_are_named():
    with pytest.raises(ValueError, match=r"must be \(B, 1, H, W\), got \(1, 3, 16, 16\)"):
        UNet(channels=(2, 4))(torch.zeros(1, 3, 16, 16))
    with pytest.raises(ValueError, match="two or more"):
        UNet(channels=(8,))
