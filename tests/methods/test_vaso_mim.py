import json
import math

import pytest
import torch
from torch import nn

from cmunet_monai.check import check_run, parse_arguments
from cmunet_monai.engines.handlers import SetMethodProgress
from cmunet_monai.methods import VasoMIM
from cmunet_monai.methods.vaso_mim import guided_mask
from cmunet_monai.networks import UNet, load_unet_weights, save_unet_weights

SEGMENTOR_CHANNELS = (4, 8)


@pytest.fixture(scope="module")
def segmentor_weights(tmp_path_factory):
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("segmentor") / "unet.safetensors"
    save_unet_weights(UNet(out_channels=1, channels=SEGMENTOR_CHANNELS), path)
    return path


@pytest.fixture
def make_method(segmentor_weights):
    def make(**settings):
        torch.manual_seed(0)
        defaults = {"segmentor_weights": segmentor_weights, "segmentor_channels": SEGMENTOR_CHANNELS, "patch_size": 8}
        return VasoMIM(UNet(channels=(4, 8, 16)), **defaults | settings)

    return make


def make_views(batch=4):
    """Frames of 32 x 32, 16 patches each; vessel in one column of patches."""
    generator = torch.Generator().manual_seed(0)
    prior = torch.zeros(batch, 1, 32, 32)
    prior[..., 10:14] = 1.0
    return {
        "image": torch.randn(batch, 1, 32, 32, generator=generator),
        "prior": prior,
        "draws": torch.rand(batch, 2, 4, 4, generator=generator),
    }


def many_draws(patches, number=20_000):
    return torch.rand(number, 2, *patches, generator=torch.Generator().manual_seed(0))


def seen_mask(method, views):
    return (method.reconstruct(views).masked == 0).unfold(-2, 8, 8).unfold(-2, 8, 8).all(dim=(-2, -1))


def linear_stand_in(slope):
    class Linear(nn.Module):
        def forward(self, image):
            return slope * image

    return Linear()


def test_without_guidance_the_largest_uniform_draws_are_hidden():
    draws = torch.zeros(1, 2, 2, 2)
    draws[0, 1] = torch.tensor([[0.1, 0.9], [0.4, 0.3]])
    guide = torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]])
    assert guided_mask(guide, draws, ratio=0.5, guided=0.0)[0, 0].tolist() == [[False, True], [True, False]]


def test_without_guidance_every_patch_is_hidden_equally_often():
    draws = many_draws((2, 4))
    guide = torch.arange(8.0).view(1, 1, 2, 4).expand(len(draws), -1, -1, -1)
    mask = guided_mask(guide, draws, ratio=0.5, guided=0.0)
    assert (mask.sum(dim=(1, 2, 3)) == 4).all()
    # the share of 20,000 draws at 1/2 has a standard deviation of 0.0035
    assert (mask.float().mean(dim=0) - 0.5).abs().max() < 0.018


def test_a_guide_on_few_patches_hides_them_and_the_rest_is_uniform():
    draws = many_draws((4, 4))
    guide = torch.zeros(len(draws), 1, 4, 4)
    guide[:, 0, 1, 1:3] = torch.tensor([0.001, 5.0])
    mask = guided_mask(guide, draws, ratio=0.5, guided=0.5)
    assert (mask.sum(dim=(1, 2, 3)) == 8).all()
    assert mask[:, 0, 1, 1:3].all()
    # the guide has two patches for its 4 of 8: the 6 others are any of the 14 left
    others = mask.float().mean(dim=0)[guide[:1, 0] == 0]
    assert (others - 6 / 14).abs().max() < 0.018


def test_the_guide_draws_as_many_as_its_share_of_the_hidden():
    draws = many_draws((4, 4), 200)
    guide = torch.zeros(len(draws), 1, 4, 4)
    guide[:, :, :2] = 1.0
    guide[:, :, 2:] = 1e-30  # never drawn before the others
    draws[:, 1, :2] = 0.0  # and the uniform draw never takes the upper half
    mask = guided_mask(guide, draws, ratio=0.5, guided=0.5)
    assert mask[:, 0, :2].sum(dim=(1, 2)).unique().tolist() == [4]
    assert mask[:, 0, 2:].sum(dim=(1, 2)).unique().tolist() == [4]


def test_patches_are_drawn_without_replacement_by_their_share():
    draws = many_draws((2, 2))
    guide = torch.tensor([1.0, 2.0, 3.0, 0.0]).view(1, 1, 2, 2).expand(len(draws), -1, -1, -1)
    mask = guided_mask(guide, draws, ratio=0.5, guided=1.0)
    # not the first: the second then the third, or the third then the second
    missed = 2 / 6 * 3 / 4 + 3 / 6 * 2 / 3
    assert mask[:, 0, 0, 0].float().mean().item() == pytest.approx(1 - missed, abs=0.018)
    assert not mask[:, 0, 1, 1].any()


def test_an_empty_guide_hides_at_random():
    draws = many_draws((4, 4), 100)
    nothing = torch.zeros(100, 1, 4, 4)
    assert torch.equal(
        guided_mask(nothing, draws, ratio=0.5, guided=0.5), guided_mask(nothing, draws, ratio=0.5, guided=0.0)
    )


@pytest.mark.parametrize("extreme", [0.0, 1.0])
def test_draws_at_the_ends_of_their_range_hide_as_many(extreme):
    draws = torch.full((1, 2, 4, 4), extreme)
    assert guided_mask(torch.ones(1, 1, 4, 4), draws, ratio=0.5, guided=0.5).sum() == 8


def test_guidance_rises_with_the_run_and_follows_prior_and_segmentor(make_method):
    method = make_method().eval()
    method.segmentor = linear_stand_in(0.0)  # 1/2 everywhere
    views = make_views(64)
    views["draws"] = many_draws((4, 4), 64)
    at_start = seen_mask(method, views)
    assert torch.equal(at_start, guided_mask(torch.ones(64, 1, 4, 4), views["draws"], ratio=0.5, guided=0.0))
    method.set_progress(1.0)
    at_end = seen_mask(method, views)
    # half of the pixels of a patch with vessel at 1 beside the segmentor's 1/2, all means halved
    guide = torch.full((64, 1, 4, 4), 0.25)
    guide[..., 1] = 0.5
    assert torch.equal(at_end, guided_mask(guide, views["draws"], ratio=0.5, guided=0.5))
    assert at_end[..., 1].float().mean() > at_start[..., 1].float().mean() + 0.05


def test_an_image_without_a_prior_is_masked_at_random(make_method):
    method = make_method().eval()
    views = make_views()
    views["prior"][:2] = 0.0
    at_start = seen_mask(method, views)
    method.set_progress(1.0)
    assert torch.equal(seen_mask(method, views)[:2], at_start[:2])


def test_the_same_draws_give_the_same_loss(make_method):
    method = make_method().eval()
    method.set_progress(0.5)
    assert torch.equal(method(make_views())["loss"], method(make_views())["loss"])


def test_consistency_compares_the_segmentor_on_what_was_filled_and_on_the_image(make_method):
    method = make_method(patch_size=4, mask_ratio=0.25).eval()
    method.segmentor = linear_stand_in(0.5)
    nn.init.zeros_(method.pixel_head.weight)
    nn.init.zeros_(method.pixel_head.bias)  # the mean of each hidden patch
    image = torch.zeros(1, 1, 8, 8)
    image[..., :2, :4], image[..., 2:4, :4] = 1.0, 3.0
    draws = torch.zeros(1, 2, 2, 2)
    draws[0, 1, 0, 0] = 0.5
    losses = method({"image": image, "prior": torch.zeros_like(image), "draws": draws})

    def cross_entropy(logit, target_logit):
        return math.log(1 + math.exp(logit)) - logit / (1 + math.exp(-target_logit))

    # 16 hidden pixels of mean 2: logit 1 against those of 1 and 3; elsewhere logit 0
    expected = (8 * cross_entropy(1.0, 0.5) + 8 * cross_entropy(1.0, 1.5) + 48 * math.log(2)) / 64
    assert losses["consistency"].item() == pytest.approx(expected)
    # each hidden value is 1 from the mean, the unbiased variance 16 / 15: 15 / 16 after normalisation
    assert losses["reconstruction"].item() == pytest.approx(15 / 16, rel=1e-4)


def test_a_perfect_reconstruction_is_the_image_itself(make_method):
    method = make_method().eval()
    views = make_views()
    patches = views["image"].reshape(4, 1, 4, 8, 4, 8)
    variance, mean = torch.var_mean(patches, dim=(3, 5), keepdim=True)
    method._pixels = lambda _: ((patches - mean) / (variance + 1e-6).sqrt()).reshape(4, 1, 32, 32)
    torch.testing.assert_close(method.reconstruct(views).reconstruction, views["image"], atol=1e-5, rtol=1e-5)
    losses = method(views)
    assert losses["reconstruction"] < 1e-10
    logits = method.segmentor(views["image"])
    entropy = nn.functional.binary_cross_entropy_with_logits(logits, logits.sigmoid())
    torch.testing.assert_close(losses["consistency"], entropy)


def test_the_segmentor_gets_no_gradient_and_never_trains(make_method):
    method = make_method()
    before = {name: value.clone() for name, value in method.segmentor.state_dict().items()}
    method.train()
    assert method.training
    assert not any(module.training for module in method.segmentor.modules())
    method(make_views())["loss"].backward()
    assert all(parameter.grad is None for parameter in method.segmentor.parameters())
    assert all(torch.equal(value, before[name]) for name, value in method.segmentor.state_dict().items())
    for name, parameter in method.named_parameters():
        assert (parameter.grad is not None) == (not name.startswith(("network.head", "segmentor"))), name


def test_consistency_reaches_the_network_through_the_segmentor(make_method):
    method = make_method()
    method(make_views())["consistency"].backward()
    assert method.pixel_head.weight.grad.abs().sum() > 0


def test_weights_of_the_losses(make_method):
    losses = make_method(consistency_weight=0.25)(make_views())
    torch.testing.assert_close(losses["loss"], losses["reconstruction"] + 0.25 * losses["consistency"])
    assert set(make_method(consistency_weight=0.0)(make_views())) == {"loss", "reconstruction"}


def test_the_loss_falls_on_one_batch(make_method):
    method = make_method()
    method.set_progress(1.0)
    views = make_views()
    optimizer = torch.optim.AdamW((p for p in method.parameters() if p.requires_grad), lr=1e-2)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = method(views)["reconstruction"]
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]


def test_settings_out_of_range_are_named(make_method):
    with pytest.raises(ValueError, match="`mask_ratio` must be between 0 and 1, got 1"):
        make_method(mask_ratio=1)
    with pytest.raises(ValueError, match=r"`guided_share` must be in 0 \.\. 1, got 1\.5"):
        make_method(guided_share=1.5)
    with pytest.raises(ValueError, match=r"`progress` must be in 0 \.\. 1, got 2"):
        make_method().set_progress(2)


def test_missing_segmentor_weights_are_named_with_the_command_that_makes_them(make_method, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no segmentor weights at .*lost.*vaso_mim_segmentor\.json"):
        make_method(segmentor_weights=tmp_path / "lost.safetensors")


def test_segmentor_weights_of_another_network_are_named(make_method, tmp_path):
    with pytest.raises(ValueError, match=r"is not a segmentor of channels \(4, 16\)"):
        make_method(segmentor_channels=(4, 16))
    torch.manual_seed(0)
    save_unet_weights(
        UNet(channels=SEGMENTOR_CHANNELS), tmp_path / "headless.safetensors", parts=("encoder", "decoder")
    )
    with pytest.raises(ValueError, match="is not a segmentor"):
        make_method(segmentor_weights=tmp_path / "headless.safetensors")


def test_the_check_names_missing_segmentor_weights(tiny_pretraining, tmp_path):
    words = ["--config_file", str(tiny_pretraining.configs("methods/vaso_mim.json"))]
    lost = tmp_path / "lost.safetensors"
    for name, value in tiny_pretraining.settings(tmp_path, segmentor_weights=str(lost)).items():
        words += [f"--{name}", str(value)]
    assert list(check_run(parse_arguments(words)).problems) == [f"`segmentor_weights`: no such file: {lost}"]


def test_the_overlays_give_what_fine_tuning_takes_and_resume_bit_equal(tiny_pretraining, tmp_path, monkeypatch):
    tiny_pretraining.run(tmp_path / "segmentor", "compact.json", "methods/vaso_mim_segmentor.json")
    settings = {
        "segmentor_weights": str(tmp_path / "segmentor" / "unet.safetensors"),
        "segmentor_channels": list(tiny_pretraining.channels),
        "prior_dir": str(tmp_path / "segmentor" / "priors"),
        "max_epochs": 2,
    }
    overlays = ("compact.json", "methods/vaso_mim.json")
    whole = tiny_pretraining.run(tmp_path / "whole", *overlays, **settings)
    report = load_unet_weights(UNet(channels=tiny_pretraining.channels), whole / "unet.safetensors")
    assert report.skipped == ()
    assert set(report.missing) == {"head.weight", "head.bias"}
    assert json.loads((whole / "unet.json").read_text())["method"] == "VasoMIM"
    assert (whole / "reconstructions" / "reconstruction_epoch_0002.png").is_file()
    assert len(list((tmp_path / "segmentor" / "priors").iterdir())) == 10

    def stop(handler, engine):
        if engine.state.epoch == 2:
            raise RuntimeError("stopped")

    with monkeypatch.context() as patch:
        patch.setattr(SetMethodProgress, "__call__", stop)
        with pytest.raises(RuntimeError):
            tiny_pretraining.run(tmp_path / "stopped", *overlays, **settings)
    assert torch.load(tmp_path / "stopped" / "checkpoint.pt", weights_only=True)["epoch"] == 1
    resumed = tiny_pretraining.run(tmp_path / "stopped", *overlays, **settings)
    assert (resumed / "unet.safetensors").read_bytes() == (whole / "unet.safetensors").read_bytes()
