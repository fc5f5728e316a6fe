"""Commands that the README and the documentation show, run as they stand there, with small numbers in place of large.

All other commands of the documentation are read by their parsers: `tests/docs/test_commands.py`.
"""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel
import pytest

from cmunet_monai.pseudonyms import Pseudonyms

ROOT = Path(__file__).parents[1]
TRAINING = re.compile(r"(\.json'\]\"|\$SEG/configs/train\.json)(?= )")
SMALL_CINES = (
    "--patients 8 --runs-per-patient 2 --frames 40 --size 256",
    "--patients 6 --runs-per-patient 2 --frames 16 --size 160",
)


def shown_commands(paper):
    """The bash blocks of a paper, each cut at its numbered steps."""
    blocks = re.findall(r"^```bash\n(.*?)^```", (ROOT / paper).read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return [[small(step) for step in re.split(r"^# \d+\. .*\n", block, flags=re.MULTILINE)] for block in blocks]


def small(step):
    """A step with images of 64 x 64 and one epoch."""
    batch_size = 4 if "mean_teacher" in step else 2  # two labelled frames and two unlabelled ones
    step = TRAINING.sub(rf"\1 --max_epochs 1 --batch_size {batch_size} --num_workers 0", step)
    step = re.sub(r"\$PRE (?=--)", "$PRE --image_size [64,64] ", step)
    if "painted_arteries" not in step:
        step = step.replace("[64,64]", "[64,64] --view_size 48 --max_shift 8")
    step = re.sub(r"\$SEG (?=--)", "$SEG --image_size [64,64] ", step)
    return step.replace("cmunet trees", "cmunet trees --trees 8 --size 64")


def run(folder, *steps):
    """Run steps in one shell; return what it says."""
    if not (folder / "bundles").exists():
        (folder / "bundles").symlink_to(ROOT / "bundles")
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-e"], input="".join(steps), cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout + done.stderr


def synthetic_frames(folder, data, frames):
    """A dataset folder, and three of its frames alone."""
    run(folder, f"cmunet synthesize --frames 24 --size 64 --frames-per-patient 1 --seed 0 -o {data}\n")
    (folder / frames).mkdir()
    for path in sorted((folder / data / "images").iterdir())[:3]:
        shutil.copy(path, folder / frames)
    return sorted(path.name for path in (folder / frames).iterdir())


def masks(folder, results):
    return sorted(path.name for path in (folder / results / "masks").iterdir())


@pytest.mark.timeout(600)  # ten programs, one after another
def test_readme_from_frames_to_a_package_that_is_accepted(tmp_path):
    _, (predict,), (train,), (hand_over,) = shown_commands("README.md")
    frames = synthetic_frames(tmp_path, "DATA", "FRAMES")
    (in_full,), _ = shown_commands("docs/how_to/hand_over.md")
    assert in_full.startswith(hand_over)  # then the partner's own frames
    train = train.replace("--finetune-images 18", "--finetune-images 6")
    said = run(tmp_path, predict, train, in_full)
    assert "starting from the pre-trained weights PAINTED/unet.safetensors" in said
    assert masks(tmp_path, "RESULTS") == masks(tmp_path, "NEW") == frames
    assert masks(tmp_path, "PARTNER/results") == frames


def test_get_started_leaves_a_mask_and_a_picture(tmp_path):
    _, (start,) = shown_commands("docs/get_started.md")
    run(tmp_path, start.replace("--frames 24 --size 384", "--frames 16 --size 160"))
    (mask,) = (tmp_path / "results" / "masks").glob("*.nii.gz")
    (picture,) = (tmp_path / "results" / "overlays").glob("*.png")
    assert mask.name.removesuffix(".nii.gz") == picture.stem
    assert (tmp_path / "results" / "segments.csv").is_file()


def test_the_path_from_frames_to_masks_runs_as_shown(tmp_path):
    start, _, split, pretrain, finetune, measure, predict = shown_commands("docs/how_to/train.md")[0]
    frames = synthetic_frames(tmp_path, "data", "frames")  # ARCADE is not shipped
    split = split.replace("--finetune-images 12", "--finetune-images 6")
    said = run(tmp_path, start, split, pretrain, finetune, measure, predict)
    assert "starting from the pre-trained weights runs/pretraining/unet.safetensors" in said
    assert masks(tmp_path, "results") == frames
    with (tmp_path / "runs" / "evaluation" / "per_image.csv").open(newline="") as file:
        tested = json.loads((tmp_path / "splits" / "final.json").read_text())["test"]
        assert [row["id"] for row in csv.DictReader(file)] == [row["id"] for row in tested]


def test_the_path_from_an_export_to_a_trained_model_runs_as_shown(tmp_path):
    start, *_, pretrain, finetune, _, _ = shown_commands("docs/how_to/train.md")[0]
    _, cines, ingest, again, predict = shown_commands("docs/how_to/archive.md")[0]
    run(tmp_path, cines.replace(*SMALL_CINES), ingest)
    for row in json.loads((tmp_path / "data" / "datalist.json").read_text())["pretraining"]:
        label_as_drawn(tmp_path, row)
    run(tmp_path, start, again, pretrain, finetune)
    lists = json.loads((tmp_path / "splits" / "final.json").read_text())
    assert len(lists["training"]) == 6
    assert lists["pretraining"]
    sidecar = json.loads((tmp_path / "runs" / "finetuning" / "model.json").read_text())
    assert sidecar["pretrained_weights_sha256"] is not None
    run(tmp_path, start, predict.rstrip() + " || [ $? = 3 ]\n")  # runs without contrast agent are passed over
    # the same frames as ingestion chose, under the same pseudonyms; also of runs that wait for a person
    found = {name.removesuffix(".nii.gz") for name in masks(tmp_path, "results")}
    assert found >= {row["id"] for row in lists["training"] + lists["pretraining"]}


def label_as_drawn(folder, row):
    """The true mask of a frame, where a person would put it."""
    names = Pseudonyms.open(folder / "data.key", output=folder / "data")
    with (folder / "data.key.map.csv").open(newline="") as file:
        originals = {line["pseudonym"]: line["original"] for line in csv.DictReader(file)}
    (source,) = (
        name for name in originals.values() if name.endswith(".dcm") and is_run(folder, names, name, row["run"])
    )
    truth = nibabel.load(folder / "export" / "masks" / f"{Path(source).stem}.nii.gz")
    affine = nibabel.load(folder / "data" / row["image"]).affine  # as programs that draw save a label
    label = nibabel.Nifti1Image(truth.get_fdata()[:, :, row["frame"] : row["frame"] + 1].astype("uint8"), affine)
    path = folder / "data" / "labels" / f"{row['id']}.nii.gz"
    path.parent.mkdir(exist_ok=True)
    nibabel.save(label, path)


def is_run(folder, names, source, run):
    with (folder / "data" / "files.csv").open(newline="") as file:
        return any(line["file"] == names.source(source) and line["run"] == run for line in csv.DictReader(file))
