"""The commands that the README shows, run as they stand there, with small numbers in place of large ones."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel

from cmunet_monai.pseudonyms import Pseudonyms

ROOT = Path(__file__).parents[1]
TRAINING = re.compile(r"(\$PRE/configs/compact\.json'\]\"|\$SEG/configs/train\.json)")


def shown_commands(title):
    """The bash block below a heading of the README, cut at its numbered steps."""
    section = (ROOT / "README.md").read_text(encoding="utf-8").split(f"\n## {title}\n")[1]
    block = re.search(r"```bash\n(.*?)```", section, re.DOTALL)[1]
    start, *steps = re.split(r"^# \d+\. .*\n", block, flags=re.MULTILINE)
    return [start, *(small(step) for step in steps)]


def small(step):
    """A step with images of 64 x 64 and one epoch."""
    step = TRAINING.sub(r"\1 --max_epochs 1 --batch_size 2 --num_workers 0", step)
    step = step.replace("$PRE --config", "$PRE --image_size [64,64] --view_size 48 --max_shift 8 --config")
    return step.replace("$SEG --config", "$SEG --image_size [64,64] --config")


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


def test_the_path_from_frames_to_masks_runs_as_shown(tmp_path):
    start, data, split, pretrain, finetune, measure, infer = shown_commands("From frames to measurements")
    synthetic = next(line for line in data.splitlines() if "synthesize" in line)  # ARCADE is not shipped
    synthetic = synthetic.replace("--frames 64 --size 256", "--frames 24 --size 64 --frames-per-patient 1") + "\n"
    split = split.replace("--finetune-images 12", "--finetune-images 6")
    run(tmp_path, start, synthetic, split)
    (tmp_path / "frames").mkdir()
    for path in sorted((tmp_path / "data" / "images").iterdir())[:3]:
        shutil.copy(path, tmp_path / "frames")
    said = run(tmp_path, start, pretrain, finetune, measure, infer)
    (hand_over,) = shown_commands("Handing a model over")
    run(tmp_path, hand_over.replace("-o results", "-o partner/results"))
    assert "starting from the pre-trained weights runs/pretraining/unet.safetensors" in said
    frames = sorted(path.name for path in (tmp_path / "frames").iterdir())
    assert sorted(path.name for path in (tmp_path / "results" / "masks").glob("*.png")) == frames
    with (tmp_path / "runs" / "evaluation" / "per_image.csv").open(newline="") as file:
        tested = json.loads((tmp_path / "splits" / "final.json").read_text())["test"]
        assert [row["id"] for row in csv.DictReader(file)] == [row["id"] for row in tested]


def test_the_path_from_an_export_to_a_trained_model_runs_as_shown(tmp_path):
    start, *_, pretrain, finetune, _, _ = shown_commands("From frames to measurements")
    _, cines, ingest, again, infer = shown_commands("From a cath lab's archive")
    sizes = (
        "--patients 8 --runs-per-patient 2 --frames 40 --size 256",
        "--patients 6 --runs-per-patient 2 --frames 16 --size 160",
    )
    run(tmp_path, cines.replace(*sizes), ingest)
    for row in json.loads((tmp_path / "data" / "datalist.json").read_text())["pretraining"]:
        label_as_drawn(tmp_path, row)
    run(tmp_path, start, again, pretrain, finetune)
    lists = json.loads((tmp_path / "splits" / "final.json").read_text())
    assert len(lists["training"]) == 6
    assert lists["pretraining"]
    sidecar = json.loads((tmp_path / "runs" / "finetuning" / "model.json").read_text())
    assert sidecar["pretrained_weights_sha256"] is not None
    run(tmp_path, start, infer.rstrip() + " || [ $? = 3 ]\n")  # runs without contrast agent are passed over
    # the same frames as ingestion chose, under the same pseudonyms; also of runs that wait for a person
    masks = {path.name.removesuffix(".nii.gz") for path in (tmp_path / "results" / "masks").glob("*.nii.gz")}
    assert masks >= {row["id"] for row in lists["training"] + lists["pretraining"]}


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
