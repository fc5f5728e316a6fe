import json

import pytest
import torch

from cmunet_monai.methods import MaskedAutoencoder
from cmunet_monai.networks import UNet, load_unet_weights

CHANNELS = (4, 8, 16)


def make_views(batch=4):
    """Frames of 32 x 32 with 12 of 16 patches hidden, other ones in each frame."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.stack([torch.randperm(16, generator=generator) < 12 for _ in range(batch)])
    return {"image": torch.randn(batch, 1, 32, 32, generator=generator), "mask": hidden.view(batch, 1, 4, 4)}


def make_method(**settings):
    torch.manual_seed(0)
    return MaskedAutoencoder(UNet(channels=CHANNELS), **{"patch_size": 8} | settings)


def constant_reconstruction(value, **settings):
    """A method that gives `value` for every pixel."""
    method = make_method(**settings).eval()
    torch.nn.init.zeros_(method.pixel_head.weight)
    torch.nn.init.constant_(method.pixel_head.bias, value)
    return method


def one_hidden_patch():
    """A frame of 4 x 4 whose upper left 2 x 2 patch, 10 and 30, is hidden; elsewhere 100."""
    image = torch.full((1, 1, 4, 4), 100.0)
    image[..., :2, :2] = torch.tensor([[10.0, 30.0], [30.0, 10.0]])
    return {"image": image, "mask": torch.tensor([[True, False], [False, False]]).view(1, 1, 2, 2)}


def test_encoder_decoder_and_a_one_channel_head_are_trained():
    with torch.device("meta"):
        method = MaskedAutoencoder(UNet())
    # the UNet without its head of 130, and a 1x1 head of 64 weights and a bias
    assert sum(p.numel() for p in method.parameters() if p.requires_grad) == 31_042_434 - 130 + 65


def test_the_loss_is_the_mean_square_over_hidden_pixels():
    method = constant_reconstruction(13.0, patch_size=2, normalise_targets=False)
    assert method(one_hidden_patch())["loss"].item() == (3**2 + 17**2) / 2


def test_targets_are_normalised_by_their_own_patch():
    # values 10, 30, 30, 10: mean 20, unbiased variance 400 / 3, so that each normalised value squared is 3 / 4
    method = constant_reconstruction(0.0, patch_size=2)
    assert method(one_hidden_patch())["loss"].item() == pytest.approx(0.75)


def test_the_network_sees_visible_pixels_only():
    method = make_method(normalise_targets=False).eval()
    views = make_views()
    hidden = views["mask"].repeat_interleave(8, -2).repeat_interleave(8, -1)
    first = method.reconstruct(views).reconstruction
    other_hidden = views | {"image": torch.where(hidden, 1000.0, views["image"])}
    assert torch.equal(method.reconstruct(other_hidden).reconstruction, first)
    other_visible = views | {"image": torch.where(hidden, views["image"], 0.0)}
    assert not torch.equal(method.reconstruct(other_visible).reconstruction[hidden], first[hidden])


def test_pictures_show_zeros_where_the_network_sees_nothing_and_its_values_there():
    views = one_hidden_patch()
    pictures = constant_reconstruction(13.0, patch_size=2, normalise_targets=False).reconstruct(views)
    assert pictures.image is views["image"]
    assert pictures.masked[0, 0].tolist() == [[0, 0, 100, 100]] * 2 + [[100] * 4] * 2
    assert pictures.reconstruction[0, 0].tolist() == [[13, 13, 100, 100]] * 2 + [[100] * 4] * 2


def test_normalised_reconstructions_are_shown_in_the_scale_of_their_patch():
    pictures = constant_reconstruction(3.0, patch_size=2).reconstruct(one_hidden_patch())
    assert pictures.reconstruction[0, 0, 0].tolist() == pytest.approx([20 + 3 * (400 / 3) ** 0.5] * 2 + [100] * 2)


def test_every_trained_parameter_has_a_gradient():
    method = make_method()
    method(make_views())["loss"].backward()
    for name, parameter in method.named_parameters():
        assert (parameter.grad is not None) == (not name.startswith("network.head")), name


def test_the_loss_falls_on_one_batch(train_on):
    method = make_method()
    views = make_views()
    losses = train_on(method, views, learning_rate=1e-2, steps=60)
    assert losses[-1] < 0.6 * losses[0]


def test_the_overlay_gives_an_encoder_and_a_decoder_that_fine_tuning_takes(tiny_pretraining, tmp_path):
    tiny_pretraining.run(tmp_path, "compact.json", "methods/mae.json")
    report = load_unet_weights(UNet(channels=tiny_pretraining.channels), tmp_path / "unet.safetensors")
    assert report.skipped == ()
    assert set(report.missing) == {"head.weight", "head.bias"}
    assert json.loads((tmp_path / "unet.json").read_text())["method"] == "MaskedAutoencoder"
    assert (tmp_path / "reconstructions" / "reconstruction_epoch_0001.png").is_file()
    settings = torch.load(tmp_path / "checkpoint.pt", weights_only=True)["settings"]
    assert settings["mask_ratio"] == 0.75
