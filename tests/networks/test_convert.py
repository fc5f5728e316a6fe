"""Against a UNet written here with the published names: conversion must give the same features and logits.

Tolerance of features and logits: 1e-6, relative and absolute (float32).
"""

import hashlib
import json
import os
import pickle
import zipfile

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.functional import max_pool2d
from torch.testing import assert_close

from cmunet_monai.__main__ import main
from cmunet_monai.networks import UNet, convert_reference_weights, load_unet_weights
from cmunet_monai.networks.convert import published_name

CHANNELS = (3, 4, 6, 8, 10)
ENCODER, DECODER, HEAD = 5 * 14, 4 * 16, 2  # keys: a DoubleConv has 2 x (2 + 5), a ConvTranspose2d and the head 2


def published_double_conv(before, after):
    layers = []
    for channels in (before, after):
        layers += [nn.Conv2d(channels, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
    return nn.ModuleDict({"double_conv": nn.Sequential(*layers)})


class PublishedUNet(nn.Module):
    """down_conv1..4, double_conv (the bottleneck), up_conv4..1 from the deepest, conv_last."""

    def __init__(self, channels=CHANNELS, in_channels=1, out_channels=2):
        super().__init__()
        *skips, bottom = channels
        for number, (before, after) in enumerate(zip((in_channels, *skips), skips, strict=False), start=1):
            self.add_module(f"down_conv{number}", nn.ModuleDict({"double_conv": published_double_conv(before, after)}))
        self.double_conv = published_double_conv(skips[-1], bottom)
        for number in (4, 3, 2, 1):
            deep, skip = channels[number], channels[number - 1]
            up = {"up_sample": nn.ConvTranspose2d(deep, skip, 2, stride=2)}
            up["double_conv"] = published_double_conv(2 * skip, skip)
            self.add_module(f"up_conv{number}", nn.ModuleDict(up))
        self.conv_last = nn.Conv2d(channels[0], out_channels, 1)

    def features(self, image):
        found = []
        for number in (1, 2, 3, 4):
            found.append(self.get_submodule(f"down_conv{number}.double_conv.double_conv")(image))
            image = max_pool2d(found[-1], 2)
        return [*found, self.double_conv["double_conv"](image)]

    def decode(self, features):
        image = features[4]
        for number in (4, 3, 2, 1):
            up = self.get_submodule(f"up_conv{number}")
            image = up["double_conv"]["double_conv"](torch.cat([up["up_sample"](image), features[number - 1]], dim=1))
        return image

    def forward(self, image):
        return self.conv_last(self.decode(self.features(image)))


def published(**sizes):
    """A published UNet with random weights and BatchNorm statistics, in eval mode."""
    generator = torch.Generator().manual_seed(5)
    network = PublishedUNet(**sizes).eval()
    for name, value in network.state_dict().items():
        if name.endswith("num_batches_tracked"):
            value.fill_(7)
        else:
            value.normal_(std=0.3, generator=generator)
        if name.endswith("running_var"):
            value.abs_().add_(0.5)
    return network


def prefixed(prefix, state, *starts):
    return {prefix + key: value for key, value in state.items() if key.startswith(starts or "")}


def pretraining_state(network):
    """A CM-UNet pre-training: online branch `network`, momentum branch of other weights, projector."""
    state = network.state_dict()
    other = {key: value + 1 for key, value in state.items()}
    return {
        **prefixed("backbone.", state, "down_conv", "double_conv"),
        **prefixed("target_backbone.", other, "down_conv", "double_conv"),
        **prefixed("pixel_decoder.", state, "up_conv", "conv_last"),
        **prefixed("feature_decoder.", other, "up_conv", "conv_last"),
        "projector.fc0.weight": torch.zeros(2, 2),
    }


def spark_state(network):
    state = network.state_dict()
    return {
        **prefixed("sparse_encoder.sp_cnn.", state, "down_conv", "double_conv"),
        **prefixed("dense_decoder.", state, "up_conv", "conv_last"),
        "mask_tokens.0": torch.zeros(1, 10, 1, 1),
        "config": {"mask_ratio": 0.6},
    }


def moco_state(network):
    state = network.state_dict()
    return {
        **prefixed("encoder_q.", state, "down_conv", "double_conv"),
        **prefixed("encoder_k.", {key: value + 1 for key, value in state.items()}, "down_conv", "double_conv"),
        "encoder_q.fc.weight": torch.zeros(2, 2),
        "queue": torch.zeros(10, 4),
    }


def converted(folder, checkpoint, channels=CHANNELS, **sizes):
    """Save, convert and load; returns the network in eval mode and both reports."""
    torch.save(checkpoint, folder / "source.pth")
    report = convert_reference_weights(folder / "source.pth", folder / "unet.safetensors")
    network = UNet(channels=channels, **sizes).eval()
    return network, report, load_unet_weights(network, folder / "unet.safetensors")


def image_of(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(6))


def assert_same(ours, theirs):
    assert_close(ours, theirs, rtol=1e-6, atol=1e-6)


WRAPPINGS = {
    "bare": lambda state: state,
    "module.": lambda state: prefixed("module.", state),
    "state_dict": lambda state: {"epoch": 3, "state_dict": state, "optimizer_state_dict": {}},
    "state_dict, module.": lambda state: {"state_dict": prefixed("module.", state)},
    "model": lambda state: {"model": state},
    "module": lambda state: {"module": state},
    "model, state_dict": lambda state: {"model": {"state_dict": state}},
}


@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_same_image_gives_the_same_logits(tmp_path, wrapping):
    theirs = published()
    ours, report, loaded = converted(tmp_path, WRAPPINGS[wrapping](theirs.state_dict()))
    image = image_of(2, 1, 48, 32)
    with torch.no_grad():
        assert theirs(image).abs().max() > 0.1
        assert_same(ours(image), theirs(image))
    assert (report.kind, report.channels, report.parts) == ("UNet", CHANNELS, ("encoder", "decoder", "head"))
    assert set(report.converted) == set(theirs.state_dict())
    assert len(loaded.loaded) == ENCODER + DECODER + HEAD
    assert loaded.skipped == loaded.missing == ()


@pytest.mark.parametrize(
    "sizes",
    [
        {"out_channels": 1},
        {"out_channels": 5, "in_channels": 3},
        {"channels": (5, 4, 3, 2, 1)},
        {"channels": (4, 4, 4, 4, 4)},
    ],
)
def test_sizes_are_those_of_the_file(tmp_path, sizes):
    theirs = published(**sizes)
    ours, report, _ = converted(tmp_path, theirs.state_dict(), **sizes)
    image = image_of(1, sizes.get("in_channels", 1), 16, 16)
    with torch.no_grad():
        assert_same(ours(image), theirs(image))
    sidecar = json.loads((tmp_path / "unet.json").read_text())
    expected = {"in_channels": 1, "out_channels": 2, "channels": CHANNELS} | sizes
    assert sidecar["architecture"] == {**expected, "channels": list(expected["channels"])}
    assert report.channels == expected["channels"]


def test_a_safetensors_source_gives_the_same_weights_as_a_pickled_one(tmp_path):
    state = published().state_dict()
    save_file(state, tmp_path / "source.safetensors")
    convert_reference_weights(tmp_path / "source.safetensors", tmp_path / "a.safetensors")
    torch.save(state, tmp_path / "source.pth")
    convert_reference_weights(tmp_path / "source.pth", tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_published_names_and_sizes_are_those_of_the_default_network():
    with torch.device("meta"):
        ours, theirs = UNet(), PublishedUNet((64, 128, 256, 512, 1024))
    shapes = {published_name(key): value.shape for key, value in ours.state_dict().items()}
    assert shapes == {key: value.shape for key, value in theirs.state_dict().items()}
    assert sum(value.numel() for value in theirs.parameters()) == 31_042_434


@pytest.mark.parametrize(
    "kind, state_of, left_out",
    [
        (
            "CMUNet",
            pretraining_state,
            "target_backbone (70), pixel_decoder.conv_last (2), feature_decoder (66), projector (1)",
        ),
        ("SparK", spark_state, "dense_decoder.conv_last (2), mask_tokens (1), config (1)"),
    ],
)
@pytest.mark.parametrize("wrapping", ["state_dict", "module"])
def test_a_pretraining_gives_its_encoder_and_decoder_without_the_head(tmp_path, kind, state_of, left_out, wrapping):
    theirs = published()
    checkpoint = {wrapping: state_of(theirs), "meta": {"epoch": 300}, "optimizer": {"step": torch.zeros(1)}}
    ours, report, loaded = converted(tmp_path, checkpoint)
    image = image_of(2, 1, 32, 48)
    with torch.no_grad():
        for own, their in zip(ours.encoder(image), theirs.features(image), strict=True):
            assert_same(own, their)
        assert_same(ours.decoder(ours.encoder(image)), theirs.decode(theirs.features(image)))
    assert (report.kind, report.parts) == (kind, ("encoder", "decoder"))
    assert len(report.converted) == ENCODER + DECODER
    assert str(report).startswith(f"{kind} checkpoint with channels 3, 4, 6, 8, 10: 134 keys converted (encoder, deco")
    assert str(report).endswith(f"left out: {left_out}, meta (1), optimizer (1)")
    assert len(loaded.loaded) == ENCODER + DECODER
    assert loaded.skipped == ()
    assert loaded.missing == ("head.weight", "head.bias")


def test_moco_gives_the_query_encoder_alone(tmp_path):
    theirs = published()
    ours, report, loaded = converted(tmp_path, {"state_dict": prefixed("module.", moco_state(theirs))})
    image = image_of(1, 1, 32, 32)
    with torch.no_grad():
        for own, their in zip(ours.encoder(image), theirs.features(image), strict=True):
            assert_same(own, their)
    assert (report.kind, report.parts) == ("MoCoV2", ("encoder",))
    assert str(report).endswith("70 keys converted (encoder), 72 left out: encoder_k (70), encoder_q.fc (1), queue (1)")
    assert len(loaded.loaded) == ENCODER
    assert len(loaded.missing) == DECODER + HEAD


def test_spark_with_another_decoder_gives_its_encoder_alone(tmp_path):
    """SparK's own light decoder, and its file of the encoder alone (`module`, bare names)."""
    state = published().state_dict()
    light = {**prefixed("sparse_encoder.sp_cnn.", state, "down", "double"), "dense_decoder.proj.bias": torch.zeros(1)}
    encoder_alone = {"module": prefixed("", state, "down", "double"), "arch": "unet_sparse"}
    for checkpoint, kind in ((light, "SparK"), (encoder_alone, "UNet")):
        (tmp_path / kind).mkdir()
        _, report, loaded = converted(tmp_path / kind, checkpoint)
        assert (report.kind, report.parts) == (kind, ("encoder",))
        assert len(loaded.loaded) == ENCODER


def test_half_precision_becomes_float32(tmp_path):
    state = published().half().state_dict()
    converted(tmp_path, state)
    written = load_file(tmp_path / "unet.safetensors")
    assert written["encoder.stages.0.1.num_batches_tracked"].dtype == torch.int64
    assert written["head.weight"].dtype == torch.float32
    assert torch.equal(written["head.weight"], state["conv_last.weight"].float())


def test_sidecar_names_the_source_by_kind_digest_and_sizes_and_not_by_path(tmp_path):
    folder = tmp_path / "Surname_Forename"
    folder.mkdir()
    converted(folder, {"state_dict": pretraining_state(published())})
    source = (folder / "source.pth").read_bytes()
    text = (folder / "unet.json").read_text()
    facts = json.loads(text)
    assert facts["architecture"]["channels"] == [3, 4, 6, 8, 10]
    assert facts["method"] == "CMUNet"
    assert facts["parts"] == ["encoder", "decoder"]
    assert facts["keys"] == ENCODER + DECODER
    assert facts["datalist_sha256"] is None
    assert facts["converted_from"] == {
        "kind": "CMUNet",
        "keys": 2 * (ENCODER + DECODER + HEAD) + 1,
        "bytes": len(source),
        "sha256": hashlib.sha256(source).hexdigest(),
    }
    assert facts["sha256"] == hashlib.sha256((folder / "unet.safetensors").read_bytes()).hexdigest()
    assert "Surname" not in text
    assert "source" not in text


def test_conversion_draws_no_random_numbers(tmp_path):
    torch.save(published().state_dict(), tmp_path / "source.pth")
    before = torch.get_rng_state()
    convert_reference_weights(tmp_path / "source.pth", tmp_path / "unet.safetensors")
    assert torch.equal(torch.get_rng_state(), before)


def refused(folder, checkpoint, match):
    """Save a checkpoint, see its conversion refused with its name and nothing written."""
    torch.save(checkpoint, folder / "source.pth")
    refused_file(folder, "source.pth", match)


def refused_file(folder, name, match, error=ValueError):
    before = sorted(folder.iterdir())
    with pytest.raises(error, match=match) as caught:
        convert_reference_weights(folder / name, folder / "unet.safetensors")
    assert name in str(caught.value)
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize(
    "checkpoint, keys",
    [
        ({"state_dict": {"layer1.weight": torch.zeros(1), "fc.bias": torch.zeros(1)}}, "layer1.weight, fc.bias"),
        ({"encoder.stages.0.0.weight": torch.zeros(1)}, "encoder.stages.0.0.weight"),
        ({"epoch": 3, "note": "none"}, "epoch, note"),
        ({3: torch.zeros(1)}, "3"),
        ({}, r"\(none\)"),
        ([torch.zeros(1)], r"\(none\)"),
        (torch.zeros(1), r"\(none\)"),
    ],
)
def test_what_is_no_known_checkpoint_is_refused_with_its_first_keys_and_the_known_kinds(tmp_path, checkpoint, keys):
    known = r"CMUNet \(backbone.down_conv\*, .*SparK \(sparse_encoder.sp_cnn.*MoCoV2 \(encoder_q.*UNet \(down_conv\*"
    refused(tmp_path, checkpoint, f"first keys are {keys}; known are {known}")


def test_a_checkpoint_that_holds_itself_ends(tmp_path):
    checkpoint = {"epoch": 1}
    checkpoint["state_dict"] = checkpoint["model"] = checkpoint
    refused(tmp_path, checkpoint, "no UNet is recognised")


@pytest.mark.parametrize(
    "absent, match",
    [
        ("conv_last.bias", r"1 keys of the UNet are missing: conv_last\.bias"),
        ("up_conv2.up_sample.", r"2 keys .* missing: up_conv2\.up_sample\.weight, up_conv2\.up_sample\.bias"),
        ("down_conv4.", r"14 keys .* missing: down_conv4\.double_conv\.double_conv\.0\.weight, .*, \.\.\."),
        ("up_conv", "64 keys of the UNet are missing"),
        ("double_conv.double_conv.1.running_mean", "1 keys .* missing"),
    ],
)
def test_missing_keys_are_named(tmp_path, absent, match):
    state = {key: value for key, value in published().state_dict().items() if not key.startswith(absent)}
    refused(tmp_path, state, match)


def test_missing_keys_of_a_pretraining_are_named_with_their_prefix(tmp_path):
    state = pretraining_state(published())
    del state["pixel_decoder.up_conv4.up_sample.bias"]
    refused(tmp_path, {"state_dict": state}, r"missing: pixel_decoder\.up_conv4\.up_sample\.bias")


@pytest.mark.parametrize("surplus", ["down_conv5.double_conv.double_conv.0.weight", "double_conv.double_conv.6.weight"])
def test_layers_of_another_unet_are_named(tmp_path, surplus):
    state = {**published().state_dict(), surplus: torch.zeros(1)}
    refused(tmp_path, state, f"1 keys belong to no layer of the UNet: {surplus}")


@pytest.mark.parametrize(
    "key, shape, match",
    [
        ("down_conv2.double_conv.double_conv.0.weight", (4, 5, 3, 3), r"must be \(4, 3, 3, 3\), got \(4, 5, 3, 3\)"),
        ("down_conv2.double_conv.double_conv.0.weight", (9, 3, 3, 3), r"channels \(3, 9, 6, 8, 10\): `down_conv2\."),
        ("down_conv1.double_conv.double_conv.0.weight", (3, 1, 5, 5), r"must be \(3, 1, 3, 3\), got \(3, 1, 5, 5\)"),
        ("down_conv1.double_conv.double_conv.0.weight", (3,), r"must be the weight of a convolution, got \(3,\)"),
        ("double_conv.double_conv.0.weight", (0, 8, 3, 3), r"must be the weight of a convolution, got \(0, 8, 3, 3\)"),
        ("conv_last.bias", (3,), r"`conv_last\.bias` must be \(2,\), got \(3,\)"),
        ("up_conv1.up_sample.weight", (3, 4, 2, 2), r"must be \(4, 3, 2, 2\), got \(3, 4, 2, 2\)"),
    ],
)
def test_contradicting_shapes_are_named(tmp_path, key, shape, match):
    refused(tmp_path, {**published().state_dict(), key: torch.zeros(shape)}, match)


def test_sizes_that_no_memory_holds_are_refused_before_anything_is_made(tmp_path):
    state = published().state_dict()
    state["double_conv.double_conv.0.weight"] = torch.zeros(()).expand(10**7, 8, 3, 3)
    refused(tmp_path, state, "shapes contradict")


def test_weights_that_are_not_finite_are_refused(tmp_path):
    state = published().state_dict()
    state["conv_last.bias"][0] = torch.nan
    torch.save(state, tmp_path / "source.pth")
    with pytest.raises(ValueError, match=r"not finite in head\.bias"):
        convert_reference_weights(tmp_path / "source.pth", tmp_path / "unet.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["source.pth"]


class Malicious:
    """Unpickling it makes a folder."""

    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


@pytest.mark.parametrize("place", ["whole", "beside", "old format", "bare pickle"])
def test_code_in_a_file_is_not_run(tmp_path, place):
    trap = Malicious(tmp_path / "made")
    holding = trap if place == "whole" else {"state_dict": published().state_dict(), "hook": trap}
    if place == "bare pickle":
        (tmp_path / "source.pth").write_bytes(pickle.dumps(holding, protocol=2))
    else:
        torch.save(holding, tmp_path / "source.pth", _use_new_zipfile_serialization=place != "old format")
    refused_file(tmp_path, "source.pth", "is refused: it holds more than tensors")
    assert not (tmp_path / "made").exists()
    pickle.loads(pickle.dumps(trap))  # the trap works
    assert (tmp_path / "made").exists()


def test_a_pickled_model_is_refused_with_its_class_and_how_to_save_it(tmp_path):
    refused(tmp_path, nn.DataParallel(published()), r"PublishedUNet, torch\..*torch\.save\(x\.state_dict\(\), NEW\)")


def test_files_that_are_no_checkpoint_are_named(tmp_path):
    torch.save(published().state_dict(), tmp_path / "whole.pth")
    whole = (tmp_path / "whole.pth").read_bytes()
    (tmp_path / "cut.pth").write_bytes(whole[: len(whole) // 2])
    refused_file(tmp_path, "cut.pth", r"cannot be read as weights \(cut")
    save_file({"conv_last.bias": torch.zeros(2)}, tmp_path / "whole.safetensors")
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "whole.safetensors").read_bytes()[:-1])
    refused_file(tmp_path, "cut.safetensors", r"cannot be read as weights \(cut")
    (tmp_path / "empty.pth").touch()
    refused_file(tmp_path, "empty.pth", r"cannot be read as weights \(cut")
    with zipfile.ZipFile(tmp_path / "other.pth", "w") as archive:
        archive.writestr("readme.txt", "no pickle here")
    refused_file(tmp_path, "other.pth", r"cannot be read as weights \(cut")
    (tmp_path / "text.pth").write_text("weights will follow")
    refused_file(tmp_path, "text.pth", "or is no checkpoint")
    (tmp_path / "pointer.pth").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:c8\nsize 124277423\n")
    refused_file(tmp_path, "pointer.pth", "git lfs pull")
    (tmp_path / "folder.pth").mkdir()
    refused_file(tmp_path, "folder.pth", "which is a folder", FileNotFoundError)
    refused_file(tmp_path, "absent.pth", "no weights at", FileNotFoundError)


def test_what_was_made_from_the_same_source_is_replaced_and_nothing_else(tmp_path):
    converted(tmp_path, published().state_dict())
    made = (tmp_path / "unet.safetensors").read_bytes()
    (tmp_path / "unet.safetensors").write_bytes(b"damaged")
    convert_reference_weights(tmp_path / "source.pth", tmp_path / "unet.safetensors")
    assert (tmp_path / "unet.safetensors").read_bytes() == made
    torch.save(published(out_channels=1).state_dict(), tmp_path / "other.pth")
    with pytest.raises(
        ValueError, match=r"unet\.safetensors or unet\.json already exists and was made from another source"
    ):
        convert_reference_weights(tmp_path / "other.pth", tmp_path / "unet.safetensors")
    assert (tmp_path / "unet.safetensors").read_bytes() == made


@pytest.mark.parametrize("sidecar", ["{", "[]", "{}", '{"converted_from": null}'])
def test_a_file_of_another_origin_is_not_replaced(tmp_path, sidecar):
    """Such as a data list of the name that the sidecar would have."""
    torch.save(published().state_dict(), tmp_path / "source.pth")
    (tmp_path / "unet.json").write_text(sidecar)
    with pytest.raises(ValueError, match="give another --output"):
        convert_reference_weights(tmp_path / "source.pth", tmp_path / "unet.safetensors")
    assert (tmp_path / "unet.json").read_text() == sidecar
    save_file(published().state_dict(), tmp_path / "lone.safetensors")
    with pytest.raises(ValueError, match="give another --output"):
        convert_reference_weights(tmp_path / "lone.safetensors", tmp_path / "lone.safetensors")


def test_the_verb_says_what_it_converted_and_fails_with_2(tmp_path, capsys):
    torch.save({"state_dict": moco_state(published())}, tmp_path / "moco.ckpt")
    output = tmp_path / "new" / "moco.safetensors"
    assert main(["convert", str(tmp_path / "moco.ckpt"), "--output", str(output)]) == 0
    assert "MoCoV2 checkpoint with channels 3, 4, 6, 8, 10: 70 keys converted (encoder)" in capsys.readouterr().out
    assert sorted(path.name for path in output.parent.iterdir()) == ["moco.json", "moco.safetensors"]
    assert main(["convert", str(tmp_path / "absent.pth"), "--output", str(output)]) == 2
    assert "error: no weights at" in capsys.readouterr().err
    assert main(["convert", str(tmp_path / "moco.ckpt"), "--output", str(tmp_path / "moco.pth")]) == 2
    assert "must end in .safetensors" in capsys.readouterr().err


def test_the_help_shows_examples(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["convert", "--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert "python -m cmunet_monai convert cmunet_pretrained.pth -o cm_unet.safetensors" in shown
