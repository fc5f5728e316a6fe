"""metadata.json of the bundles: MONAI's schema, and agreement with what the configs and the package say."""

import json
from pathlib import Path

import pytest
from jsonschema import Draft201909Validator
from monai.bundle import ConfigParser, verify_metadata, verify_net_in_out

ROOT = Path(__file__).parents[2]
SCHEMA = Path(__file__).with_name("meta_schema_20240725.json")
BUNDLES = sorted(path.parent.parent for path in ROOT.glob("bundles/*/configs/metadata.json"))


@pytest.fixture(params=BUNDLES, ids=lambda path: path.name)
def bundle(request):
    return request.param


def metadata_of(bundle):
    return json.loads((bundle / "configs" / "metadata.json").read_text())


def test_both_bundles_have_metadata():
    assert [bundle.name for bundle in BUNDLES] == ["coronary_xa_pretraining", "coronary_xa_segmentation"]


def test_schema_is_a_valid_schema():
    Draft201909Validator.check_schema(json.loads(SCHEMA.read_text()))


def test_metadata_satisfies_the_schema(bundle):
    verify_metadata(meta_file=str(bundle / "configs" / "metadata.json"), filepath=str(SCHEMA))


@pytest.mark.parametrize("field", ["version", "required_packages_version", "network_data_format"])
def test_schema_refuses_metadata_without_a_required_field(bundle, field, tmp_path):
    metadata = metadata_of(bundle)
    del metadata[field]
    path = tmp_path / "metadata.json"
    path.write_text(json.dumps(metadata))
    with pytest.raises(ValueError, match=f"'{field}' is a required property"):
        verify_metadata(meta_file=str(path), filepath=str(SCHEMA))


def test_schema_refuses_a_tensor_without_channels(bundle, tmp_path):
    metadata = metadata_of(bundle)
    metadata["network_data_format"]["inputs"]["image"]["num_channels"] = "one"
    path = tmp_path / "metadata.json"
    path.write_text(json.dumps(metadata))
    with pytest.raises(ValueError, match="Failed validating"):
        verify_metadata(meta_file=str(path), filepath=str(SCHEMA))


def test_changelog_holds_the_version(bundle):
    metadata = metadata_of(bundle)
    assert metadata["version"] in metadata["changelog"]


def test_stated_versions_are_those_tested_and_meet_the_package_requirements(bundle):
    metadata = metadata_of(bundle)
    stated = metadata["required_packages_version"] | {
        "monai": metadata["monai_version"],
        "torch": metadata["pytorch_version"],
        "numpy": metadata["numpy_version"],
    }
    constraints = dict(
        line.split("==")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if line and not line.startswith("#")
    )
    assert {name: constraints[name] for name in stated} == stated


def test_network_gives_the_stated_shape_and_type(bundle):
    verify_net_in_out(
        net_id="network_def",
        meta_file=str(bundle / "configs" / "metadata.json"),
        config_file=str(bundle / "configs" / "train.json"),
        device="cpu",
        any=64,
        channels=[4, 8, 16],
    )


def test_a_wrong_number_of_output_channels_is_found(bundle):
    with pytest.raises(ValueError, match="output channel number `2` doesn't match: `3`"):
        verify_net_in_out(
            net_id="network_def",
            meta_file=str(bundle / "configs" / "metadata.json"),
            config_file=str(bundle / "configs" / "train.json"),
            device="cpu",
            any=64,
            channels=[4, 8, 16],
            **{"_meta_#network_data_format#outputs#pred#num_channels": 3},
        )


def test_first_input_is_image_and_first_output_is_pred(bundle):
    form = metadata_of(bundle)["network_data_format"]
    assert next(iter(form["inputs"])) == "image"
    assert next(iter(form["outputs"])) == "pred"


def test_configs_hold_no_lambda_and_say_what_they_are_for(bundle):
    for path in bundle.glob("configs/**/*.json"):
        if path.name != "metadata.json":
            assert "lambda " not in path.read_text(), path
            assert ConfigParser.load_config_file(path)["_desc_"], path
