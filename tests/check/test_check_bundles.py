"""The project's own bundles stand up to the check, and their mistakes are found."""

from pathlib import Path

import pytest

from cmunet_monai.check import check_run, parse_arguments

BUNDLES = Path(__file__).parents[2] / "bundles"
METHODS = sorted(path.stem for path in (BUNDLES / "coronary_xa_pretraining" / "configs" / "methods").glob("*.json"))
RUNS = [
    *(("coronary_xa_pretraining", ["train", "compact", f"methods/{name}"]) for name in METHODS),
    ("coronary_xa_pretraining", ["train"]),
    ("coronary_xa_pretraining", ["train", "compact"]),
    ("coronary_xa_pretraining", ["train", "multi_gpu_train"]),
    ("coronary_xa_segmentation", ["train"]),
    ("coronary_xa_segmentation", ["train", "paper"]),
    ("coronary_xa_segmentation", ["train", "multi_gpu_train"]),
    ("coronary_xa_segmentation", ["evaluate"]),
    ("coronary_xa_segmentation", ["evaluate", "paper"]),
    ("coronary_xa_segmentation", ["inference", "paper"]),
]


def problems(data, name, configs, *more):
    """Problems of a run of a bundle's configs on the small data set, with weights that exist."""
    data.write()
    (data.root / "model.safetensors").touch()
    root = BUNDLES / name
    arguments = ["--bundle_root", str(root), "--output_dir", str(data.root / "out")]
    arguments += ["--config_file", str([str(root / "configs" / f"{config}.json") for config in configs])]
    arguments += ["--dataset_dir", str(data.root / "data")]
    if configs[0] != "train":
        arguments += ["--weights", str(data.root / "model.safetensors")]
    elif name == "coronary_xa_pretraining":
        arguments += ["--batch_size", "2"]
    if configs[-1] == "methods/vaso_mim":
        arguments += ["--segmentor_weights", str(data.root / "model.safetensors")]
    return list(check_run(parse_arguments([*arguments, *more])).problems)


@pytest.mark.parametrize("name,configs", RUNS)
def test_own_bundles_have_no_mistake(bundle, name, configs):
    assert problems(bundle, name, configs) == []


@pytest.mark.parametrize(
    "name, overlay", [("coronary_xa_pretraining", "compact"), ("coronary_xa_segmentation", "paper")]
)
def test_mistyped_override_of_an_own_bundle_is_named(bundle, name, overlay):
    assert problems(bundle, name, ["train", overlay], "--learning_rat", "0.1") == [
        "--learning_rat: unknown id, it would be ignored; did you mean `learning_rate`?"
    ]


def test_pretraining_on_fewer_frames_than_a_batch_is_named(bundle):
    """Its loader drops incomplete batches: 2 frames at batch size 3 would train on nothing."""
    (problem,) = problems(bundle, "coronary_xa_pretraining", ["train"], "--train#dataloader#batch_size", "3")
    assert "list `pretraining` has 2 rows, fewer than one batch of 3" in problem


def test_vaso_mim_without_its_segmentor_is_named(bundle):
    bundle.write()
    configs = BUNDLES / "coronary_xa_pretraining" / "configs"
    files = [str(configs / name) for name in ("train.json", "compact.json", "methods/vaso_mim.json")]
    arguments = ["--config_file", str(files), "--dataset_dir", str(bundle.root / "data"), "--batch_size", "2"]
    arguments += ["--output_dir", str(bundle.root / "out"), "--segmentor_weights", "absent.safetensors"]
    found = check_run(parse_arguments(arguments)).problems
    assert "`segmentor_weights`: no such file: absent.safetensors" in found


def test_evaluation_needs_labels_and_weights(bundle):
    bundle.lists["test"][0]["label"] = None
    found = problems(bundle, "coronary_xa_segmentation", ["evaluate", "paper"], "--amp_dtype", "bfloat16")
    assert len(found) == 1
    assert found[0].endswith("list `test` (read by `dataset#data`) has 1 row(s) without a label: x1")
    (bundle.root / "data" / "labels" / "x2.png").unlink()
    assert len(problems(bundle, "coronary_xa_segmentation", ["evaluate", "paper"])) == 2
