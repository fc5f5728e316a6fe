"""Every config of the segmentation bundle, run on tiny drawn frames."""

import csv
import json
import logging
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow
from monai.bundle.scripts import run
from PIL import Image
from safetensors.torch import load_file
from skimage.draw import line

from cmunet_monai.engines.handlers import StopOnNonFiniteLoss
from cmunet_monai.networks import UNet, save_unet_weights
from data_prep.__main__ import main as data_prep
from data_prep.synthetic.cine import synthesize_cine
from data_prep.synthetic.xa_file import write_xa

ROOT = Path(__file__).parents[2]
BUNDLE = ROOT / "bundles" / "coronary_xa_segmentation"
CONFIGS = BUNDLE / "configs"
CHANNELS = [4, 8, 16]
TINY = {"channels": CHANNELS, "image_size": [64, 64], "num_workers": 0, "device": "$torch.device('cpu')"}
SPACING_MM = 0.3


def draw_frame(height, width, rng):
    """A bright noisy frame with one dark vessel of 5 px across it, and the vessel's mask; both (H, W)."""
    mask = np.zeros((height, width), bool)
    start, stop = rng.integers(8, height - 8, 2)
    for shift in range(-2, 3):
        rows, columns = line(start + shift, 4, stop + shift, width - 5)
        mask[rows, columns] = True
    frame = 150 + 6 * rng.standard_normal((height, width)) - 70 * mask
    return frame.clip(0, 255).astype(np.uint8), mask


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Six frames, the first of another size and with a pixel spacing; 4 to train on, 2 to validate, 3 to test."""
    folder = tmp_path_factory.mktemp("dataset")
    rng = np.random.default_rng(0)
    rows = []
    for number in range(6):
        frame, mask = draw_frame(*((48, 80) if number == 0 else (64, 64)), rng)
        for name, array in (("images", frame), ("labels", mask.astype(np.uint8) * 255)):
            (folder / name).mkdir(exist_ok=True)
            Image.fromarray(array).save(folder / name / f"f{number}.png")
        rows.append(
            {
                "id": f"f{number}",
                "image": f"images/f{number}.png",
                "label": f"labels/f{number}.png",
                "group": f"g{number // 2}",
                "spacing_mm": SPACING_MM if number == 0 else None,
                "spacing_source": "test" if number == 0 else "unknown",
            }
        )
    lists = {"pretraining": [], "training": rows[2:], "validation": rows[:2], "test": rows[:3]}
    (folder / "datalist.json").write_text(json.dumps(lists))
    (folder / "final.json").write_text(json.dumps(lists | {"validation": []}))
    return folder


def run_bundle(*configs, **overrides):
    """`python -m monai.bundle run` in this process."""
    run(
        config_file=[str(CONFIGS / f"{name}.json") for name in configs],
        logging_file=False,
        bundle_root=str(BUNDLE),
        **(TINY | {key: str(value) if isinstance(value, Path) else value for key, value in overrides.items()}),
    )


def train(dataset, output_dir, **overrides):
    run_bundle(
        "train", **({"dataset_dir": dataset, "output_dir": output_dir, "batch_size": 2, "max_epochs": 1} | overrides)
    )


def test_a_compiled_step_trains_as_a_plain_one(dataset, tmp_path):
    """By torch's own operations behind the compiler's front, which needs no C++ compiler; in a process of its own."""
    train(dataset, tmp_path / "plain", max_epochs=2)
    overrides = TINY | {"dataset_dir": dataset, "max_epochs": 2, "batch_size": 2, "compile": True}
    overrides["train#trainer#compile_kwargs"] = {"backend": "aot_eager", "dynamic": False}
    words = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(CONFIGS / "train.json")]
    words += [item for key, value in overrides.items() for item in (f"--{key}", str(value))]
    words += ["--output_dir", str(tmp_path / "compiled")]
    subprocess.run(words, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True, capture_output=True)
    plain, compiled = (
        [float(row["loss"]) for row in read_csv(tmp_path / name / "train.csv")] for name in ("plain", "compiled")
    )
    assert compiled == pytest.approx(plain, rel=1e-4)


@pytest.fixture(scope="module")
def trained(dataset, tmp_path_factory):
    """The output folder of a run of 10 epochs with validation after every second one."""
    output = tmp_path_factory.mktemp("trained")
    train(dataset, output, max_epochs=10, val_interval=2, learning_rate=0.02)
    return output


def read_csv(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def read_png(path):
    return np.asarray(Image.open(path))


def numpy_dice(mask, label):
    return 2 * (mask & label).sum() / (mask.sum() + label.sum())


def test_every_file_of_a_run_is_written(trained):
    for name in ("model.safetensors", "model_best.safetensors", "checkpoint.pt", "train.csv", "validation.csv"):
        assert (trained / name).is_file(), name
    sidecar = json.loads((trained / "model.json").read_text())
    assert sidecar["architecture"]["channels"] == CHANNELS
    assert sidecar["epoch"] == 10
    assert list((trained / "tensorboard").iterdir())


def test_training_learns_to_mark_a_dark_line(trained):
    rows = read_csv(trained / "validation.csv")
    assert [row["epoch"] for row in rows] == ["2", "4", "6", "8", "10"]
    assert float(rows[-1]["mean_dice"]) > 0.5
    losses = [float(row["loss"]) for row in read_csv(trained / "train.csv")]
    assert losses[-1] < 0.7 * losses[0]


def test_best_weights_are_those_of_the_best_validation(trained):
    rows = read_csv(trained / "validation.csv")
    best = max(rows, key=lambda row: float(row["mean_dice"]))
    assert json.loads((trained / "model_best.json").read_text())["epoch"] == int(best["epoch"])


def test_one_cycle_peaks_at_the_learning_rate_and_ends_near_zero(dataset, tmp_path):
    train(dataset, tmp_path, max_epochs=10, batch_size=4, learning_rate=0.01, datalist=dataset / "final.json")
    rates = [float(row["learning_rate"]) for row in read_csv(tmp_path / "train.csv")]
    assert max(rates) == pytest.approx(0.01, rel=0.15)
    assert rates[-1] < 0.001


def test_without_validation_rows_nothing_is_validated(dataset, tmp_path):
    train(dataset, tmp_path, datalist=dataset / "final.json")
    assert (tmp_path / "model.safetensors").is_file()
    assert not (tmp_path / "validation.csv").exists()
    assert not (tmp_path / "model_best.safetensors").exists()


def test_an_interrupted_run_ends_bit_equal_to_an_uninterrupted_one(dataset, tmp_path, monkeypatch):
    train(dataset, tmp_path / "whole", max_epochs=4)

    def interrupt(self, engine):
        if engine.state.iteration == 6:  # 2 iterations an epoch: in the middle of the third
            raise InterruptedError("stopped here")

    monkeypatch.setattr(StopOnNonFiniteLoss, "__call__", interrupt)
    with pytest.raises(RuntimeError) as error:
        train(dataset, tmp_path / "parts", max_epochs=4)
    monkeypatch.undo()
    assert isinstance(error.value.__cause__, InterruptedError)
    assert not (tmp_path / "parts" / "model.safetensors").exists()
    train(dataset, tmp_path / "parts", max_epochs=4, num_workers=1)
    whole, parts = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "parts"))
    assert all(torch.equal(whole[key], parts[key]) for key in whole)
    assert read_csv(tmp_path / "whole" / "validation.csv") == read_csv(tmp_path / "parts" / "validation.csv")
    assert [row["epoch"] for row in read_csv(tmp_path / "parts" / "train.csv")] == ["1", "2", "3", "4"]


def test_a_finished_run_started_again_changes_nothing(dataset, tmp_path):
    train(dataset, tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.glob("*.*")}
    train(dataset, tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.glob("*.*")} == before


def test_another_seed_gives_other_weights(dataset, tmp_path):
    for seed in (0, 1):
        train(dataset, tmp_path / str(seed), seed=seed, datalist=dataset / "final.json")
    weights = [load_file(tmp_path / str(seed) / "model.safetensors")["head.weight"] for seed in (0, 1)]
    assert not torch.equal(*weights)


def test_fine_tuning_starts_from_the_pretrained_weights_and_says_how_many(dataset, tmp_path, caplog):
    torch.manual_seed(7)
    pretrained = UNet(channels=CHANNELS)
    save_unet_weights(pretrained, tmp_path / "pretrained.safetensors", parts=("encoder", "decoder"))
    keys = [key for key in pretrained.state_dict() if not key.startswith("head")]
    with caplog.at_level(logging.INFO):
        train(
            dataset,
            tmp_path,
            pretrained_weights=tmp_path / "pretrained.safetensors",
            learning_rate=1e-9,  # too small to change anything
            datalist=dataset / "final.json",
        )
    assert f"{len(keys)} keys loaded, 0 skipped, 2 left as initialised" in caplog.text
    result = load_file(tmp_path / "model.safetensors")
    for key in keys:
        if key.endswith((".weight", ".bias")):
            torch.testing.assert_close(result[key], pretrained.state_dict()[key], atol=1e-6, rtol=0)


def test_training_from_scratch_says_so(dataset, tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        train(dataset, tmp_path, datalist=dataset / "final.json")
    assert "training from scratch" in caplog.text


def test_pretrained_weights_of_other_channels_are_refused(dataset, tmp_path):
    save_unet_weights(UNet(channels=[5, 10, 20]), tmp_path / "other.safetensors", parts=("encoder", "decoder"))
    with pytest.raises(RuntimeError) as error:
        train(dataset, tmp_path, pretrained_weights=tmp_path / "other.safetensors")
    assert "channels" in str(error.value.__cause__)


def test_bfloat16_training_writes_float32_weights(dataset, tmp_path):
    train(dataset, tmp_path, amp_dtype="bfloat16", datalist=dataset / "final.json")
    weights = load_file(tmp_path / "model.safetensors")
    assert weights["head.weight"].dtype == torch.float32
    assert math.isfinite(float(read_csv(tmp_path / "train.csv")[0]["loss"]))


@pytest.fixture(scope="module")
def evaluation(dataset, trained, tmp_path_factory):
    output = tmp_path_factory.mktemp("evaluation")
    run_bundle("evaluate", dataset_dir=dataset, weights=trained / "model.safetensors", output_dir=output)
    return output


def test_evaluated_dice_and_iou_are_those_of_the_written_masks(dataset, evaluation):
    rows = read_csv(evaluation / "per_image.csv")
    assert [(row["id"], row["group"]) for row in rows] == [("f0", "g0"), ("f1", "g0"), ("f2", "g1")]
    for row in rows:
        mask, label = (read_png(path / f"{row['id']}.png") > 0 for path in (evaluation / "masks", dataset / "labels"))
        assert mask.shape == label.shape
        assert float(row["dice"]) == pytest.approx(numpy_dice(mask, label), abs=1e-5)
        assert float(row["iou"]) == pytest.approx((mask & label).sum() / (mask | label).sum(), abs=1e-5)


def test_validation_during_training_measures_as_the_evaluation_does(dataset, trained, tmp_path):
    run_bundle(
        "evaluate", dataset_dir=dataset, weights=trained / "model.safetensors", output_dir=tmp_path, split="validation"
    )
    rows = read_csv(tmp_path / "per_image.csv")
    mean = sum(float(row["dice"]) for row in rows) / len(rows)
    assert float(read_csv(trained / "validation.csv")[-1]["mean_dice"]) == pytest.approx(mean, abs=1e-5)


def test_lengths_in_mm_are_given_where_the_spacing_is_known(evaluation):
    first, second, _ = read_csv(evaluation / "per_image.csv")
    assert float(first["artery_diameter_reference_mm"]) == pytest.approx(
        SPACING_MM * float(first["artery_diameter_reference_px"]), rel=1e-4
    )
    assert second["artery_diameter_reference_mm"] == ""


def test_summary_is_that_of_the_table(evaluation):
    summary = json.loads((evaluation / "summary.json").read_text())
    rows = read_csv(evaluation / "per_image.csv")
    dice = np.array([float(row["dice"]) for row in rows])
    found = summary["metrics"]["dice"]
    assert found["mean"] == pytest.approx(dice.mean(), abs=1e-5)
    assert found["percentile_5"] == pytest.approx(np.percentile(dice, 5), abs=1e-5)
    assert found["failure_rate"] == pytest.approx((dice < 0.5).mean())
    assert found["interval_95"][0] <= found["mean"] <= found["interval_95"][1]
    assert (summary["images"], summary["groups"], found["undefined"]) == (3, 2, 0)
    assert summary["look_at"]["best"] == rows[int(dice.argmax())]["id"]
    assert summary["look_at"]["worst"] == rows[int(dice.argmin())]["id"]
    assert summary["look_at"]["failing"] == [row["id"] for row in rows if float(row["dice"]) < 0.5]
    assert summary["agreement"]["diameter_px"]["pearson"]["n"] <= 3


def test_overlays_are_upright_and_enlarged_with_a_strip_for_the_legend(evaluation):
    height, width, _ = read_png(evaluation / "overlays" / "f0.png").shape
    assert width == 80 * 22  # the shorter side, 48, is enlarged by the least whole factor that reaches 1024
    assert height > 48 * 22


def test_a_blank_prediction_is_a_failure_with_undefined_lengths(dataset, tmp_path):
    network = UNet(channels=CHANNELS)
    torch.nn.init.zeros_(network.head.weight)
    network.head.bias.data = torch.tensor([1.0, -1.0])
    save_unet_weights(network, tmp_path / "blank.safetensors")
    run_bundle("evaluate", dataset_dir=dataset, weights=tmp_path / "blank.safetensors", output_dir=tmp_path)
    assert all(row["dice"] == "0" and row["artery_diameter_px"] == "" for row in read_csv(tmp_path / "per_image.csv"))
    metrics = json.loads((tmp_path / "summary.json").read_text())["metrics"]
    assert metrics["dice"]["failure_rate"] == 1.0
    assert metrics["artery_diameter_px"]["mean"] is None
    assert metrics["artery_diameter_px"]["undefined"] == 3


def test_an_empty_list_is_refused_by_evaluation(dataset, trained, tmp_path):
    with pytest.raises(RuntimeError) as error:
        run_bundle(
            "evaluate",
            dataset_dir=dataset,
            weights=trained / "model.safetensors",
            output_dir=tmp_path,
            split="pretraining",
        )
    assert "`pretraining`" in str(error.value.__cause__)


def test_pretrained_weights_without_a_head_are_not_evaluated(dataset, tmp_path):
    save_unet_weights(UNet(channels=CHANNELS), tmp_path / "headless.safetensors", parts=("encoder", "decoder"))
    with pytest.raises(RuntimeError) as error:
        run_bundle("evaluate", dataset_dir=dataset, weights=tmp_path / "headless.safetensors", output_dir=tmp_path)
    assert "does not fit this network" in str(error.value.__cause__)


@pytest.fixture
def frames(tmp_path):
    """One frame of 80 x 48 with a dark box as PNG and as NIfTI (same name), and a square one in a folder below."""
    folder = tmp_path / "frames"
    (folder / "later").mkdir(parents=True)
    rng = np.random.default_rng(1)
    frame = (150 + 4 * rng.standard_normal((48, 80))).astype(np.uint8)
    frame[20:30, 52:68] = 60
    Image.fromarray(frame).save(folder / "a.png")
    Image.fromarray(frame[:, :48]).save(folder / "later" / "b.png")
    affine = np.array([[0, -0.3, 0, 5], [0.25, 0, 0, 6], [0, 0, 1, 7], [0, 0, 0, 1.0]])
    nib.save(nib.Nifti1Image(frame.T.astype(np.int16), affine), folder / "a.nii.gz")
    (folder / "notes.txt").write_text("not a frame")
    return folder


def infer(frames, weights, output_dir, **overrides):
    run_bundle("inference", dataset_dir=frames, weights=weights, output_dir=output_dir, **overrides)


def test_masks_lie_where_the_structure_is_in_the_frame(frames, tmp_path, dark_detector):
    infer(frames, dark_detector, tmp_path / "out")
    box = np.zeros((48, 80), bool)
    box[20:30, 52:68] = True
    mask = read_png(tmp_path / "out" / "masks" / "a.png")
    assert set(np.unique(mask)) == {0, 255}
    assert mask.shape == (48, 80)
    assert numpy_dice(mask > 0, box) > 0.85


def test_a_nifti_mask_has_the_affine_and_array_of_its_frame(frames, tmp_path, dark_detector):
    infer(frames, dark_detector, tmp_path / "out")
    mask, frame = (nib.load(path) for path in (tmp_path / "out" / "masks" / "a.nii.gz", frames / "a.nii.gz"))
    np.testing.assert_array_equal(mask.affine, frame.affine)
    assert mask.header.get_zooms() == frame.header.get_zooms()
    assert mask.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(np.asarray(mask.dataobj).T * 255, read_png(tmp_path / "out" / "masks" / "a.png"))


def test_every_frame_gives_one_mask_and_one_overlay_and_a_second_run_the_same(frames, tmp_path, dark_detector):
    output = frames / "out"
    expected = {"segments.csv", "statistics.json", ".cmunet_monai", ".predict.lock"}
    expected |= {f"masks/{name}" for name in ("a.png", "a.nii.gz", "later/b.png")}
    expected |= {f"overlays/{name}" for name in ("a.png", "a.nii.gz.png", "later/b.png")}
    expected |= {f"records/{name}.json" for name in ("a.png", "a.nii.gz", "later/b.png")}
    for _ in range(2):  # the second run must not take the first one's masks for frames
        infer(frames, dark_detector, output)
        assert {path.relative_to(output).as_posix() for path in output.rglob("*") if path.is_file()} == expected


def test_a_dicom_run_gives_the_mask_of_the_frame_that_ingestion_writes(tmp_path, dark_detector):
    cine = synthesize_cine(0, 1, 0, size=96, frames=16, contrast=True)
    write_xa(tmp_path / "export" / "IM0", cine.frames, cine.facts)
    key = tmp_path / "key"
    export, data = str(tmp_path / "export"), tmp_path / "data"
    assert data_prep(["dicom", "--source", export, "--output", str(data), "--key", str(key), "--workers", "1"]) == 0
    infer(data / "images", dark_detector, tmp_path / "from_nifti")
    infer(export, dark_detector, tmp_path / "from_dicom", key=str(key))
    (mask,) = (tmp_path / "from_nifti" / "masks").glob("*.nii.gz")
    other = tmp_path / "from_dicom" / "masks" / mask.name
    assert np.asarray(nib.load(mask).dataobj).sum() > 50
    np.testing.assert_array_equal(np.asarray(nib.load(mask).dataobj), np.asarray(nib.load(other).dataobj))
    np.testing.assert_array_equal(nib.load(mask).affine, nib.load(other).affine)
    assert (tmp_path / "from_dicom" / "overlays" / mask.name.replace(".nii.gz", ".png")).is_file()


def test_inference_runs_from_another_working_directory(frames, tmp_path, monkeypatch, dark_detector):
    (tmp_path / "bundle" / "models").mkdir(parents=True)
    shutil.copy(dark_detector, tmp_path / "bundle" / "models" / "model.safetensors")
    shutil.copytree(CONFIGS, tmp_path / "bundle" / "configs")
    monkeypatch.chdir(tmp_path)
    run(
        config_file="bundle/configs/inference.json",
        logging_file=False,
        **(TINY | {"bundle_root": "bundle", "dataset_dir": "frames"}),
    )
    assert (tmp_path / "bundle" / "inference" / "masks" / "a.png").is_file()


def test_a_folder_without_frames_and_missing_weights_are_named(frames, tmp_path, dark_detector):
    with pytest.raises(RuntimeError) as error:
        infer(frames, tmp_path / "none.safetensors", tmp_path / "out")
    assert "none.safetensors" in str(error.value.__cause__)
    (tmp_path / "empty").mkdir()
    with pytest.raises(RuntimeError) as error:
        infer(tmp_path / "empty", dark_detector, tmp_path / "out")
    assert "no frame" in str(error.value.__cause__)


def test_the_command_line_shows_where_the_weights_come_from(dataset, tmp_path):
    """The whole command as in the README, from another folder, with the overlay of the paper's scale."""
    overrides = TINY | {"dataset_dir": dataset, "output_dir": tmp_path / "out", "max_epochs": 1, "batch_size": 4}
    result = subprocess.run(
        [sys.executable, "-m", "monai.bundle", "run"]
        + ["--config_file", f"['{CONFIGS}/train.json', '{CONFIGS}/paper.json']"]
        + [item for key, value in overrides.items() for item in (f"--{key}", str(value))],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert "training from scratch" in result.stdout
    assert (tmp_path / "out" / "model.safetensors").is_file()


def test_two_processes_train_together_and_only_the_first_writes(dataset, tmp_path):
    overrides = TINY | {"dataset_dir": dataset, "output_dir": tmp_path}
    overrides |= {"max_epochs": 2, "val_interval": 1, "batch_size": 1}
    del overrides["device"]
    result = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
        + ["-m", "monai.bundle", "run"]
        + ["--config_file", f"['{CONFIGS}/train.json', '{CONFIGS}/multi_gpu_train.json']"]
        + [item for key, value in overrides.items() for item in (f"--{key}", str(value))],
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    rows = read_csv(tmp_path / "train.csv")
    assert [row["epoch"] for row in rows] == ["1", "2"]
    checkpoint = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert checkpoint["iteration"] == 4  # 4 frames, 2 processes, batches of 1: 2 iterations an epoch
    assert len(read_csv(tmp_path / "validation.csv")) == 2
    assert len(list((tmp_path / "tensorboard").iterdir())) == 2  # the trainer's and the evaluator's, of one process


@pytest.mark.parametrize(
    "configs, kind",
    [
        (["train"], "train"),
        (["train", "paper"], "train"),
        (["evaluate"], "infer"),
        (["inference"], "infer"),
        (["inference", "paper"], "infer"),
    ],
)
def test_monai_finds_every_property_that_it_requires(dataset, trained, tmp_path, configs, kind):
    workflow = ConfigWorkflow(
        config_file=[str(CONFIGS / f"{name}.json") for name in configs],
        workflow_type=kind,
        logging_file=False,
        bundle_root=str(BUNDLE),
        dataset_dir=str(dataset),
        output_dir=str(tmp_path),
        weights=str(trained / "model.safetensors"),
        **TINY,
    )
    workflow.initialize()
    assert workflow.check_properties() == []


def test_the_model_zoo_and_monai_label_find_their_keys():
    parser = ConfigParser()
    parser.read_config(str(CONFIGS / "train.json"))
    for key in (
        "network_def",
        "network",
        "output_dir",
        "val_interval",
        "train#dataset#data",
        "train#trainer#max_epochs",
        "validate#dataset#data",
        "validate#evaluator",
        "validate#handlers",
        "validate#key_metric",
    ):
        assert parser.get(key) is not None, key
    assert all(isinstance(handler, dict) for handler in parser["train"]["handlers"])
    assert parser["run"] == ["$@train#trainer.run()"]
    parser.read_config(str(CONFIGS / "inference.json"))
    assert isinstance(parser["network_def"], dict)
    assert {"preprocessing", "postprocessing", "inferer", "device"} <= set(parser.config)


@pytest.mark.parametrize("overlay", ["paper", "multi_gpu_train"])
def test_overlays_change_what_there_is_and_add_nothing(overlay):
    parser = ConfigParser()
    parser.read_config(str(CONFIGS / "train.json"))
    changes = ConfigParser.load_config_file(str(CONFIGS / f"{overlay}.json"))
    allowed = {"finalize"}
    for key in changes:
        parent = key.rpartition("#")[0] if key.endswith("#_disabled_") else key
        assert key in allowed or parser.get(parent) is not None or parent in parser.config, key


def test_training_evaluation_and_inference_prepare_a_frame_in_the_same_way():
    def image_steps(transforms):
        steps = [step for step in transforms if "image" in step["keys"] and step["_target_"] != "SelectItemsd"]
        return [
            {key: value for key, value in step.items() if key not in ("keys", "_desc_", "allow_missing_keys")}
            for step in steps
            if step["_target_"] not in ("CopyItemsd", "EnsureTyped")
        ]

    train_config, evaluate, inference = (
        ConfigParser.load_config_file(str(CONFIGS / f"{name}.json")) for name in ("train", "evaluate", "inference")
    )
    expected = image_steps(train_config["train"]["deterministic_transforms"])
    assert len(expected) == 6
    assert image_steps(train_config["validate"]["preprocessing"]["transforms"]) == expected
    assert image_steps(evaluate["preprocessing"]["transforms"]) == expected
    # frames of DICOM too: `LoadFramed` reads the others by the reader of the first step
    assert image_steps(inference["preprocessing"]["transforms"])[1:] == expected[1:]
