import shlex
from pathlib import Path

import numpy as np
import pytest

from cmunet_monai.report.study_runs import (
    diameter_unit,
    largest_diagonal,
    mean_curve,
    passed_on,
    read_runs,
    sources,
    validation_dice,
)
from tests.report.conftest import write_rows


def test_kept_tables_without_records_are_read_and_what_they_lack_is_said_once(study):
    for path in study.folder.rglob("run.json"):
        path.unlink()
    found = read_runs(study.folder)
    assert found.runs["18", "none"].tables["dice"].shape == (2, 3)
    (said,) = found.missing
    assert "no run has its run.json: tables alone were kept, or a version before it ran the study" in said
    assert [source.run for source in sources(found)] == [
        f"18 labels, draw {draw}, {method}: evaluation" for method in ("none", "cm_unet") for draw in (0, 1)
    ]


def test_the_tables_of_the_published_comparison_can_still_be_read():
    found = read_runs(Path(__file__).parents[2] / "docs/results/comparison")
    assert {runs.labelled_images for runs in found.runs.values()} == {18, 100}
    assert len(found.cells) == len(found.planned)
    assert len(found.missing) == 1
    assert found.missing[0].startswith("no run has its run.json")


def test_images_are_matched_by_id_not_by_order(study):
    path = study.per_image("cm_unet", 0)
    header, *lines = path.read_text().splitlines()
    path.write_text("\n".join([header, *reversed(lines)]) + "\n")
    assert read_runs(study.folder).runs["18", "cm_unet"].tables["dice"][0].tolist() == [0.6, 0.7, 0.8]


def test_runs_on_other_images_are_refused(study):
    path = study.per_image("cm_unet", 0)
    path.write_text("\n".join(path.read_text().splitlines()[:-1]) + "\n")
    with pytest.raises(ValueError, match="other images"):
        read_runs(study.folder)


def test_label_sets_stand_in_the_order_of_their_numbers_and_named_ones_last(study):
    for labels in ("all", "200", "50"):
        study.add("none", 0, [0.5, 0.6, 0.7], labels=labels)
    assert read_runs(study.folder).labels == ("18", "50", "200", "all")


def test_a_whole_study_misses_nothing(study):
    assert read_runs(study.folder).missing == ()


def test_a_cell_that_is_begun_and_one_that_is_not_are_told_apart(study):
    study.drop("cm_unet", 1)
    study.add("mae", 0, [0.5, 0.5, 0.5])
    assert read_runs(study.folder).missing == (
        "18 labels, cm_unet: no finished cell of draw 1 (begun: 1)",
        "18 labels, mae: no finished cell of draw 1 (not begun, or not planned)",
    )


def test_files_that_are_not_there_are_named_and_a_cell_without_its_table_is_left_out(study):
    study.per_image("cm_unet", 1).unlink()
    (study.folder / "labels_18/draw_0/none/final/run.json").unlink()
    (study.folder / "pretraining/cm_unet/run.json").unlink()
    found = read_runs(study.folder)
    assert [cell.draw for cell in found.runs["18", "cm_unet"].cells] == [0]
    assert "labels_18/draw_1/cm_unet/evaluation/per_image.csv: not there, the cell is left out" in found.missing
    assert "labels_18/draw_0/none/final/run.json: not there" in found.missing
    assert "pretraining/cm_unet/run.json: not there" in found.missing


def test_what_cannot_be_read_is_named(study):
    with pytest.raises(FileNotFoundError, match=r"cells\.csv is not there"):
        read_runs(study.folder / "labels_18")
    cells = study.folder / "cells.csv"
    whole = cells.read_text()
    cells.write_text(whole.replace("label_draw", "other"))
    with pytest.raises(ValueError, match=r"cells\.csv lacks label_draw"):
        read_runs(study.folder)
    cells.write_text(whole + whole.splitlines()[1] + "\n")
    with pytest.raises(ValueError, match="18 labels, draw 0, none stands twice"):
        read_runs(study.folder)
    cells.write_text(whole.replace(",60,", ",sixty,", 1))
    with pytest.raises(ValueError, match=r'cells\.csv, line 2: `epochs` must be a valid integer.*, got "sixty"'):
        read_runs(study.folder)
    cells.write_text(whole)
    table = study.per_image("none", 0)
    table.write_text(table.read_text().replace("unmatched_share", "other"))
    with pytest.raises(ValueError, match="has no unmatched_share"):
        read_runs(study.folder)
    for path in study.folder.rglob("per_image.csv"):
        path.unlink()
    with pytest.raises(FileNotFoundError, match="no table"):
        read_runs(study.folder)


@pytest.mark.parametrize(
    "old, new, message",
    [
        ("a,a,", "a,b,", "has another `group` of 1 of 3 images than labels_18/draw_0/none"),
        (",2.5", ",9.5", "has another `artery_diameter_reference_px` of 1 of 3 images than labels_18/draw_0/none"),
        ("b,b,", "a,b,", "is cut, or names an image twice"),
        ("c,c,0.8", "c,c,eight", r"draw_0/cm_unet/evaluation/per_image\.csv: `dice`: .*eight"),
    ],
)
def test_a_table_that_does_not_fit_the_others_is_refused(study, old, new, message):
    table = study.per_image("cm_unet", 0)
    text = table.read_text()
    assert old in text
    table.write_text(text.replace(old, new, 1))
    with pytest.raises(ValueError, match=message):
        read_runs(study.folder)


def test_a_table_cut_inside_a_row_is_refused(study):
    table = study.per_image("cm_unet", 0)
    table.write_text(table.read_text()[:-20])
    with pytest.raises(ValueError, match="is cut, or names an image twice"):
        read_runs(study.folder)


def test_a_broken_plan_and_a_broken_record_are_named(study):
    write_rows(study.folder / "plan.csv", [{"labels": "18", "draw": "x", "method": "none"}])
    with pytest.raises(ValueError, match=r"plan\.csv must have the columns labels, draw \(a number\) and method"):
        read_runs(study.folder)
    (study.folder / "plan.csv").unlink()
    record = study.folder / "pretraining" / "cm_unet" / "run.json"
    record.write_text("{")
    with pytest.raises(ValueError, match=r"cm_unet/run\.json is not JSON"):
        read_runs(study.folder)
    record.write_text('{"kind": "fit", "method": "cm_unet", "folder": "a", "command": [], "setings": {}}')
    with pytest.raises(ValueError, match=r"`settings` is missing; .*`setings` is no setting; did you mean `settings`"):
        read_runs(study.folder)


def test_a_pretraining_that_was_moved_aside_is_no_source(study):
    folder = study.folder / "pretraining"
    (folder / "old").mkdir()
    (folder / "cm_unet" / "run.json").rename(folder / "old" / "run.json")
    assert [source.run for source in sources(read_runs(study.folder)) if source.run.startswith("pre-training")] == []


def test_a_draw_of_other_frames_for_another_method_is_refused(study):
    study.cells[-1]["datalist_sha256"] = "other"
    write_rows(study.folder / "cells.csv", study.cells)
    with pytest.raises(ValueError, match="draw 1 of 18 labels is of other frames for cm_unet than for none"):
        read_runs(study.folder)


def test_a_plan_says_what_is_missing(study):
    cells = [("18", 0, "none"), ("18", 1, "none"), ("18", 0, "cm_unet"), ("18", 1, "cm_unet"), ("100", 0, "none")]
    write_rows(study.folder / "plan.csv", [{"labels": a, "draw": b, "method": c} for a, b, c in cells])
    found = read_runs(study.folder)
    assert found.missing == ("100 labels, none: no finished cell of draw 0 (not begun)",)
    assert found.planned_draws("18", "cm_unet", "none") == 2
    assert found.planned_draws("100", "cm_unet", "none") == 0


def test_the_largest_saved_mask_gives_the_diagonal(study):
    assert largest_diagonal(read_runs(study.folder)) == 50


def test_diameters_are_in_mm_only_where_every_image_has_them(study):
    assert diameter_unit(read_runs(study.folder)) == "px"
    for path in study.folder.rglob("per_image.csv"):
        header, *lines = path.read_text().splitlines()
        columns = header.split(",")
        names = ("artery_diameter_px", "artery_diameter_reference_px")
        added = [",".join(line.split(",")[columns.index(name)] for name in names) for line in lines]
        header += ",artery_diameter_mm,artery_diameter_reference_mm"
        path.write_text(
            "\n".join([header, *(f"{line},{more}" for line, more in zip(lines, added, strict=True))]) + "\n"
        )
    assert diameter_unit(read_runs(study.folder)) == "mm"
    path = study.per_image("none", 0)
    path.write_text(path.read_text().replace(",2.5\n", ",\n", 1))
    assert diameter_unit(read_runs(study.folder)) == "px"


def test_a_mean_curve_has_the_epochs_that_all_curves_have():
    first = (np.array([1.0, 2.0, 3.0]), np.array([4.0, 2.0, 1.0]))
    second = (np.array([2.0, 3.0]), np.array([4.0, 2.0]))
    epochs, values = mean_curve([first, None, second])
    assert epochs.tolist() == [2, 3]
    assert values.tolist() == [3, 1.5]
    assert mean_curve([None]) is None


def test_validation_is_of_the_chosen_rate(study):
    found = read_runs(study.folder)
    epochs, dice = validation_dice(found, found.runs["18", "none"])
    assert (epochs.tolist(), dice.tolist()) == ([5], [0.4])


def test_every_cell_has_its_table_its_command_and_the_facts_of_its_weights(study):
    found = {source.run: source for source in sources(read_runs(study.folder))}
    assert next(iter(found)) == "pre-training cm_unet"
    assert len(found) == 1 + 4 * 3
    assert (
        found["18 labels, draw 1, cm_unet: choice, rate_0.002 fold_0"].file
        == "labels_18/draw_1/cm_unet/choice/rate_0.002/fold_0/run.json"
    )
    fit = found["18 labels, draw 1, cm_unet: final fit"]
    assert fit.facts == {"sha256": "1" * 64, "git_revision": "abc123"}
    assert fit.command == "python -m monai.bundle run --seed 1"
    evaluation = found["18 labels, draw 1, cm_unet: evaluation"]
    assert evaluation.file == "labels_18/draw_1/cm_unet/evaluation/per_image.csv"


def test_commands_keep_relative_paths_and_the_last_two_parts_of_absolute_ones():
    command = [
        *("/opt/jane/env/bin/python", "-m", "monai.bundle", "run"),
        *("--config_file", "['bundles/a/configs/train.json', '/opt/jane/b/c.json']"),
        *("--dataset_dir", "/data/cath lab/Doe, Jane/hospital/frames", "--x", "C:\\Users\\jane\\out\\run"),
        *("--rate", "0.002", "--seed", "1/3", "--y", "/tmp/z"),
    ]
    assert shlex.split(passed_on(command)) == [
        *("python", "-m", "monai.bundle", "run"),
        *("--config_file", "['bundles/a/configs/train.json', '…/b/c.json']"),
        *(
            "--dataset_dir",
            "…/hospital/frames",
            "--x",
            "…/out/run",
            "--rate",
            "0.002",
            "--seed",
            "1/3",
            "--y",
            "/tmp/z",
        ),
    ]
