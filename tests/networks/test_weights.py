import hashlib
import json

import pytest
import torch
from safetensors.torch import save_file

from cmunet_monai.networks import UNet, load_unet_weights, provenance, save_unet_weights

CHANNELS = (2, 4, 8)


def test_transferred_parts_arrive_and_the_head_keeps_its_initial_values(tmp_path):
    source, target = UNet(channels=CHANNELS), UNet(channels=CHANNELS)
    head = target.head.weight.clone()
    save_unet_weights(source, tmp_path / "unet.safetensors", parts=("encoder", "decoder"))
    report = load_unet_weights(target, tmp_path / "unet.safetensors")
    assert report.missing == ("head.weight", "head.bias")
    assert report.skipped == ()
    for name, value in source.state_dict().items():
        if name.startswith(("encoder.", "decoder.")):
            assert name in report.loaded
            assert torch.equal(target.state_dict()[name], value)
    assert torch.equal(target.head.weight, head)


def test_sidecar_names_architecture_method_and_digest(tmp_path):
    path = tmp_path / "unet.safetensors"
    save_unet_weights(UNet(channels=CHANNELS), path, method="CMUNet", epoch=3)
    facts = json.loads((tmp_path / "unet.json").read_text())
    assert facts["architecture"] == {"in_channels": 1, "out_channels": 2, "channels": [2, 4, 8]}
    assert facts["method"] == "CMUNet"
    assert facts["epoch"] == 3
    assert facts["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()


def test_keys_of_another_shape_are_reported_with_both_shapes(tmp_path):
    save_unet_weights(UNet(out_channels=3, channels=CHANNELS), tmp_path / "three.safetensors")
    report = load_unet_weights(UNet(channels=CHANNELS), tmp_path / "three.safetensors")
    assert set(report.skipped) == {
        "head.weight (shape (3, 2, 1, 1), the network has (2, 2, 1, 1))",
        "head.bias (shape (3,), the network has (2,))",
    }
    assert "2 skipped" in str(report)


def test_weights_that_fit_nothing_are_an_error(tmp_path):
    save_file({"backbone.weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=r"nothing in .*other\.safetensors fits.*backbone\.weight"):
        load_unet_weights(UNet(channels=CHANNELS), tmp_path / "other.safetensors")


def test_weights_of_other_channels_are_an_error_although_batchnorm_counters_fit(tmp_path):
    save_unet_weights(UNet(channels=(3, 6, 9)), tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="trained with other channels"):
        load_unet_weights(UNet(channels=CHANNELS), tmp_path / "other.safetensors")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"absent\.safetensors"):
        load_unet_weights(UNet(channels=CHANNELS), tmp_path / "absent.safetensors")


@pytest.mark.parametrize("name", ["cut.safetensors", "cut.pt"])
def test_a_cut_file_is_named(tmp_path, name):
    whole = tmp_path / "whole.safetensors"
    save_unet_weights(UNet(channels=CHANNELS), whole)
    (tmp_path / name).write_bytes(whole.read_bytes()[:500])
    with pytest.raises(ValueError, match=name):
        load_unet_weights(UNet(channels=CHANNELS), tmp_path / name)


def test_a_pickled_model_is_refused(tmp_path):
    torch.save(UNet(channels=CHANNELS), tmp_path / "model.pt")
    with pytest.raises(ValueError, match="state_dict"):
        load_unet_weights(UNet(channels=CHANNELS), tmp_path / "model.pt")


def test_nested_checkpoints_are_refused(tmp_path):
    torch.save({"state_dict": UNet(channels=CHANNELS).state_dict()}, tmp_path / "nested.pt")
    with pytest.raises(ValueError, match="flat state dict"):
        load_unet_weights(UNet(channels=CHANNELS), tmp_path / "nested.pt")


def test_weights_that_are_not_finite_are_not_written(tmp_path):
    network = UNet(channels=CHANNELS)
    network.head.bias.data[0] = torch.nan
    with pytest.raises(ValueError, match=r"head\.bias"):
        save_unet_weights(network, tmp_path / "unet.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_provenance_names_the_data_list_by_its_digest_only(tmp_path):
    datalist = tmp_path / "Surname_Forename.json"
    datalist.write_text("{}")
    facts = provenance(datalist, method="CMUNet")
    assert facts["datalist_sha256"] == hashlib.sha256(b"{}").hexdigest()
    assert "Surname" not in json.dumps(facts)


def test_weights_that_are_not_finite_are_refused(tmp_path):
    network = UNet(channels=CHANNELS)
    state = network.state_dict() | {"head.bias": torch.full((2,), torch.nan)}
    save_file(state, tmp_path / "broken.safetensors")
    with pytest.raises(ValueError, match=r"broken\.safetensors: weights are not finite in head\.bias"):
        load_unet_weights(network, tmp_path / "broken.safetensors")
