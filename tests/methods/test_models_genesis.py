import csv

import pytest
import torch
from monai.bundle import ConfigParser

from cmunet_monai.methods import ModelsGenesis
from cmunet_monai.networks import UNet, load_unet_weights, save_unet_weights

CHANNELS = (4, 8, 16)
OVERLAY = "methods/models_genesis.json"


def make_views(size=32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    image = torch.randn(4, 1, size, size, generator=generator).cumsum(-1) / size**0.5
    return {"image": image, "distorted": -image + 0.1 * torch.randn(image.shape, generator=generator)}


def make_method():
    torch.manual_seed(0)
    return ModelsGenesis(UNet(channels=CHANNELS))


def restore_constant(method, value):
    with torch.no_grad():
        method.pixel_head.weight.zero_()
        method.pixel_head.bias.fill_(value)


def test_the_loss_is_the_squared_error_over_all_pixels():
    method = make_method()
    restore_constant(method, 3.0)
    views = {"image": torch.zeros(2, 1, 8, 8), "distorted": torch.randn(2, 1, 8, 8)}
    views["image"][1, 0, :4] = 7.0
    # three quarters of the pixels are 0, error 9; one quarter is 7, error 16: 6.75 + 4
    assert method(views)["loss"].item() == pytest.approx(10.75)


def test_the_network_sees_the_distorted_image_only():
    method = make_method().eval()
    views = make_views()
    other = {"image": views["image"] + 1000, "distorted": views["distorted"]}
    assert torch.equal(method.reconstruct(views).reconstruction, method.reconstruct(other).reconstruction)


def test_the_pictures_are_the_image_the_distorted_one_and_its_restoration():
    method = make_method().eval()
    restore_constant(method, 2.5)
    views = make_views()
    pictures = method.reconstruct(views)
    assert torch.equal(pictures.image, views["image"])
    assert torch.equal(pictures.masked, views["distorted"])
    assert torch.equal(pictures.reconstruction, torch.full((4, 1, 32, 32), 2.5))


def test_the_whole_network_but_its_segmentation_head_is_trained():
    method = make_method()
    method(make_views())["loss"].backward()
    idle = {name for name, parameter in method.named_parameters() if parameter.grad is None}
    assert idle == {"network.head.weight", "network.head.bias"}


def test_the_published_network_restores_one_channel():
    with torch.device("meta"):
        method = ModelsGenesis(UNet())
    trained = sum(parameter.numel() for parameter in method.parameters() if parameter.requires_grad)
    assert trained == 18_849_984 + 12_192_320 + 65  # encoder, decoder, 1x1 head of 64 weights and a bias


def test_the_loss_falls_on_one_batch():
    method = make_method()
    views = make_views()
    optimizer = torch.optim.SGD(method.parameters(), lr=0.1, momentum=0.9)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = method(views)["loss"]
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]


def test_transferred_weights_match_every_key_but_the_head(tmp_path):
    method = make_method()
    save_unet_weights(method.network, tmp_path / "unet.safetensors", parts=method.transferred)
    report = load_unet_weights(UNet(channels=CHANNELS), tmp_path / "unet.safetensors")
    assert report.skipped == ()
    assert set(report.missing) == {"head.weight", "head.bias"}


@pytest.mark.parametrize("overlays", [(OVERLAY,), ("compact.json", OVERLAY)])
def test_the_overlay_gives_weights_that_fine_tuning_takes(tiny_pretraining, tmp_path, overlays):
    tiny_pretraining.run(tmp_path, *overlays)
    report = load_unet_weights(UNet(channels=tiny_pretraining.channels), tmp_path / "unet.safetensors")
    assert report.skipped == ()
    assert set(report.missing) == {"head.weight", "head.bias"}
    assert (tmp_path / "reconstructions" / "reconstruction_epoch_0001.png").is_file()
    with (tmp_path / "training.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert float(row["loss"]) > 0


def configured(tiny_pretraining, tmp_path, **overrides):
    parser = ConfigParser()
    parser.read_config(tiny_pretraining.configs("compact.json", OVERLAY))
    parser.update(tiny_pretraining.settings(tmp_path, **overrides))
    return parser


def test_the_target_is_the_crop_before_its_distortion(tiny_pretraining, tmp_path):
    views = configured(tiny_pretraining, tmp_path).get_parsed_content("train#dataset")[0]
    assert set(views) == {"image", "distorted"}
    assert views["image"].shape == views["distorted"].shape == (1, 32, 32)
    plain = configured(tiny_pretraining, tmp_path, shuffle_prob=0, curve_prob=0, paint_prob=0)
    same = plain.get_parsed_content("train#dataset")[0]
    assert torch.equal(same["image"], views["image"])
    assert torch.equal(same["distorted"], same["image"])
    assert not torch.equal(views["distorted"], views["image"])


def test_the_rate_is_halved_six_times_in_equal_parts_of_the_run(tiny_pretraining, tmp_path):
    parser = configured(tiny_pretraining, tmp_path, max_epochs=13, learning_rate=0.64)
    optimizer, schedule = parser.get_parsed_content("optimizer"), parser.get_parsed_content("lr_schedule")
    rates = []
    for _ in range(26):  # 13 epochs of 2 batches: 4 steps at each rate, 2 at the last
        rates.append(round(optimizer.param_groups[0]["lr"], 4))
        optimizer.step()
        schedule.step()
    assert rates == [rate for rate in (0.64, 0.32, 0.16, 0.08, 0.04, 0.02, 0.01) for _ in range(4)][:26]
    assert optimizer.param_groups[0]["momentum"] == 0.9
