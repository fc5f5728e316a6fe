import csv
import math

import pytest
import torch

from cmunet_monai.methods import CMUNet
from cmunet_monai.methods.base import hide
from cmunet_monai.networks import UNet, load_unet_weights, save_unet_weights

CHANNELS = (4, 8, 16)


def make_views(batch=4, size=32, patch=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    side = size // patch
    mask = torch.zeros(batch, side * side, dtype=torch.bool)
    for row in mask:
        row[torch.randperm(side * side, generator=generator)[:8]] = True
    return {
        "view_a": torch.randn(batch, 1, size, size, generator=generator),
        "view_b": torch.randn(batch, 1, size, size, generator=generator),
        "mask": mask.view(batch, 1, side, side),
    }


def make_method(embedding="pooled", **settings):
    torch.manual_seed(0)
    settings = {"patch_size": 8, "hidden_features": 16, "embedding_features": 8, "image_size": (32, 32)} | settings
    return CMUNet(UNet(channels=CHANNELS), embedding=embedding, **settings)


def trainable(method):
    return sum(parameter.numel() for parameter in method.parameters() if parameter.requires_grad)


def test_published_variant_has_the_published_parameter_count():
    with torch.device("meta"):
        assert trainable(CMUNet(UNet(), embedding="flattened", head_channels=2)) == 121_494_084
        assert trainable(CMUNet(UNet(), embedding="flattened", head_channels=1)) == 121_493_954


def test_the_adapter_is_frozen_unless_asked_and_reaches_the_flattened_length():
    method = make_method("flattened")
    assert method.adapter.weight.shape == (16, 16, 1, 1)  # 4 * 4 = 16 channels of 8 x 8 are the 1024 values of 32 x 32
    assert not any(parameter.requires_grad for parameter in method.adapter.parameters())
    trained = make_method("flattened", train_adapter=True)
    trained(make_views())["loss"].backward()
    assert trained.adapter.weight.grad.abs().sum() > 0
    assert all(p.grad is None for p in trained.momentum_encoder.parameters())


def test_both_flattened_embeddings_have_the_same_coordinates():
    """What the momentum encoder sees at one position of its bottleneck lies at that position's pixels."""
    method = make_method("flattened")
    bottleneck = torch.zeros(1, 16, 8, 8)
    bottleneck[..., 2, 3] = 1.0

    class Encoder(torch.nn.Module):
        def forward(self, view):
            return [bottleneck]

    method.momentum_encoder = Encoder()
    torch.nn.init.zeros_(method.adapter.bias)
    lit = method._momentum_embedding(torch.zeros(1, 1, 32, 32)).view(32, 32) != 0
    assert lit[8:12, 12:16].all()
    assert lit.sum() == 16


def test_the_adapter_is_the_same_in_every_forward_pass():
    method = make_method("flattened").eval()
    views = make_views()
    assert torch.equal(method(views)["contrast"], method(views)["contrast"])


@pytest.mark.parametrize("embedding", ["pooled", "flattened"])
def test_no_gradient_reaches_the_momentum_branch(embedding):
    method = make_method(embedding)
    method(make_views())["loss"].backward()
    for module in (method.momentum_encoder, method.momentum_projector):
        assert all(parameter.grad is None for parameter in module.parameters())
    for module in (method.network.encoder, method.network.decoder, method.projector, method.predictor):
        assert all(parameter.grad is not None for parameter in module.parameters())


def test_momentum_moves_by_its_complement_after_a_step():
    method = make_method(momentum=0.75)
    with torch.no_grad():
        for parameter in method.network.encoder.parameters():
            parameter.fill_(4.0)
        for parameter in method.momentum_encoder.parameters():
            parameter.fill_(0.0)
    method.after_step()
    assert all(torch.equal(p, torch.full_like(p, 1.0)) for p in method.momentum_encoder.parameters())


def test_momentum_branch_starts_as_a_copy_and_shares_nothing():
    method = make_method()
    for online, average in zip(method.network.encoder.parameters(), method.momentum_encoder.parameters(), strict=True):
        assert torch.equal(online, average)
        assert online.data_ptr() != average.data_ptr()


def test_momentum_branch_normalises_with_its_own_batch():
    method = make_method().train()
    views = make_views()
    first = method._momentum_embedding(views["view_b"])
    for buffer in method.momentum_encoder.buffers():
        if buffer.is_floating_point():
            buffer.add_(100.0)
    assert torch.equal(method._momentum_embedding(views["view_b"]), first)


def test_lambda_c_weighs_the_contrast():
    views = make_views()
    losses = make_method(lambda_c=0.25)(views)
    torch.testing.assert_close(losses["loss"], losses["reconstruction"] + 0.25 * losses["contrast"])


def test_the_encoder_never_sees_hidden_pixels():
    method = make_method().eval()
    views = make_views()
    changed = dict(views)
    hidden = views["mask"].repeat_interleave(8, -2).repeat_interleave(8, -1)
    changed["view_a"] = torch.where(hidden, 1000.0, views["view_a"])
    assert torch.equal(method(views)["contrast"], method(changed)["contrast"])


def test_hide_sets_each_image_own_patches_to_zero():
    image = torch.ones(2, 1, 4, 4)
    mask = torch.tensor([[[[True, False], [False, False]]], [[[False, False], [False, True]]]])
    assert hide(image, mask, 2)[0, 0].tolist() == [[0, 0, 1, 1], [0, 0, 1, 1], [1, 1, 1, 1], [1, 1, 1, 1]]
    assert hide(image, mask, 2)[1, 0].tolist() == [[1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 0, 0]]


def test_two_channel_heads_reconstruct_with_the_last_channel():
    method = make_method(head_channels=2, normalise_targets=False).eval()
    with torch.no_grad():
        method.pixel_head.weight.zero_()
        method.pixel_head.bias.copy_(torch.tensor([50.0, 3.0]))
    views = make_views()
    pictures = method.reconstruct(views)
    hidden = views["mask"].repeat_interleave(8, -2).repeat_interleave(8, -1)
    torch.testing.assert_close(pictures.reconstruction, torch.where(hidden, 3.0, views["view_a"]))


def test_a_perfect_normalised_reconstruction_is_shown_in_each_patch_own_scale():
    method = make_method().eval()
    views = make_views()
    patches = views["view_a"].reshape(4, 1, 4, 8, 4, 8)
    variance, mean = torch.var_mean(patches, dim=(3, 5), keepdim=True)
    method._pixels = lambda _: ((patches - mean) / variance.sqrt()).reshape(4, 1, 32, 32)
    torch.testing.assert_close(method.reconstruct(views).reconstruction, views["view_a"], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("embedding", ["pooled", "flattened"])
def test_the_loss_falls_on_one_batch(embedding, train_on):
    method = make_method(embedding)
    views = make_views()
    losses = train_on(method, views, learning_rate=3e-3, steps=40)
    assert losses[-1] < 0.6 * losses[0]


def test_transferred_weights_match_every_key_but_the_head(tmp_path):
    method = make_method("flattened")
    save_unet_weights(method.network, tmp_path / "unet.safetensors", parts=method.transferred)
    report = load_unet_weights(UNet(channels=CHANNELS), tmp_path / "unet.safetensors")
    assert report.skipped == ()
    assert set(report.missing) == {"head.weight", "head.bias"}


def test_settings_that_cannot_work_are_named():
    with pytest.raises(ValueError, match="'pooled' or 'flattened', got 'mean'"):
        make_method("mean")
    with pytest.raises(ValueError, match=r"multiples of 4.*got \(30, 32\)"):
        make_method("flattened", image_size=(30, 32))


def test_the_prior_is_a_second_target_of_the_masked_branch():
    views = make_views()
    with pytest.raises(KeyError, match="view_a_prior"):
        make_method(lambda_prior=0.5)(views)
    views["view_a_prior"] = torch.zeros_like(views["view_a"])
    method = make_method(lambda_prior=0.5)
    torch.nn.init.zeros_(method.prior_head.weight)
    torch.nn.init.zeros_(method.prior_head.bias)
    losses = method(views)
    assert losses["prior"].item() == pytest.approx(math.log(2))
    torch.testing.assert_close(losses["loss"], losses["reconstruction"] + losses["contrast"] + 0.5 * losses["prior"])


def test_a_prior_changes_neither_start_nor_other_losses():
    views = make_views()
    plain, with_prior = make_method(), make_method(lambda_prior=1.0)
    views["view_a_prior"] = torch.zeros_like(views["view_a"])
    state = with_prior.state_dict()
    assert set(state) - set(plain.state_dict()) == {"prior_head.weight", "prior_head.bias"}
    assert all(torch.equal(value, state[name]) for name, value in plain.state_dict().items())
    first, second = plain(views), with_prior(views)
    assert torch.equal(first["reconstruction"], second["reconstruction"])
    assert torch.equal(first["contrast"], second["contrast"])


def test_without_contrast_there_is_no_momentum_branch():
    views = make_views()
    method = make_method("flattened", lambda_c=0.0)
    assert {name.split(".")[0] for name, _ in method.named_parameters()} == {"network", "pixel_head"}
    losses = method({name: views[name] for name in ("view_a", "mask")})
    assert set(losses) == {"loss", "reconstruction"}
    assert torch.equal(losses["loss"], make_method()(views)["reconstruction"])
    method.after_step()
    assert method.transferred == ("encoder", "decoder")


@pytest.mark.parametrize("embedding", ["pooled", "flattened"])
def test_without_reconstruction_the_decoder_is_frozen_and_not_transferred(embedding):
    method = make_method(embedding, lambda_r=0.0)
    views = make_views()
    losses = method(views)
    assert set(losses) == {"loss", "contrast"}
    losses["loss"].backward()
    for name, parameter in method.named_parameters():
        trained = not name.startswith(("network.decoder", "network.head", "momentum", "adapter"))
        assert (parameter.grad is not None) == parameter.requires_grad == trained, name
    assert method.transferred == ("encoder",)
    assert method.reconstruct(views) is None


def test_the_prior_alone_trains_and_transfers_the_decoder():
    method = make_method(lambda_r=0.0, lambda_c=0.0, lambda_prior=1.0)
    views = make_views()
    views["view_a_prior"] = torch.zeros_like(views["view_a"])
    assert set(method(views)) == {"loss", "prior"}
    assert method.transferred == ("encoder", "decoder")


def test_no_loss_at_all_is_an_error():
    with pytest.raises(ValueError, match="one of `lambda_r`, `lambda_c` and `lambda_prior` must be above 0"):
        make_method(lambda_r=0.0, lambda_c=0.0)


@pytest.mark.parametrize(
    "overlays,parts,losses",
    [
        (("compact.json", "methods/cm_unet_prior.json"), "encoder decoder", "reconstruction prior contrast"),
        (("methods/cm_unet_prior.json",), "encoder decoder", "reconstruction prior contrast"),
        (("methods/cm_unet_reconstruction_only.json",), "encoder decoder", "reconstruction"),
        (("compact.json", "methods/cm_unet_contrast_only.json"), "encoder", "contrast"),
        (("methods/cm_unet_contrast_only.json",), "encoder", "contrast"),
        (("methods/cm_unet_pooled.json",), "encoder decoder", "reconstruction contrast"),
        (("compact.json", "methods/cm_unet_raw_targets.json"), "encoder decoder", "reconstruction contrast"),
    ],
)
def test_each_overlay_trains_its_losses_and_transfers_its_parts(tiny_pretraining, tmp_path, overlays, parts, losses):
    tiny_pretraining.run(tmp_path, *overlays)
    network = UNet(channels=tiny_pretraining.channels)
    report = load_unet_weights(network, tmp_path / "unet.safetensors")
    assert report.skipped == ()
    assert {key.split(".")[0] for key in report.missing} == {"encoder", "decoder", "head"} - set(parts.split())
    with (tmp_path / "training.csv").open() as file:
        columns = next(csv.reader(file))
    assert columns[2 : columns.index("learning_rate")] == losses.split()
