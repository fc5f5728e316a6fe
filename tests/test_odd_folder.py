"""Every verb in a folder whose name MONAI, a shell or a template would take for something else."""

import csv
import json
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cmunet_monai.__main__ import main as cmunet
from cmunet_monai.networks import UNet, file_digest, save_unet_weights
from cmunet_monai.networks.convert import published_name
from cmunet_monai.verbs import VERBS
from data_prep.__main__ import main as data_prep

NAME = "Study #1 $(x) @y %z"
BUNDLES = Path(__file__).parents[1] / "bundles"
CHANNELS = (4, 8, 16)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folder, with a bundle of tiny weights, synthetic frames with labels, and an export of XA runs."""
    root = tmp_path_factory.mktemp("odd") / NAME
    root.mkdir()
    shutil.copytree(BUNDLES / "coronary_xa_segmentation", root / "bundle", ignore=shutil.ignore_patterns("docs"))
    torch.manual_seed(0)
    save_unet_weights(UNet(channels=CHANNELS), root / "bundle" / "models" / "model.safetensors")
    config = root / "bundle" / "configs" / "inference.json"
    content = json.loads(config.read_text()) | {"channels": CHANNELS, "image_size": [64, 64], "num_workers": 0}
    config.write_text(json.dumps(content))
    frames = ["--frames", "12", "--size", "64", "--frames-per-patient", "1", "--output", str(root / "data")]
    assert data_prep(["synthesize", *frames]) == 0
    cine = ["--cine", "--patients", "1", "--runs-per-patient", "1", "--frames", "12", "--size", "96"]
    assert data_prep(["synthesize", *cine, "--output", str(root / "export")]) == 0
    split = ["split", "--datalist", str(root / "data" / "datalist.json"), "--finetune-images", "6"]
    assert data_prep([*split, "--output", str(root / "splits")]) == 0
    return root


@pytest.fixture(autouse=True)
def folder(made, monkeypatch):
    """The folder, where the verbs are called; temporary files lie in one with such a name too."""
    temporary = made / "tmp @#"
    temporary.mkdir(exist_ok=True)
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.chdir(made)
    yield made
    # a `#` that was rewritten makes a folder beside the right one
    assert [path.name for path in made.parent.iterdir()] == [NAME]
    assert not [path for path in made.rglob("*") if "::" in path.name]


def test_every_verb_is_tried_here():
    names = {name for name in globals() if name.startswith("test_")}
    for verb in VERBS:
        assert any(verb in name for name in names), verb


@pytest.mark.parametrize("start", ["absolute", "relative"])
def test_predict(folder, start, tmp_path):
    source = folder / "data" / "images" if start == "absolute" else Path("data") / "images"
    output = folder / start if start == "absolute" else Path(start)
    weights = folder / "bundle" / "models" / "model.safetensors"
    words = ["-i", str(source), "-o", str(output), "--bundle", "bundle", "--weights", str(weights), "--no-overlays"]
    assert cmunet(["predict", *words]) == 0
    frames = sorted(path.name for path in (folder / "data" / "images").iterdir())
    assert sorted(path.name for path in (folder / start / "masks").glob("*.png")) == frames


@pytest.mark.parametrize("name", ["$(x)", "@y", "%z", "2024", "my,data", "#1"])
def test_predict_on_relative_folders_that_begin_with_a_sign(folder, name):
    (folder / name).mkdir()
    shutil.copy(next((folder / "data" / "images").iterdir()), folder / name / f"{name}.png")
    (folder / name / f"{name}.safetensors").write_bytes(Path("bundle/models/model.safetensors").read_bytes())
    (folder / name / f"{name}.json").write_bytes(Path("bundle/models/model.json").read_bytes())
    words = ["-i", name, "-o", f"{name}/{name}", "--bundle", "bundle", "--weights", f"{name}/{name}.safetensors"]
    assert cmunet(["predict", *words]) == 0
    assert (folder / name / name / "masks" / f"{name}.png").is_file()


def test_study_and_report(folder, capsys):
    study = {
        "bundle_root": "bundle",
        "dataset_dir": "data",
        "output_dir": "study",
        "methods": {"none": str(folder / "start.safetensors")},
        "labels": {"6": {"draws": ["splits"], "max_epochs": 1, "choice_folds": 1}},
        "learning_rates": [0.001],
        "overrides": {"channels": CHANNELS, "image_size": [64, 64], "device": "$torch.device('cpu')"},
        "evaluation_overrides": {"overlays": False, "num_workers": 0},
    }
    shutil.copy(folder / "bundle" / "models" / "model.safetensors", "start.safetensors")
    shutil.copy(folder / "bundle" / "models" / "model.json", "start.json")
    Path("study.json").write_text(json.dumps(study))
    assert cmunet(["study", "study.json", "--dry-run"]) == 0, capsys.readouterr().err
    assert cmunet(["study", "study.json"]) == 0
    with Path("study/cells.csv").open(newline="") as file:
        assert [row["method"] for row in csv.DictReader(file)] == ["none"]
    made = json.loads(Path("study/labels_6/draw_0/none/final/run.json").read_text())
    assert made["weights"]["sha256"] == file_digest("study/labels_6/draw_0/none/final/model.safetensors")
    assert made["steps"] > 0
    assert len(made["curves"]["loss"]) == made["epochs"] == 1
    assert cmunet(["report", "study", "--output", "page"]) == 0


def test_check_takes_what_it_advises(folder, capsys):
    files = [f"--config_file={['bundle/configs/train.json']!r}", "--bundle_root=bundle"]
    data = ["--datalist=splits/final.json"]
    assert cmunet(["check", *files, *data, "--dataset_dir=data"]) == 0, capsys.readouterr().err
    assert cmunet(["check", *files, *data, f"--dataset_dir={folder / 'data'}"]) == 2
    said = capsys.readouterr().err
    assert "as a text, write --dataset_dir" in said


def test_package_and_verify(folder):
    shutil.copytree(BUNDLES / "coronary_xa_segmentation", "whole", dirs_exist_ok=True)
    shutil.copytree("whole", "release/coronary_xa_segmentation", dirs_exist_ok=True)
    save_unet_weights(UNet(channels=CHANNELS), folder / "run @" / "model.safetensors")
    words = ["--weights", "run @/model.safetensors", "--image-size", "64", "64", "--output", "out #.zip"]
    assert cmunet(["package", "release/coronary_xa_segmentation", *words]) == 0
    assert cmunet(["verify", "out #.zip", "--run-test", "--extract", "partner %z"]) == 0
    assert (folder / "partner %z" / "coronary_xa_segmentation" / "models" / "model.safetensors").is_file()


def test_convert(folder):
    network = UNet()
    state = {published_name(key): value for key, value in network.state_dict().items()}
    torch.save(state, "published #.pth")
    assert cmunet(["convert", "published #.pth", "--output", "$(converted).safetensors"]) == 0
    assert (folder / "$(converted).safetensors").is_file()


def test_label_examines_finds_and_learns(folder, capsys):
    from cmunet_monai.label.fine_tuning import fine_tune
    from cmunet_monai.label.segmenter import Segmenter

    cmunet(["label", "--doctor", "--studies", "data/images", "--bundle", "bundle"])
    assert "12 PNG and NIfTI files" in capsys.readouterr().out
    shutil.copytree("bundle", "learning @y", dirs_exist_ok=True)
    frame = next((folder / "data" / "images").iterdir())
    assert Segmenter("learning @y").probabilities(frame).shape == (64, 64, 1)
    rows = [
        {"id": path.stem, "image": str(path), "label": str(folder / "data" / "labels" / path.name), "group": path.stem}
        for path in sorted((folder / "data" / "images").iterdir())[:4]
    ]
    done = fine_tune("learning @y", rows, "trainings $(x)", max_epochs=1)
    assert (done["training"], done["validation"]) == (3, 1)


def test_dicom_and_deidentify(folder):
    for verb, more in (("dicom", ["--keep-flagged"]), ("deidentify", [])):
        words = [verb, "--source", "export/dicom", "--output", f"{verb} #$(x)", "--workers", "1"]
        assert data_prep([*words, *more]) == 0
    assert len(list((folder / "dicom #$(x)").rglob("*.nii.gz"))) == 1
    assert len(list((folder / "deidentify #$(x)").rglob("*.dcm"))) == 1


def test_bundles_and_doctor(folder, capsys):
    assert cmunet(["bundles", "copies #$(x)"]) == 0
    copies = Path("copies #$(x)") / "coronary_xa_segmentation"
    capsys.readouterr()
    assert cmunet(["doctor", "--bundle", str(copies)]) == 0
    assert f"ok       bundle: {copies}\n" in capsys.readouterr().out


def test_trees(folder):
    assert data_prep(["trees", "--output", str(folder / "trees"), "--trees", "1", "--size", "64"]) == 0
    assert (folder / "trees" / "trees.json").is_file()


def test_split_and_synthesize_wrote_here(made):
    assert (made / "splits" / "final.json").is_file()
    assert len(list((made / "data" / "images").iterdir())) == 12
    assert len(list((made / "export" / "dicom").rglob("*.dcm"))) == 1


def test_arcade(folder):
    images = folder / "published" / "syntax" / "train" / "images"
    images.mkdir(parents=True)
    grey = np.random.default_rng(0).integers(60, 200, (128, 128), dtype=np.uint8)
    Image.fromarray(grey).save(images / "1.png")
    box = [10, 20, 50, 20, 50, 26, 10, 26]
    content = {
        "images": [{"id": 1, "width": 128, "height": 128, "file_name": "1.png"}],
        "annotations": [{"id": 0, "image_id": 1, "category_id": 1, "segmentation": [box], "area": 240}],
        "categories": [{"id": number, "name": f"name {number}"} for number in range(1, 27)],
    }
    annotations = images.parent / "annotations" / "train.json"
    annotations.parent.mkdir()
    annotations.write_text(json.dumps(content))
    assert data_prep(["arcade", "--source", "published", "--output", "arcade %z"]) == 0
    assert len(json.loads((folder / "arcade %z" / "datalist.json").read_text())["training"]) == 1
