import pytest
import torch
from monai.bundle import ConfigParser

from cmunet_monai.engines import adamw
from cmunet_monai.methods import SparK
from cmunet_monai.methods.spark import densify
from cmunet_monai.networks import UNet, load_unet_weights, save_unet_weights

CHANNELS = (4, 8, 16)


def make_views(batch=4, size=32, patch=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    side = size // patch
    mask = torch.zeros(batch, side * side, dtype=torch.bool)
    for row in mask:
        row[torch.randperm(side * side, generator=generator)[:9]] = True
    return {
        "image": torch.randn(batch, 1, size, size, generator=generator),
        "mask": mask.view(batch, 1, side, side),
    }


def make_method(**settings):
    torch.manual_seed(0)
    return SparK(UNet(channels=CHANNELS), **{"patch_size": 8} | settings)


def pixels(mask, side=8):
    return mask.repeat_interleave(side, -2).repeat_interleave(side, -1)


def test_the_published_parameter_count_is_ours_and_convolutions_that_no_unet_decoder_takes():
    with torch.device("meta"):
        method = SparK(UNet())
    ours = sum(parameter.numel() for parameter in method.parameters() if parameter.requires_grad)
    unet, tokens = 18_849_984 + 12_192_320 + (64 + 1), 64 + 128 + 256 + 512 + 1024
    assert (unet, tokens) == (31_042_369, 1_984)
    assert ours == unet + tokens
    # for SparK's own decoder of 768 channels: 1x1 at the bottleneck, 3x3 at each skip, with biases
    skips = ((512, 384), (256, 192), (128, 96), (64, 48))
    densifying = (1024 * 768 + 768) + sum(9 * skip * width + width for skip, width in skips)
    assert densifying == 3_138_000
    assert ours + densifying == 34_182_353


def test_tokens_fill_exactly_the_hidden_positions_at_every_scale():
    mask = torch.tensor([[[[True, False], [False, False]]], [[[False, False], [False, True]]]])
    features = [torch.full((2, 2, 4, 4), 5.0), torch.full((2, 3, 2, 2), 7.0)]
    dense = densify(features, mask, [torch.tensor([1.0, 2.0]), torch.tensor([-1.0, -2.0, -3.0])])
    assert dense[0][0, 0].tolist() == [[1, 1, 5, 5], [1, 1, 5, 5], [5, 5, 5, 5], [5, 5, 5, 5]]
    assert dense[0][1, 1].tolist() == [[5, 5, 5, 5], [5, 5, 5, 5], [5, 5, 2, 2], [5, 5, 2, 2]]
    assert [dense[1][0, channel].tolist() for channel in range(3)] == [[[v, 7], [7, 7]] for v in (-1, -2, -3)]
    assert features[0].min() == 5


def test_tokens_start_small_learn_and_are_not_decayed():
    method = make_method()
    assert [token.shape for token in method.mask_tokens] == [(4,), (8,), (16,)]
    assert all(0 < token.abs().max() <= 0.02 for token in method.mask_tokens)
    method(make_views())["loss"].backward()
    assert all((token.grad != 0).all() for token in method.mask_tokens)
    *_, undecayed = adamw(method, learning_rate=1e-3).param_groups
    assert undecayed["weight_decay"] == 0
    assert {id(token) for token in method.mask_tokens} <= {id(parameter) for parameter in undecayed["params"]}


@pytest.mark.parametrize("training", [True, False])
def test_hidden_pixels_are_only_a_target(training):
    first, second = make_method().train(training), make_method().train(training)
    views = make_views()
    changed = views | {"image": torch.where(pixels(views["mask"]), torch.nan, views["image"])}
    assert torch.equal(first._pixels(**views), second._pixels(**changed))
    for ours, theirs in zip(first.buffers(), second.buffers(), strict=True):
        assert torch.equal(ours, theirs)


def test_the_loss_sees_hidden_pixels_only():
    method = make_method()
    views = make_views()
    reconstructed = method._pixels(**views).detach().requires_grad_()
    method._pixels = lambda *_: reconstructed
    method(views)["loss"].backward()
    assert torch.equal(reconstructed.grad != 0, pixels(views["mask"]))


def test_batch_norm_of_the_encoder_is_left_as_fine_tuning_needs_it():
    method = make_method()
    method(make_views())
    buffers = dict(method.network.encoder.named_buffers())
    assert all(value == 1 for name, value in buffers.items() if name.endswith("num_batches_tracked"))
    assert all((value != 0).all() for name, value in buffers.items() if name.endswith("running_mean"))


def test_pictures_keep_visible_pixels_and_show_the_reconstruction_in_the_others():
    method = make_method(normalise_targets=False).eval()
    with torch.no_grad():
        method.pixel_head.weight.zero_()
        method.pixel_head.bias.fill_(3.0)
    views = make_views()
    pictures = method.reconstruct(views)
    hidden = pixels(views["mask"])
    assert torch.equal(pictures.masked, torch.where(hidden, 0.0, views["image"]))
    assert torch.equal(pictures.reconstruction, torch.where(hidden, 3.0, views["image"]))


def test_the_loss_falls_on_one_batch(train_on):
    method = make_method()
    views = make_views()
    losses = train_on(method, views, learning_rate=3e-3, steps=60)
    assert losses[-1] < 0.8 * losses[0]


def test_transferred_weights_match_every_key_but_the_head(tmp_path):
    method = make_method()
    save_unet_weights(method.network, tmp_path / "unet.safetensors", parts=method.transferred)
    report = load_unet_weights(UNet(channels=CHANNELS), tmp_path / "unet.safetensors")
    assert report.skipped == ()
    assert set(report.missing) == {"head.weight", "head.bias"}


@pytest.mark.parametrize("patch_size", [0, 2, 6])
def test_a_patch_that_is_no_whole_number_of_bottleneck_positions_is_named(patch_size):
    with pytest.raises(ValueError, match=f"multiple of the UNet's divisor 4, got {patch_size}"):
        make_method(patch_size=patch_size)


@pytest.mark.parametrize("overlays", [("methods/spark.json",), ("compact.json", "methods/spark.json")])
def test_the_overlay_gives_weights_that_fine_tuning_takes(tiny_pretraining, tmp_path, overlays):
    tiny_pretraining.run(tmp_path, *overlays)
    report = load_unet_weights(UNet(channels=tiny_pretraining.channels), tmp_path / "unet.safetensors")
    assert report.skipped == ()
    assert set(report.missing) == {"head.weight", "head.bias"}
    assert (tmp_path / "reconstructions" / "reconstruction_epoch_0001.png").is_file()


def test_the_overlay_brings_its_rate_and_leaves_that_of_the_compact_one(tiny_pretraining):
    def settings(*overlays):
        parser = ConfigParser()
        parser.read_config(tiny_pretraining.configs(*overlays))
        return [parser.get_parsed_content(name) for name in ("learning_rate", "warmup_epochs", "mask_ratio")]

    assert settings("methods/spark.json") == [2e-4, 40, 0.6]  # batch 256
    assert settings("compact.json", "methods/spark.json") == [1e-3, 2, 0.6]
