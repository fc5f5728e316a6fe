import math

import pytest
import torch

from cmunet_monai.methods import PriorSegmentor
from cmunet_monai.networks import UNet, load_unet_weights

CHANNELS = (4, 8)


def make_method():
    torch.manual_seed(0)
    return PriorSegmentor(UNet(out_channels=1, channels=CHANNELS))


def test_the_segmentor_of_the_overlay_has_a_quarter_of_a_million_parameters_all_trained():
    method = PriorSegmentor(UNet(out_channels=1, channels=(12, 24, 48, 96)))
    assert sum(parameter.numel() for parameter in method.parameters() if parameter.requires_grad) == 272_221


def test_the_loss_is_half_cross_entropy_and_half_dice():
    method = make_method().eval()
    torch.nn.init.zeros_(method.network.head.weight)
    torch.nn.init.zeros_(method.network.head.bias)
    prior = torch.zeros(1, 1, 4, 4)
    prior[..., :2] = 0.7  # enlarged masks are soft
    losses = method({"image": torch.randn(1, 1, 4, 4), "prior": prior})
    # probability 1/2 everywhere, 8 of 16 pixels vessel: overlap 4 of (8 + 8) / 2
    assert losses["cross_entropy"].item() == pytest.approx(math.log(2))
    assert losses["dice_loss"].item() == pytest.approx(0.5, abs=1e-5)
    assert losses["loss"].item() == pytest.approx(0.5 * math.log(2) + 0.25, abs=1e-5)


def test_an_image_without_vessels_has_a_finite_loss():
    losses = make_method()({"image": torch.randn(2, 1, 8, 8), "prior": torch.zeros(2, 1, 8, 8)})
    assert torch.isfinite(losses["loss"])


def test_the_loss_falls_on_one_batch(train_on):
    method = make_method()
    image = torch.randn(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    views = {"image": image, "prior": (image < -1).float()}
    losses = train_on(method, views, learning_rate=1e-2, steps=60)
    assert losses[-1] < 0.5 * losses[0]


def test_a_network_of_two_outputs_is_named():
    with pytest.raises(ValueError, match="`network` must have 1 output channel, got 2"):
        PriorSegmentor(UNet(channels=CHANNELS))


def test_the_overlay_gives_encoder_decoder_and_head(tiny_pretraining, tmp_path):
    tiny_pretraining.run(tmp_path, "methods/vaso_mim_segmentor.json")
    report = load_unet_weights(UNet(out_channels=1, channels=tiny_pretraining.channels), tmp_path / "unet.safetensors")
    assert (report.skipped, report.missing) == ((), ())
    assert (tmp_path / "reconstructions" / "reconstruction_epoch_0001.png").is_file()
