import csv
import hashlib
import json
import math
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cmunet_monai.networks import file_digest
from cmunet_monai.study import Study, read_study, run_study
from cmunet_monai.study.command import main
from cmunet_monai.study.estimate import estimate
from cmunet_monai.study.record import read_records
from cmunet_monai.study.runner import cells_of, run_bundle, shard_of

RATES = [0.001, 0.01]
COMPARISON = Path(__file__).parents[2] / "docs/results/comparison"


@pytest.fixture
def plan(tmp_path):
    """A study of two methods on two draws whose files exist but hold nothing: runs are played by `Runs`."""
    (tmp_path / "bundle" / "configs").mkdir(parents=True)
    for name in ("train.json", "evaluate.json"):
        (tmp_path / "bundle" / "configs" / name).write_text("{}")
    (tmp_path / "unet.safetensors").touch()
    for draw in ("draw_0", "draw_1"):
        (tmp_path / draw).mkdir()
        for name in ("fold_0", "fold_1", "fold_2", "final"):
            rows = [{"image": f"{draw}_{name}.png"}]
            (tmp_path / draw / f"{name}.json").write_text(json.dumps({"training": rows, "validation": rows}))
    settings = {
        "bundle_root": str(tmp_path / "bundle"),
        "dataset_dir": str(tmp_path),
        "output_dir": str(tmp_path / "out"),
        "methods": {"none": None, "cm_unet": str(tmp_path / "unet.safetensors")},
        "labels": {
            "18": {
                "draws": [str(tmp_path / "draw_0"), str(tmp_path / "draw_1")],
                "max_epochs": 6,
                "choice_epochs": 4,
            }
        },
        "learning_rates": RATES,
        "overrides": {"num_workers": 0},
    }
    path = tmp_path / "study.json"
    path.write_text(json.dumps(settings))
    return path


def change(plan, **settings):
    plan.write_text(json.dumps(json.loads(plan.read_text()) | settings))


def change_labels(plan, **settings):
    labels = json.loads(plan.read_text())["labels"]
    change(plan, labels={"18": labels["18"] | settings})


class Runs:
    """Plays the bundles: a Dice in the folds that depends on the rate, and a table after an evaluation."""

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
        if configs[0].parent.parent.name == "pretraining_bundle":
            self.calls[-1] = (" ".join(config.name for config in configs), dict(overrides))
            (output / "unet.safetensors").write_text(str(overrides))
            (output / "training.csv").write_text("epoch,loss,steps,seconds\n1,0.75,4,2.5\n2,0.5,4,3.5\n")
        elif configs[0].name == "train.json":
            (output / "model.safetensors").write_text(str(overrides))
            (output / "model.json").write_text(json.dumps({"sha256": "abc", "epoch": 1}))
            (output / "train.csv").write_text("epoch,loss,steps,seconds\n1,0.5,3,10\n")
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
    assert [(cell.method, cell.draw) for cell in cells] == [("none", 0), ("cm_unet", 0), ("none", 1), ("cm_unet", 1)]
    rows = cell_rows(plan)
    assert [row["learning_rate"] for row in rows] == ["0.001", "0.01", "0.001", "0.01"]
    assert (rows[0]["dice_in_folds_at_0.001"], rows[0]["dice_in_folds_at_0.01"]) == ("0.4", "0.3")
    finals = [call for name, call in runs.calls if name == "train.json" and "val_interval" not in call]
    assert [(call["learning_rate"], call["max_epochs"]) for call in finals[:2]] == [(0.001, 6), (0.01, 6)]


def cell_rows(plan):
    with (plan.parent / "out" / "cells.csv").open() as file:
        return list(csv.DictReader(file))


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
    change_labels(plan, choice_epochs=5)
    with pytest.raises(ValueError, match="finished run with another max_epochs, val_interval"):
        run_study(read_study(plan), run=Runs(lambda _: 0.5))


@pytest.mark.parametrize("state, stop_after", [("finished", None), ("interrupted", 0)])
def test_a_run_with_another_config_is_not_taken_for_this_one(plan, state, stop_after):
    runs = Runs(lambda _: 0.5, stop_after=stop_after)
    if stop_after is None:
        run_study(read_study(plan), run=runs)
    else:
        with pytest.raises(KeyboardInterrupt):
            run_study(read_study(plan), run=runs)
    (plan.parent / "bundle" / "configs" / "train.json").write_text('{"weight_decay": 1}')
    with pytest.raises(ValueError, match=f"{state} run with another configs: move it away"):
        run_study(read_study(plan), run=Runs(lambda _: 0.5))


def test_a_run_that_fails_is_tried_once_and_what_does_not_need_it_is_finished(plan):
    tried = []

    def fails_for_cm_unet(configs, overrides):
        tried.append(overrides["output_dir"])
        if "cm_unet" in Path(overrides["output_dir"]).parts and overrides.get("learning_rate") == 0.01:
            raise RuntimeError(f"no {overrides['datalist'][-22:]}")
        Runs(lambda _: 0.5)(configs, overrides)

    change(plan, choose_once=True)
    with pytest.raises(RuntimeError, match=r"not everything could be run:\nno .*fold_0\.json$"):
        run_study(read_study(plan), run=fails_for_cm_unet)
    assert [(row["method"], row["draw"]) for row in cell_rows(plan)] == [("none", "0"), ("none", "1")]
    assert len(tried) == len(set(tried))
    run_study(read_study(plan), run=Runs(lambda _: 0.5))
    assert len(cell_rows(plan)) == 4


def test_the_plan_is_written_for_the_report(plan):
    with pytest.raises(KeyboardInterrupt):
        run_study(read_study(plan), run=Runs(lambda _: 0.5, stop_after=0))
    with (plan.parent / "out" / "plan.csv").open() as file:
        cells = [(row["labels"], row["draw"], row["method"]) for row in csv.DictReader(file)]
    assert cells == [("18", "0", "none"), ("18", "0", "cm_unet"), ("18", "1", "none"), ("18", "1", "cm_unet")]


def test_draws_with_other_test_lists_are_refused(plan):
    (plan.parent / "draw_1" / "final.json").write_text(json.dumps({"test": [{"image": "a.png"}]}))
    with pytest.raises(ValueError, match=r"draw_1 has another list `test` than .*draw_0"):
        read_study(plan)


def test_configs_in_another_order_are_another_run(pretrained):
    overlays = ["mae.json", "vaso.json"]
    change(pretrained, methods={"mae": {"overlays": overlays}})
    run_study(read_study(pretrained), run=Runs(lambda _: 0.5))
    change(pretrained, methods={"mae": {"overlays": overlays[::-1]}})
    with pytest.raises(ValueError, match="finished run with another configs: move it away"):
        run_study(read_study(pretrained), run=Runs(lambda _: 0.5))


def test_an_evaluation_of_a_fit_that_was_moved_away_is_refused_before_anything_runs(plan):
    run_study(read_study(plan), run=Runs(lambda _: 0.5))
    cell = plan.parent / "out" / "labels_18" / "draw_0" / "none"
    (cell / "final").rename(cell / "old")
    again = Runs(lambda _: 0.5)
    with pytest.raises(
        ValueError,
        match=r"evaluation belongs to a training run that is no longer in .*final: move this folder away too",
    ):
        run_study(read_study(plan), run=again)
    assert again.calls == []


def test_labelled_images_are_counted_not_taken_from_the_name_of_their_set(plan):
    rows = [{"image": f"{number}.png"} for number in range(17)]
    (plan.parent / "draw_1" / "final.json").write_text(json.dumps({"training": rows}))
    run_study(read_study(plan), run=Runs(lambda _: 0.5))
    found = {(row["labels"], row["draw"], row["labelled_images"]) for row in cell_rows(plan)}
    assert found == {("18", "0", "1"), ("18", "1", "17")}


def test_copies_of_a_draw_are_one_draw_of_labels(plan):
    (plan.parent / "draw_1" / "final.json").write_bytes((plan.parent / "draw_0" / "final.json").read_bytes())
    run_study(read_study(plan), run=Runs(lambda _: 0.5))
    assert [(row["draw"], row["label_draw"]) for row in cell_rows(plan)] == [("0", "0")] * 2 + [("1", "0")] * 2


def test_a_method_of_any_name_does_not_stop_the_study(plan):
    change(plan, methods={"cells": None})
    run_study(read_study(plan), run=Runs(lambda _: 0.5))
    assert [row["method"] for row in cell_rows(plan)] == ["cells", "cells"]


def test_a_validation_that_is_not_of_the_last_epoch_is_refused(plan):
    def stale(configs, overrides):
        Runs(lambda _: 0.5)(configs, overrides)
        (Path(overrides["output_dir"]) / "validation.csv").write_text("epoch,mean_dice\n2,0.9\n")

    with pytest.raises(RuntimeError, match="ends at epoch 2, expected 4"):
        run_study(read_study(plan), run=stale)


def test_cells_say_what_was_chosen_from_what(plan):
    run_study(read_study(plan), run=Runs(lambda overrides: overrides["learning_rate"]))
    assert cell_rows(plan)[1] == {
        "labels": "18",
        "draw": "0",
        "label_draw": "0",
        "labelled_images": "1",
        "method": "cm_unet",
        "datalist_sha256": hashlib.sha256((plan.parent / "draw_0" / "final.json").read_bytes()).hexdigest(),
        "learning_rate": "0.01",
        "choice_folds": "3",
        "choice_draw": "0",
        "dice_in_folds_at_0.001": "0.001",
        "dice_in_folds_at_0.01": "0.01",
        "epochs": "6",
        "seconds": "10.0",
        "pretraining_epochs": "",  # by another study
        "pretraining_seconds": "",
        "per_image": "labels_18/draw_0/cm_unet/evaluation/per_image.csv",
    }


@pytest.fixture
def pretrained(plan):
    """A method that the study pre-trains, and one that needs another run's weights for it."""
    bundle = plan.parent / "pretraining_bundle" / "configs"
    bundle.mkdir(parents=True)
    for name in ("train.json", "compact.json", "mae.json", "vaso.json", "segmentor.json"):
        (bundle / name).touch()
    methods = {
        "none": None,
        "mae": {"overlays": ["mae.json"], "pretraining_overrides": {"mask_ratio": 0.5}},
        "vaso": {"overlays": ["vaso.json"], "needs": {"segmentor_weights": ["segmentor.json"]}},
    }
    change(plan, methods=methods, pretraining={"bundle_root": str(bundle.parent), "overrides": {"max_epochs": 2}})
    return plan


def test_every_run_leaves_a_record_of_what_it_was(pretrained):
    run_study(read_study(pretrained), run=Runs(lambda _: 0.5))
    out = pretrained.parent / "out"
    records = {record.folder: record for record in read_records(out)}
    finished = {path.parent.relative_to(out).as_posix() for path in out.rglob("finished.json")}
    assert records.keys() == finished
    assert len(records) == 3 + 3 * 2 * (2 * 3 + 2)  # pre-trainings; methods, draws, rates, folds, fit and evaluation
    made = records["pretraining/vaso.segmentor_weights"]
    assert (made.kind, made.method, made.part, made.labels) == ("pre-training", "vaso", "segmentor_weights", None)
    assert (made.epochs, made.steps, made.seconds, made.curves["loss"]) == (2, 8, 6.0, ((1, 0.75), (2, 0.5)))
    choice = records["labels_18/draw_1/mae/choice/rate_0.01/fold_2"]
    assert (choice.kind, choice.method, choice.labels, choice.draw) == ("choice", "mae", "18", 1)
    assert (choice.part, choice.curves["mean_dice"]) == ("rate_0.01 fold_2", ((2, 0.9), (4, 0.5)))
    fit, evaluation = (records[f"labels_18/draw_1/mae/{name}"] for name in ("final", "evaluation"))
    assert (fit.kind, fit.settings["learning_rate"], fit.settings["seed"]) == ("final fit", 0.001, 1)
    assert fit.settings["pretrained_weights_sha256"] == file_digest(out / "pretraining/mae/unet.safetensors")
    assert fit.weights == {"sha256": "abc", "epoch": 1}
    assert fit.command[1:4] == ("-m", "monai.bundle", "run")
    assert fit.versions.keys() == {"python", "cmunet_monai", "monai", "numpy", "torch"}
    assert evaluation.kind == "evaluation"
    assert evaluation.settings["weights_sha256"] == file_digest(out / "labels_18/draw_1/mae/final/model.safetensors")
    assert evaluation.seconds >= 0


def test_runs_of_an_earlier_version_get_their_records_without_what_it_did_not_write_down(plan):
    run_study(read_study(plan), run=Runs(lambda _: 0.5))
    out = plan.parent / "out"
    before = read_records(out)
    for path in out.rglob("run.json"):
        path.unlink()
    for path in out.rglob("train.csv"):
        path.write_text("epoch,loss,seconds\n1,0.5,10\n")
    again = Runs(lambda _: 0.5)
    run_study(read_study(plan), run=again)
    assert again.calls == []
    after = read_records(out)
    assert [record.folder for record in after] == [record.folder for record in before]
    assert {record.versions for record in after} == {None}
    assert {record.steps for record in after} == {None}
    assert {record.seconds for record in after if record.kind == "evaluation"} == {None}
    assert [record.curves for record in after] == [record.curves for record in before]


def test_a_run_that_was_moved_aside_is_no_record_of_the_study(plan):
    run_study(read_study(plan), run=Runs(lambda _: 0.5))
    out = plan.parent / "out"
    before = read_records(out)
    (out / "labels_18/draw_0/none/final").rename(out / "labels_18/draw_0/none/old")
    assert [record for record in before if record not in read_records(out)] == [
        record for record in before if record.folder == "labels_18/draw_0/none/final"
    ]


def test_a_record_that_is_cut_is_named(plan):
    run_study(read_study(plan), run=Runs(lambda _: 0.5))
    path = plan.parent / "out" / "labels_18" / "draw_0" / "none" / "final" / "run.json"
    path.write_text(path.read_text()[:50])
    with pytest.raises(ValueError, match=r"final/run\.json is not JSON"):
        read_records(plan.parent / "out")


def test_a_method_is_pretrained_once_for_all_draws(pretrained):
    runs = Runs(lambda _: 0.5)
    run_study(read_study(pretrained), run=runs)
    made = [(configs, call) for configs, call in runs.calls if "compact.json " in configs]
    assert [configs for configs, _ in made] == [
        "train.json compact.json mae.json",
        "train.json compact.json segmentor.json",
        "train.json compact.json vaso.json",
    ]
    mae, segmentor, vaso = (call for _, call in made)
    folder = pretrained.parent / "out" / "pretraining"
    assert (mae["mask_ratio"], mae["max_epochs"]) == (0.5, 2)
    assert mae["datalist"] == str(pretrained.parent / "draw_0" / "final.json")
    assert "segmentor_weights" not in segmentor
    assert vaso["segmentor_weights"] == str(folder / "vaso.segmentor_weights" / "unet.safetensors")
    starts = {call["pretrained_weights"] for _, call in runs.calls if "pretrained_weights" in call}
    assert starts == {None, str(folder / "mae" / "unet.safetensors"), str(folder / "vaso" / "unet.safetensors")}
    facts = {row["method"]: (row["pretraining_epochs"], row["pretraining_seconds"]) for row in cell_rows(pretrained)}
    assert facts == {"none": ("0", "0"), "mae": ("2", "6.0"), "vaso": ("2", "12.0")}


def test_an_epoch_that_was_held_up_does_not_count(pretrained):
    class Paused(Runs):
        def __call__(self, configs, overrides):
            super().__call__(configs, overrides)
            if "mae.json" in self.calls[-1][0]:
                log = Path(overrides["output_dir"]) / "training.csv"
                log.write_text("epoch,seconds\n1,2\n2,900\n3,4\n")

    run_study(read_study(pretrained), run=Paused(lambda _: 0.5))
    assert {row["pretraining_seconds"] for row in cell_rows(pretrained) if row["method"] == "mae"} == {"12.0"}


def test_draws_that_saw_different_frames_in_pretraining_are_refused(pretrained):
    final = pretrained.parent / "draw_1" / "final.json"
    final.write_text(json.dumps({"pretraining": [{"image": "a.png"}]}))
    with pytest.raises(ValueError, match=r"draw_1 has another list `pretraining` than .*draw_0"):
        read_study(pretrained)


def test_pretraining_without_its_bundle_is_named(plan):
    change(plan, methods={"mae": {"overlays": []}})
    with pytest.raises(ValueError, match="`pretraining` must say with which bundle mae"):
        read_study(plan)


def test_a_rate_can_be_chosen_once_for_all_draws(plan):
    change(plan, choose_once=True)
    runs = Runs(lambda overrides: overrides["learning_rate"])
    run_study(read_study(plan), run=runs)
    choosing = [call for _, call in runs.calls if "val_interval" in call]
    assert {Path(call["datalist"]).parent.name for call in choosing} == {"draw_0"}
    assert len(choosing) == 2 * 2 * 3
    assert [row["learning_rate"] for row in cell_rows(plan)] == ["0.01"] * 4


def test_fewer_folds_choose_where_the_plan_says_so(plan):
    change_labels(plan, choice_folds=1)
    runs = Runs(lambda overrides: overrides["learning_rate"])
    run_study(read_study(plan), run=runs)
    choosing = [call for _, call in runs.calls if "val_interval" in call]
    assert {Path(call["datalist"]).name for call in choosing} == {"fold_0.json"}
    assert len(choosing) == 2 * 2 * len(RATES)


def test_a_method_can_keep_to_some_label_sets(plan):
    few = json.loads(plan.read_text())["labels"]["18"]
    change(plan, labels={"18": few, "100": few}, methods={"none": None, "longer": {"labels": ["18"]}})
    cells = cells_of(read_study(plan))
    assert {(cell.labels, cell.method) for cell in cells} == {("18", "none"), ("18", "longer"), ("100", "none")}
    change(plan, methods={"longer": {"labels": ["19", "18"]}})
    with pytest.raises(ValueError, match=r"methods name label sets that are not among \['18', '100'\]: \['19'\]"):
        read_study(plan)


def test_some_methods_take_more_draws_and_a_folder_can_be_run_with_several_seeds(plan):
    draw = str(plan.parent / "draw_0")
    change_labels(plan, draws=[draw, draw, draw], shared_draws=1)
    change(plan, methods={"none": {"all_draws": True}, "cm_unet": str(plan.parent / "unet.safetensors")})
    study = read_study(plan)
    assert [(cell.method, cell.draw) for cell in cells_of(study)] == [
        ("none", 0),
        ("cm_unet", 0),
        ("none", 1),
        ("none", 2),
    ]
    runs = Runs(lambda _: 0.5)
    run_study(study, run=runs)
    assert {call["seed"] for name, call in runs.calls if name == "train.json"} == {0, 1, 2}
    assert {row["label_draw"] for row in cell_rows(plan)} == {"0"}


def test_a_method_can_train_longer_than_the_others(plan):
    change(plan, methods={"none": None, "longer": {"finetuning_overrides": {"max_epochs": 60}}})
    runs = Runs(lambda _: 0.5)
    run_study(read_study(plan), run=runs)
    finals = [call for name, call in runs.calls if name == "train.json" and "val_interval" not in call]
    assert [call["max_epochs"] for call in finals] == [6, 60, 6, 60]
    assert [row["epochs"] for row in cell_rows(plan)] == ["6", "60", "6", "60"]


def test_a_method_has_its_own_options_in_every_fine_tuning(plan):
    change(plan, methods={"none": None, "slow": {"finetuning_overrides": {"pretrained_rate": 0.3, "max_epochs": 60}}})
    runs = Runs(lambda _: 0.5)
    run_study(read_study(plan), run=runs)
    trained = [call for name, call in runs.calls if name == "train.json"]
    assert {call.get("pretrained_rate") for call in trained if "none" in call["output_dir"]} == {None}
    slow = [call for call in trained if "slow" in call["output_dir"]]
    assert {call["pretrained_rate"] for call in slow} == {0.3}
    assert {call["max_epochs"] for call in slow if "val_interval" in call} == {4}
    assert {call["max_epochs"] for call in slow if "val_interval" not in call} == {60}
    assert not any("pretrained_rate" in call for name, call in runs.calls if name == "evaluate.json")


def test_a_reference_to_weights_and_weights_of_classes_are_no_files(plan):
    own = {
        "optimizer#pretrained_weights": "@pretrained_weights",
        "optimizer#pretrained_rate": 0.3,
        "class_weights": [1, 2],
    }
    change(plan, methods={"slow": {"weights": str(plan.parent / "unet.safetensors"), "finetuning_overrides": own}})
    runs = Runs(lambda _: 0.5)
    run_study(read_study(plan), run=runs)
    assert runs.calls[0][1]["optimizer#pretrained_weights"] == "@pretrained_weights"
    assert [row["method"] for row in cell_rows(plan)] == ["slow", "slow"]


def test_shards_share_the_methods_and_one_table(plan):
    study = read_study(plan)
    assert (shard_of(study, 1, 2), shard_of(study, 2, 2)) == (["none"], ["cm_unet"])
    run_study(study, methods=["cm_unet"], run=Runs(lambda _: 0.5))
    assert [row["method"] for row in cell_rows(plan)] == ["cm_unet", "cm_unet"]
    run_study(study, methods=["none"], run=Runs(lambda _: 0.5))
    assert [row["method"] for row in cell_rows(plan)] == ["none", "cm_unet", "none", "cm_unet"]
    with pytest.raises(ValueError, match="I from 1 to N, got 3/2"):
        shard_of(study, 3, 2)


@pytest.mark.parametrize("shard", ["3/2", "0/2", "two"])
def test_a_shard_that_cannot_be_is_named_by_its_option(plan, shard):
    with pytest.raises(ValueError, match="--shard"):
        main([str(plan), "--shard", shard])


def test_two_processes_do_not_work_on_one_method(plan):
    def second(configs, overrides):
        with pytest.raises(BlockingIOError, match="another process is at work"):
            run_study(read_study(plan), run=Runs(lambda _: 0.5))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_study(read_study(plan), run=second)
    assert run_study(read_study(plan), run=Runs(lambda _: 0.5))


def test_mistakes_in_the_file_are_named(plan):
    settings = json.loads(plan.read_text())
    plan.write_text(json.dumps(settings | {"epochs": 3}))
    with pytest.raises(ValueError, match=r"study\.json: `epochs` is no setting$"):
        read_study(plan)
    plan.write_text(json.dumps({k: v for k, v in settings.items() if k != "labels"}))
    with pytest.raises(ValueError, match=r"study\.json: `labels` is missing$"):
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


def test_options_of_fine_tuning_and_of_evaluation_alone_do_not_reach_the_other(plan):
    change(plan, finetuning_overrides={"batch_size": 4}, evaluation_overrides={"overlays": False})
    runs = Runs(lambda _: 0.5)
    run_study(read_study(plan), run=runs)
    options = {(name, call.get("batch_size"), call.get("overlays")) for name, call in runs.calls}
    assert options == {("train.json", 4, None), ("evaluate.json", None, False)}


def test_a_run_that_outlives_its_study_keeps_the_next_one_away(plan, monkeypatch):
    """The child holds the lock that it inherited when the study's own handle is gone."""
    children = []

    def killed(configs, overrides):
        children.append(subprocess.Popen(["sleep", "60"], close_fds=False))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_study(read_study(plan), run=killed)
    try:
        with pytest.raises(BlockingIOError, match="a run of one that was killed"):
            run_study(read_study(plan), run=Runs(lambda _: 0.5))
    finally:
        children[0].kill()
        children[0].wait()
    assert run_study(read_study(plan), run=Runs(lambda _: 0.5))


@pytest.mark.parametrize(
    "config, given, expected",
    [("evaluate.json", None, "passive"), ("evaluate.json", "active", "active"), ("train.json", None, "absent")],
)
def test_threads_sleep_beside_the_loading_process_of_an_evaluation(tmp_path, monkeypatch, config, given, expected):
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    if given:
        monkeypatch.setenv("OMP_WAIT_POLICY", given)
    started = []

    def start(command, env, **_):
        started.append(env.get("OMP_WAIT_POLICY", "absent"))
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr("cmunet_monai.study.runner.subprocess.run", start)
    run_bundle([Path(config)], {"output_dir": str(tmp_path)})
    assert started == [expected]


def test_weights_made_anew_under_the_same_name_are_noticed(plan):
    run_study(read_study(plan), run=Runs(lambda _: 0.5))
    (plan.parent / "unet.safetensors").write_bytes(b"new")
    with pytest.raises(ValueError, match="finished run with another pretrained_weights_sha256"):
        run_study(read_study(plan), run=Runs(lambda _: 0.5))


WRONG = [
    ("methods", {}, "`methods` must not be empty, got {}"),
    ("methods", [], "`methods` must be an object, got []"),
    ("methods", {"a/b": None}, '`methods.a/b`: a name is of letters, digits, "_", "-" and "."'),
    ("labels", {"18": []}, "`labels.18` must be an object, got []"),
    ("learning_rates", [], "`learning_rates` must not be empty, got []"),
    ("learning_rates", [0.1, "0.1"], '`learning_rates[1]` must be a valid number, got "0.1"'),
    ("learning_rates", ["0.1"], '`learning_rates[0]` must be a valid number, got "0.1"'),
    ("learning_rates", [True], "`learning_rates[0]` must be a valid number, got true"),
    ("learning_rates", [-1], "`learning_rates[0]` must be greater than 0, got -1"),
    ("learning_rates", [math.nan], "`learning_rates[0]` must be a finite number, got NaN"),
    ("configs", "train.json", '`configs` must be a valid array, got "train.json"'),
    ("configs", [""], "`configs[0]` must not be an empty text"),
    ("overrides", [], "`overrides` must be an object, got []"),
    ("output_dir", 5, "`output_dir` "),
    ("output_dir", "", "`output_dir` must not be an empty text"),
    ("choose_once", 1, "`choose_once` must be a valid boolean, got 1"),
]


def test_every_mistake_is_named_at_once_with_its_place(plan):
    settings = json.loads(plan.read_text())
    few = settings["labels"]["18"]
    labels = {"18": few | {"draw": 1}, "100": few | {"max_epochs": "6"}}
    change(plan, labels=labels, chose_once=True, pretraining={"bundel_root": "a"})
    with pytest.raises(ValueError, match="is no setting") as error:
        read_study(plan)
    assert set(str(error.value).removeprefix(f"{plan}: ").split("; ")) == {
        "`labels.18.draw` is no setting",
        "did you mean `draws`?",
        '`labels.100.max_epochs` must be a valid integer, got "6"',
        "`chose_once` is no setting",
        "did you mean `choose_once`?",
        "`pretraining.bundle_root` is missing",
        "`pretraining.bundel_root` is no setting",
        "did you mean `bundle_root`?",
    }


def test_the_study_of_the_published_comparison_can_still_be_read():
    study = Study.read(COMPARISON / "study.json")
    assert study.methods["vaso_mim"].needs == {"segmentor_weights": ("methods/vaso_mim_segmentor.json",)}
    assert study.labels["18"].shared_draws == 3
    with (COMPARISON / "plan.csv").open(newline="") as file:
        planned = [(row["labels"], int(row["draw"]), row["method"]) for row in csv.DictReader(file)]
    assert {(cell.labels, cell.draw, cell.method) for cell in cells_of(study)} == set(planned)


@pytest.mark.parametrize("name, value, expected", WRONG)
def test_a_setting_of_another_kind_is_named(plan, name, value, expected):
    change(plan, **{name: value})
    with pytest.raises(ValueError, match=r"study\.json: " + re.escape(expected) + "[^;]*$"):
        read_study(plan)


@pytest.mark.parametrize(
    "name, value, expected",
    [
        ("draws", "draw_0", "a valid array"),
        ("max_epochs", "6", "a valid integer"),
        ("max_epochs", 6.5, "a valid integer"),
        ("max_epochs", -1, "greater than or equal to 0"),
        ("choice_epochs", 0, "greater than 0"),
        ("choice_folds", 4, "less than or equal to 3"),
    ],
)
def test_a_setting_of_a_label_set_of_another_kind_is_named(plan, name, value, expected):
    change_labels(plan, **{name: value})
    with pytest.raises(ValueError, match=rf"`labels\.18\.{name}` must be {expected}, got "):
        read_study(plan)


@pytest.mark.parametrize(
    "text, message",
    [
        ('{"test": [', r"draw_1/final\.json is not JSON"),
        ('{"test": ["a.png"]}', r"draw_1/final\.json must hold an object whose `test` is a list of rows"),
        ("[]", r"draw_1/final\.json must hold an object whose `test`"),
    ],
)
def test_a_broken_data_list_is_named(plan, text, message):
    (plan.parent / "draw_1" / "final.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_study(plan)


def test_a_fold_that_chooses_needs_validation_rows(plan):
    fold = plan.parent / "draw_1" / "fold_1.json"
    fold.write_text(json.dumps(json.loads(fold.read_text()) | {"validation": []}))
    with pytest.raises(ValueError, match=r"draw_1/fold_1\.json has no `validation` rows"):
        read_study(plan)
    change_labels(plan, choice_folds=1)
    read_study(plan)


def test_a_study_that_is_no_text_is_named(plan):
    plan.write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"study\.json is not JSON"):
        read_study(plan)


def test_pretraining_may_have_its_own_rate_and_seed(pretrained):
    methods = {"mae": {"overlays": ["mae.json"], "pretraining_overrides": {"learning_rate": 0.003, "seed": 7}}}
    change(pretrained, methods=methods)
    runs = Runs(lambda _: 0.5)
    run_study(read_study(pretrained), run=runs)
    assert (runs.calls[0][1]["learning_rate"], runs.calls[0][1]["seed"]) == (0.003, 7)


@pytest.mark.parametrize(
    "method, message",
    [
        (3, r"`methods\.m` must be an object, got 3"),
        ({"overlay": []}, r"`methods\.m\.overlay` is no setting; did you mean `overlays`\?"),
        ({"max_epochs": 3}, r"`methods\.m\.max_epochs` is no setting$"),
        ({"overlays": "mae.json"}, r"`methods\.m\.overlays` must be a valid array, got \"mae.json\""),
        ({"overlays": [None]}, r"`methods\.m\.overlays\[0\]` must be a valid string, got null"),
        ({"labels": "18"}, r"`methods\.m\.labels` must be a valid array, got \"18\""),
        ({"labels": []}, r"`methods\.m\.labels` must not be empty"),
        ({"overlays": [], "weights": "a"}, "`methods.m` has both `weights` and `overlays`"),
        ({"pretraining_overrides": {"max_epochs": 50}}, "pretraining_overrides, which need `overlays`"),
        ({"weights": "a", "needs": {"a": ["b"]}}, "needs, which need `overlays`"),
        ({"overlays": [], "needs": {"a": "b"}}, r"`methods\.m\.needs\.a` must be a valid array, got \"b\""),
        ({"overlays": [], "pretraining_overrides": {"datalist": "a"}}, "may not hold datalist"),
        (
            {"overlays": [], "pretraining_overrides": {"amp_dtype": None}},
            "amp_dtype, which cannot be null on a command",
        ),
        ({"finetuning_overrides": {"seed": 3}}, "may not hold seed"),
        ({"finetuning_overrides": {"output_dir": "a", "max_epochs": 3}}, "may not hold output_dir, which"),
    ],
)
def test_a_mistake_in_a_method_is_named(plan, method, message):
    change(plan, methods={"m": method})
    with pytest.raises(ValueError, match=message):
        read_study(plan)


@pytest.fixture
def real(plan):
    """The study on the real bundle, with a frame and its label for each list."""
    rows = {}
    for number, name in enumerate(("training", "validation", "test")):
        picture = np.full((8, 8), 100 + number, np.uint8)
        picture[:4] = 0  # a label holds 0 for background and one other value
        Image.fromarray(picture).save(plan.parent / f"{name}.png")
        rows[name] = [{"id": name, "image": f"{name}.png", "label": f"{name}.png", "group": name}]
    for path in plan.parent.glob("draw_*/*.json"):
        path.write_text(json.dumps(rows))
    bundle = Path(__file__).parents[2] / "bundles" / "coronary_xa_segmentation"
    plan.write_text(json.dumps(json.loads(plan.read_text()) | {"bundle_root": str(bundle)}))
    return plan


def test_a_dry_run_says_what_would_run_and_runs_nothing(real, capsys):
    plan = real
    change(plan, overrides={"image_size": [32, 32], "channels": [4, 8]})
    assert main([str(plan), "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "18 labels, draw 1, cm_unet\n" in said
    assert "4 cells of 2 methods" in said
    assert "fine-tuning on 18 labels: " in said
    assert "on this machine" in said
    assert not (plan.parent / "out").exists()


def test_what_has_finished_is_not_estimated_again(plan, monkeypatch):
    monkeypatch.setattr("cmunet_monai.study.estimate._finetuning_seconds", lambda run: 2.0)
    rows = {name: [{"image": "a.png"}] * count for name, count in (("training", 4), ("validation", 2), ("test", 5))}
    for path in plan.parent.glob("draw_*/*.json"):
        path.write_text(json.dumps(rows))
    study = read_study(plan)
    choice, final = 4 * 4 + 2, 6 * 4  # epochs times frames, and the validation at the end
    whole = 2 * 2 * (3 * 2 * choice + final + 5)  # two methods, two draws; three folds, two rates
    assert estimate(study).labels == {"18": 2.0 * whole}
    with pytest.raises(KeyboardInterrupt):
        run_study(study, run=Runs(lambda _: 0.5, stop_after=7))  # the choice and the final fit of the first cell
    assert estimate(study).labels == {"18": 2.0 * (whole - 3 * 2 * choice - final)}
    run_study(study, run=Runs(lambda _: 0.5))
    assert estimate(study).total == 0


def test_pretraining_is_estimated_for_its_epochs_unless_it_needs_weights_first(real, tiny_pretraining):
    for path in real.parent.glob("draw_*/*.json"):
        rows = json.loads((tiny_pretraining.dataset / "datalist.json").read_text())
        path.write_text(json.dumps(json.loads(path.read_text()) | rows))
    tiny = tiny_pretraining.settings(real.parent)
    bundle_root = tiny.pop("bundle_root")
    for name in ("dataset_dir", "output_dir", "max_epochs"):
        del tiny[name]
    methods = {"cm_unet": {"overlays": []}, "second": {"overlays": [], "needs": {"other_weights": []}}}
    seconds = []
    for epochs in (2, 2000):
        pretraining = {
            "bundle_root": bundle_root,
            "configs": ["train.json"],
            "overrides": tiny | {"max_epochs": epochs},
        }
        change(real, dataset_dir=str(tiny_pretraining.dataset), methods=methods, pretraining=pretraining)
        change(real, overrides={"image_size": [32, 32], "channels": [4, 8]})
        times = estimate(read_study(real)).pretraining
        assert times["second"] is None
        seconds.append(times["cm_unet"])
    assert 0 < seconds[0] < seconds[1] / 10


def test_a_mistyped_override_is_named_before_anything_runs(real, capsys):
    change(real, overrides={"lamda_ce": 2})
    assert main([str(real)]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 2  # in training and in evaluation, each with its nearest id
    assert "lamda_ce" in errors[0]
    assert "lambda_ce" in errors[0]
    assert not (real.parent / "out").exists()


@pytest.mark.parametrize("name", ["study.json", "draw_0/final.json", "draw_1/fold_1.json"])
def test_a_byte_order_mark_is_no_mistake(plan, name):
    path = plan.parent / name
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert read_study(plan).learning_rates == tuple(RATES)


def test_further_test_lists_are_evaluated_with_the_same_weights(plan):
    other = plan.parent / "other"
    other.mkdir()
    (other / "datalist.json").write_text(json.dumps({"test": []}))
    change(plan, further_tests={"external": {"dataset_dir": str(other), "datalist": str(other / "datalist.json")}})
    runs = Runs(lambda _: 0.5)
    run_study(read_study(plan), run=runs)
    evaluations = [call for name, call in runs.calls if name == "evaluate.json"]
    assert len(evaluations) == 8
    for own, external in zip(evaluations[::2], evaluations[1::2], strict=True):
        assert own["weights"] == external["weights"]
        assert (Path(own["output_dir"]).name, Path(external["output_dir"]).name) == (
            "evaluation",
            "evaluation_external",
        )
        assert external["dataset_dir"] == str(other)
        assert external["datalist"] == str(other / "datalist.json")
    row = cell_rows(plan)[0]
    assert row["per_image_external"] == "labels_18/draw_0/none/evaluation_external/per_image.csv"


def test_a_further_test_list_that_is_not_there_is_named(plan):
    change(plan, further_tests={"external": {"dataset_dir": str(plan.parent), "datalist": "missing.json"}})
    with pytest.raises(FileNotFoundError, match=r"missing\.json"):
        read_study(plan)


def test_without_epochs_the_start_itself_is_evaluated(plan):
    change_labels(plan, max_epochs=0)
    change(plan, methods={"cm_unet": str(plan.parent / "unet.safetensors")})
    runs = Runs(lambda _: 0.5)
    run_study(read_study(plan), run=runs)
    assert [name for name, _ in runs.calls] == ["evaluate.json"] * 2
    assert runs.calls[0][1]["weights"] == str(plan.parent / "unet.safetensors")
    assert [cell_rows(plan)[0][name] for name in ("epochs", "labelled_images")] == ["0", "0"]


def test_a_random_start_without_epochs_is_refused(plan):
    change_labels(plan, max_epochs=0)
    with pytest.raises(ValueError, match="none starts at random: with 18 labels there is nothing to evaluate"):
        run_study(read_study(plan), run=Runs(lambda _: 0.5))


def test_a_single_rate_is_taken_without_a_choice(plan):
    change(plan, learning_rates=[0.002])
    runs = Runs(lambda _: 0.5)
    run_study(read_study(plan), run=runs)
    assert not [call for _, call in runs.calls if "val_interval" in call]
    assert {row["learning_rate"] for row in cell_rows(plan)} == {"0.002"}


def test_a_method_may_take_the_rate_of_another_and_overlays_of_its_own(plan):
    (plan.parent / "bundle" / "configs" / "mean_teacher.json").write_text("{}")
    own = {"weights": str(plan.parent / "unet.safetensors"), "rate_of": "none"}
    change(plan, methods={"none": None, "taught": own | {"finetuning_configs": ["mean_teacher.json"]}})
    calls = []

    class WithConfigs(Runs):
        def __call__(self, configs, overrides):
            calls.append(([config.name for config in configs], Path(overrides["output_dir"])))
            super().__call__(configs, overrides)

    run_study(read_study(plan), run=WithConfigs(lambda overrides: overrides["learning_rate"]))
    assert {row["learning_rate"] for row in cell_rows(plan)} == {"0.01"}
    of_taught = [(names, output.name) for names, output in calls if "taught" in output.parts]
    assert of_taught == [(["train.json", "mean_teacher.json"], "final"), (["evaluate.json"], "evaluation")] * 2


@pytest.mark.parametrize("rate_of", ["unknown", "taught"])
def test_a_rate_of_must_name_a_method_that_chooses(plan, rate_of):
    change(
        plan, methods={"none": None, "taught": {"weights": str(plan.parent / "unet.safetensors"), "rate_of": rate_of}}
    )
    with pytest.raises(ValueError, match=r"methods\.taught\.rate_of"):
        read_study(plan)
