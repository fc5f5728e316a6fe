import json
import math

import pytest
import torch

from cmunet_monai.methods import PaintedArteries
from cmunet_monai.networks import UNet, load_unet_weights
from data_prep.__main__ import main


@pytest.fixture(scope="module")
def bank(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bank")
    assert main(["trees", "--output", str(folder), "--trees", "3", "--size", "64"]) == 0
    return folder


def make_views(batch=4):
    """Noise of 32 x 32 with a dark bar in each frame, which is its mask."""
    generator = torch.Generator().manual_seed(0)
    label = torch.zeros(batch, 1, 32, 32)
    for number in range(batch):
        label[number, 0, 4:28, 4 + 5 * number : 8 + 5 * number] = 1
    return {"image": torch.randn(batch, 1, 32, 32, generator=generator) - 3 * label, "label": label}


def make_method():
    torch.manual_seed(0)
    return PaintedArteries(UNet(channels=(4, 8, 16)))


def test_the_whole_network_is_trained_and_nothing_else():
    with torch.device("meta"):
        method = PaintedArteries(UNet())
    assert sum(p.numel() for p in method.parameters() if p.requires_grad) == 31_042_434
    assert method.transferred == ("encoder", "decoder", "head")


def test_a_network_that_says_one_half_everywhere_has_the_loss_by_hand():
    method = make_method()
    torch.nn.init.zeros_(method.network.head.weight)
    torch.nn.init.zeros_(method.network.head.bias)
    views = make_views()
    artery, pixels = 24 * 4, 32 * 32
    dice = 1 - (2 * 0.5 * artery) / (0.5 * pixels + artery)  # the same in each frame
    assert method(views)["loss"].item() == pytest.approx(dice + math.log(2), rel=1e-4)


def test_every_parameter_has_a_gradient():
    method = make_method()
    method(make_views())["loss"].backward()
    assert all(parameter.grad is not None for parameter in method.parameters())


def test_the_loss_falls_on_one_batch_and_the_bars_are_found(train_on):
    method, views = make_method(), make_views()
    losses = train_on(method, views, learning_rate=1e-2, steps=60)
    assert losses[-1] < 0.3 * losses[0]
    found = method.network(views["image"]).argmax(1, keepdim=True)
    assert (found == views["label"]).float().mean() > 0.97


def test_pictures_show_mask_and_probability_in_the_range_of_the_image():
    method, views = make_method(), make_views(1)
    views["image"][0, 0, 0, :2] = torch.tensor([-10.0, 30.0])
    torch.nn.init.zeros_(method.network.head.weight)
    torch.nn.init.zeros_(method.network.head.bias)
    pictures = method.reconstruct(views)
    assert pictures.masked.unique().tolist() == [-10, 30]
    assert pictures.reconstruction.unique().tolist() == pytest.approx([10])
    assert pictures.titles == ("painted frame", "painted arteries", "found")


@pytest.mark.parametrize(
    "overlays", [("methods/painted_arteries.json",), ("compact.json", "methods/painted_arteries.json")]
)
def test_the_overlay_gives_a_whole_network_that_segments(tiny_pretraining, tmp_path, bank, overlays):
    tiny_pretraining.run(tmp_path, *overlays, bank_dir=str(bank))
    report = load_unet_weights(UNet(channels=tiny_pretraining.channels), tmp_path / "unet.safetensors")
    assert report.skipped == report.missing == ()
    facts = json.loads((tmp_path / "unet.json").read_text())
    assert (facts["method"], facts["parts"]) == ("PaintedArteries", ["encoder", "decoder", "head"])
    assert (tmp_path / "reconstructions" / "reconstruction_epoch_0001.png").is_file()
    settings = torch.load(tmp_path / "checkpoint.pt", weights_only=True)["settings"]
    assert (settings["synthetic_share"], settings["erased_share"], len(settings["bank_sha256"])) == (0.25, 0.12, 64)
