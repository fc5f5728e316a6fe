import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cmunet_monai.study import read_study, run_study
from cmunet_monai.study.command import main

RATES = [0.001, 0.01]


@pytest.fixture
def plan(tmp_path):
    """A study of two methods on two draws whose files exist but hold nothing: runs are played by `Runs`."""
    (tmp_path / "bundle" / "configs").mkdir(parents=True)
    (tmp_path / "unet.safetensors").touch()
    for draw in ("draw_0", "draw_1"):
        (tmp_path / draw).mkdir()
        for name in ("fold_0", "fold_1", "fold_2", "final"):
            (tmp_path / draw / f"{name}.json").write_text("{}")
    settings = {
        "bundle_root": str(tmp_path / "bundle"),
        "dataset_dir": str(tmp_path),
        "output_dir": str(tmp_path / "out"),
        "methods": {"none": None, "cm_unet": str(tmp_path / "unet.safetensors")},
        "draws": [str(tmp_path / "draw_0"), str(tmp_path / "draw_1")],
        "learning_rates": RATES,
        "max_epochs": 6,
        "choice_epochs": 4,
        "overrides": {"num_workers": 0},
    }
    path = tmp_path / "study.json"
    path.write_text(json.dumps(settings))
    return path


class Runs:
    """Plays the bundle: a Dice in the folds that depends on the rate, and a table after an evaluation."""

    def __init__(self, dice, stop_after=None):
        self.dice = dice
        self.stop_after = stop_after
        self.calls = []

    def __call__(self, configs, overrides):
        if self.stop_after is not None and len(self.calls) >= self.stop_after:
            raise KeyboardInterrupt
        self.calls.append((configs[0].name, dict(overrides)))
        output = Path(overrides["output_dir"])
        output.mkdir(parents=True, exist_ok=True)
        if configs[0].name == "train.json":
            (output / "model.safetensors").write_text(str(overrides))
        if "val_interval" in overrides:
            dice = self.dice(overrides)
            (output / "validation.csv").write_text(f"epoch,mean_dice\n2,0.9\n{overrides['max_epochs']},{dice}\n")
        elif configs[0].name == "evaluate.json":
            (output / "per_image.csv").write_text("id,group,dice\na,a,0.5\n")


def test_the_rate_with_the_best_mean_over_the_folds_is_taken_for_the_final_fit(plan):
    def dice(overrides):
        fold = int(overrides["datalist"][-6])
        table = {("none", 0.001): (0.1, 0.2, 0.9), ("none", 0.01): (0.3, 0.3, 0.3)}  # means 0.4 and 0.3
        method = "cm_unet" if overrides["pretrained_weights"] else "none"
        return table.get((method, overrides["learning_rate"]), (overrides["learning_rate"],) * 3)[fold]

    runs = Runs(dice)
    cells = run_study(read_study(plan), run=runs)
    assert [(cell.method, cell.draw, cell.learning_rate) for cell in cells] == [
        ("none", 0, 0.001),
        ("cm_unet", 0, 0.01),
        ("none", 1, 0.001),
        ("cm_unet", 1, 0.01),
    ]
    assert cells[0].choices == pytest.approx({0.001: 0.4, 0.01: 0.3})
    finals = [call for name, call in runs.calls if name == "train.json" and "val_interval" not in call]
    assert [(call["learning_rate"], call["max_epochs"]) for call in finals[:2]] == [(0.001, 6), (0.01, 6)]


def test_methods_differ_in_their_start_alone(plan):
    runs = Runs(lambda _: 0.5)
    run_study(read_study(plan), run=runs)
    by_method = {"none": [], "cm_unet": []}
    for name, call in runs.calls:
        method = next(m for m in by_method if m in Path(call["output_dir"]).parts)
        kept = {k: v for k, v in call.items() if k not in ("pretrained_weights", "output_dir", "weights")}
        by_method[method].append((name, kept))
    assert by_method["none"] == by_method["cm_unet"]
    assert len(by_method["none"]) == 2 * (3 * 2 + 2)


def test_choices_never_see_the_test_list_and_draws_have_their_own_seed(plan):
    runs = Runs(lambda _: 0.5)
    run_study(read_study(plan), run=runs)
    for name, call in runs.calls:
        datalist = Path(call["datalist"])
        assert (datalist.name == "final.json") == ("val_interval" not in call)
        if name == "train.json":
            assert call["seed"] == int(datalist.parent.name[-1])


def test_an_interrupted_study_goes_on_where_it_was(plan):
    whole = Runs(lambda _: 0.5)
    run_study(read_study(plan), run=whole)
    table = (plan.parent / "out" / "cells.csv").read_text()
    for path in sorted((plan.parent / "out").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    first = Runs(lambda _: 0.5, stop_after=5)
    with pytest.raises(KeyboardInterrupt):
        run_study(read_study(plan), run=first)
    second = Runs(lambda _: 0.5)
    run_study(read_study(plan), run=second)
    assert first.calls + second.calls == whole.calls
    assert (plan.parent / "out" / "cells.csv").read_text() == table


def test_a_finished_run_with_other_settings_is_not_taken_for_this_one(plan):
    run_study(read_study(plan), run=Runs(lambda _: 0.5))
    settings = json.loads(plan.read_text()) | {"choice_epochs": 5}
    plan.write_text(json.dumps(settings))
    with pytest.raises(ValueError, match="finished run with another max_epochs, val_interval"):
        run_study(read_study(plan), run=Runs(lambda _: 0.5))


def test_a_validation_that_is_not_of_the_last_epoch_is_refused(plan):
    def stale(configs, overrides):
        Path(overrides["output_dir"]).mkdir(parents=True)
        (Path(overrides["output_dir"]) / "validation.csv").write_text("epoch,mean_dice\n2,0.9\n")

    with pytest.raises(RuntimeError, match="ends at epoch 2, expected 4"):
        run_study(read_study(plan), run=stale)


def test_cells_say_what_was_chosen_from_what(plan):
    run_study(read_study(plan), run=Runs(lambda overrides: overrides["learning_rate"]))
    with (plan.parent / "out" / "cells.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert rows[1] == {
        "method": "cm_unet",
        "draw": "0",
        "learning_rate": "0.01",
        "dice_in_folds_at_0.001": "0.0010",
        "dice_in_folds_at_0.01": "0.0100",
        "per_image": "draw_0/cm_unet/evaluation/per_image.csv",
    }


def test_mistakes_in_the_file_are_named(plan):
    settings = json.loads(plan.read_text())
    plan.write_text(json.dumps(settings | {"epochs": 3}))
    with pytest.raises(ValueError, match=r"unknown settings \['epochs'\]"):
        read_study(plan)
    plan.write_text(json.dumps({k: v for k, v in settings.items() if k != "draws"}))
    with pytest.raises(ValueError, match=r"missing settings \['draws'\]"):
        read_study(plan)
    plan.write_text(json.dumps(settings | {"methods": {"cm_unet": "absent.safetensors"}}))
    with pytest.raises(FileNotFoundError, match=r"absent\.safetensors"):
        read_study(plan)
    plan.write_text("{")
    with pytest.raises(ValueError, match="not JSON"):
        read_study(plan)
    with pytest.raises(FileNotFoundError, match="no study at"):
        read_study(plan.parent / "absent.json")


def test_overrides_that_the_study_sets_itself_are_refused(plan):
    plan.write_text(json.dumps(json.loads(plan.read_text()) | {"overrides": {"seed": 3, "lambda_ce": 2}}))
    with pytest.raises(ValueError, match="may not hold seed, which the study sets itself"):
        read_study(plan)


def test_weights_made_anew_under_the_same_name_are_noticed(plan):
    run_study(read_study(plan), run=Runs(lambda _: 0.5))
    (plan.parent / "unet.safetensors").write_bytes(b"new")
    with pytest.raises(ValueError, match="finished run with another pretrained_weights_sha256"):
        run_study(read_study(plan), run=Runs(lambda _: 0.5))


WRONG = [
    ("methods", {}, "names of letters"),
    ("methods", {"a/b": None}, "names of letters"),
    ("methods", {"a": 3}, "names of letters"),
    ("draws", "draw_0", "a list of folders"),
    ("learning_rates", [], "a list of positive numbers"),
    ("learning_rates", ["0.1"], "a list of positive numbers"),
    ("max_epochs", "6", "a positive whole number"),
    ("choice_epochs", 0, "a positive whole number or null"),
    ("configs", "train.json", "a list of file names"),
    ("overrides", [], "a JSON object"),
    ("output_dir", 5, "a folder"),
]


@pytest.mark.parametrize("name, value, expected", WRONG)
def test_a_setting_of_another_kind_is_named(plan, name, value, expected):
    plan.write_text(json.dumps(json.loads(plan.read_text()) | {name: value}))
    with pytest.raises(ValueError, match=f"`{name}` must be {expected}.*, got "):
        read_study(plan)


@pytest.fixture
def real(plan):
    """The study on the real bundle, with a frame and its label for each list."""
    rows = {}
    for number, name in enumerate(("training", "validation", "test")):
        Image.fromarray(np.full((8, 8), number, np.uint8)).save(plan.parent / f"{name}.png")
        rows[name] = [{"id": name, "image": f"{name}.png", "label": f"{name}.png", "group": name}]
    for path in plan.parent.glob("draw_*/*.json"):
        path.write_text(json.dumps(rows))
    bundle = Path(__file__).parents[2] / "bundles" / "coronary_xa_segmentation"
    plan.write_text(json.dumps(json.loads(plan.read_text()) | {"bundle_root": str(bundle)}))
    return plan


def test_a_dry_run_says_what_would_run_and_runs_nothing(real, capsys):
    plan = real
    assert main([str(plan), "--dry-run"]) == 0
    assert "4 cells (2 draws x 2 methods), each with 6 runs of 4 epochs" in capsys.readouterr().out
    assert not (plan.parent / "out").exists()


def test_a_mistyped_override_is_named_before_anything_runs(real, capsys):
    settings = json.loads(real.read_text()) | {"overrides": {"lamda_ce": 2}}
    real.write_text(json.dumps(settings))
    assert main([str(real)]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 2  # in training and in evaluation, each with its nearest id
    assert "lamda_ce" in errors[0]
    assert "lambda_ce" in errors[0]
    assert not (real.parent / "out").exists()
