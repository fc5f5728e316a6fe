import json
import math

import pytest
import torch

from cmunet_monai.methods import VesselPrior
from cmunet_monai.networks import UNet, load_unet_weights


def make_views(batch=4):
    """Frames of 32 x 32 with 6 of 16 patches hidden, other ones in each frame, and a prior of zeros and ones."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.stack([torch.randperm(16, generator=generator) < 6 for _ in range(batch)])
    image = torch.randn(batch, 1, 32, 32, generator=generator)
    return {"image": image, "prior": (image < -1).float(), "mask": hidden.view(batch, 1, 4, 4)}


def make_method(**settings):
    torch.manual_seed(0)
    return VesselPrior(UNet(channels=(4, 8, 16)), **{"patch_size": 8} | settings)


def certain(probability):
    """A method that predicts one probability for every pixel."""
    method = make_method().eval()
    torch.nn.init.zeros_(method.prior_head.weight)
    torch.nn.init.constant_(method.prior_head.bias, math.log(probability / (1 - probability)))
    return method


def test_encoder_decoder_and_a_one_channel_head_are_trained():
    with torch.device("meta"):
        method = VesselPrior(UNet())
    # the UNet without its head of 130, and a 1x1 head of 64 weights and a bias
    assert sum(p.numel() for p in method.parameters() if p.requires_grad) == 31_042_434 - 130 + 65


def test_all_pixels_count_hidden_or_not():
    views = make_views()
    views["prior"] = torch.zeros_like(views["image"])
    views["prior"][..., :8] = 1.0  # a quarter of the pixels, each of weight 10
    expected = (10 * 0.25 * math.log(4) + 0.75 * math.log(4 / 3)) / (10 * 0.25 + 0.75)
    assert certain(0.25)(views)["loss"].item() == pytest.approx(expected)


def test_the_network_sees_visible_pixels_only():
    method = make_method().eval()
    views = make_views()
    hidden = views["mask"].repeat_interleave(8, -2).repeat_interleave(8, -1)
    first = method(views)["loss"]
    assert torch.equal(method(views | {"image": torch.where(hidden, 1000.0, views["image"])})["loss"], first)
    assert not torch.equal(method(views | {"image": torch.where(hidden, views["image"], 0.0)})["loss"], first)


def test_pictures_show_the_response_in_the_range_of_the_image():
    views = make_views(1)
    views["image"][0, 0, 0, :2] = torch.tensor([-10.0, 30.0])
    views["mask"][:] = False
    pictures = certain(0.25).reconstruct(views)
    assert pictures.reconstruction.unique().tolist() == pytest.approx([0.0])  # a quarter of the way from -10 to 30
    assert torch.equal(pictures.masked, views["image"])


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


@pytest.mark.parametrize("overlays", [("methods/vessel_prior.json",), ("compact.json", "methods/vessel_prior.json")])
def test_the_overlay_gives_an_encoder_and_a_decoder_that_fine_tuning_takes(tiny_pretraining, tmp_path, overlays):
    tiny_pretraining.run(tmp_path, *overlays)
    report = load_unet_weights(UNet(channels=tiny_pretraining.channels), tmp_path / "unet.safetensors")
    assert report.skipped == ()
    assert set(report.missing) == {"head.weight", "head.bias"}
    assert json.loads((tmp_path / "unet.json").read_text())["method"] == "VesselPrior"
    assert (tmp_path / "reconstructions" / "reconstruction_epoch_0001.png").is_file()
    assert len(list((tmp_path / "priors").iterdir())) == 10
    settings = torch.load(tmp_path / "checkpoint.pt", weights_only=True)["settings"]
    assert (settings["mask_ratio"], settings["vessel_weight"]) == (0.4, 9.0)
