import csv
import math

import numpy as np
import pytest

from cmunet_monai.metrics.intervals import paired_test
from cmunet_monai.report.command import main
from cmunet_monai.report.study_runs import read_runs
from cmunet_monai.report.study_table import (
    METRICS,
    SHOWN,
    Primary,
    agreements,
    cases,
    compare,
    in_words,
    table,
    verdict,
)
from tests.report.conftest import write_rows


def row_of(rows, method, metric, labels="18"):
    return next(row for row in rows if (row.labels, row.method, row.metric) == (labels, method, metric))


def compared(study, **options):
    options = {"primary": Primary()} | options
    made, absent = compare(read_runs(study.folder), "none", diagonal_px=10, **options)
    return {(c.labels, c.method, c.metric): c for c in made}, absent


def test_means_are_over_draws_and_images(study):
    rows = table(read_runs(study.folder))
    none = row_of(rows, "none", "dice")
    assert none.interval.mean == pytest.approx(0.55)
    assert none.by_draw == pytest.approx((0.6, 0.5))
    assert row_of(rows, "none", "failure").interval.mean == pytest.approx(1 / 6)  # the 0.4 of six
    assert row_of(rows, "cm_unet", "failure").interval.mean == pytest.approx(1 / 6)  # the empty one
    # 0, 0.6, 0.6, 0.7, 0.7, 0.8: the 5th percentile lies at 0.05 * 5 = a quarter of the way from 0 to 0.6
    assert row_of(rows, "cm_unet", "dice_5th_percentile").interval.mean == pytest.approx(0.15)
    assert len(rows) == 2 * len(SHOWN)


def test_a_difference_is_paired_by_draw_and_image(study):
    made, _ = compared(study)
    assert made["18", "cm_unet", "dice"].interval.mean == pytest.approx(3.4 / 6 - 3.3 / 6)
    assert made["18", "cm_unet", "dice"].draws == (0, 1)
    assert not any(method == "none" for _, method, _ in made)


def test_an_undefined_distance_is_the_diagonal_in_a_difference_and_counted(study):
    row = row_of(table(read_runs(study.folder)), "cm_unet", "modified_hausdorff_px")
    assert (row.interval.undefined, row.values) == (1, 6)
    assert row.interval.mean == pytest.approx(1.4)  # (3 * 1 + 2 * 2) / 5
    made, _ = compared(study)
    comparison = made["18", "cm_unet", "modified_hausdorff_px"]
    assert comparison.interval.mean == pytest.approx(11 / 6)  # (0 + 0 + 0 + 1 + 1 + 9) / 6
    assert comparison.filled == 1


def test_an_undefined_diameter_error_is_the_diameter_of_the_label_in_a_difference(study):
    path = study.per_image("cm_unet", 1)
    rows = list(csv.DictReader(path.open()))
    assert (rows[2]["artery_diameter_px"], rows[2]["artery_diameter_reference_px"]) == ("", "4.5")
    for row in rows:
        row["add_px"] = row["pointwise_diameter_error_px"] = "" if row["id"] == "c" else 0.5
    write_rows(path, rows)
    made, _ = compared(study)
    for metric in ("add_px", "pointwise_diameter_error_px"):
        assert made["18", "cm_unet", metric].interval.mean == pytest.approx((0.5 + 0.5 + 4.5) / 6)
        assert made["18", "cm_unet", metric].filled == 1


def test_an_image_with_an_empty_label_counts_in_no_difference(study):
    for method, draw, distance in (("none", 0, 1), ("cm_unet", 0, 3), ("none", 1, 1), ("cm_unet", 1, 3)):
        path = study.per_image(method, draw)
        rows = list(csv.DictReader(path.open()))
        for row in rows:
            row["modified_hausdorff_px"] = distance
        rows[0] |= {"dice": "", "modified_hausdorff_px": ""}
        write_rows(path, rows)
    comparison = compared(study)[0]["18", "cm_unet", "modified_hausdorff_px"]
    assert comparison.interval.mean == pytest.approx(2.0)
    assert comparison.filled == 0


def test_a_difference_uses_the_draws_that_both_methods_have(study):
    study.add("none", 2, [0.0, 0.0, 0.0])  # without a partner: would lower the baseline
    study.add("mae", 1, [0.5, 0.6, 0.7])
    made, _ = compared(study)
    assert made["18", "cm_unet", "dice"].interval.mean == pytest.approx(3.4 / 6 - 3.3 / 6)
    mae = made["18", "mae", "dice"]
    assert mae.draws == (1,)
    assert mae.interval.mean == pytest.approx(0.1)  # against draw 1 of none
    assert math.isnan(mae.test.p_value)
    assert verdict(mae) == "nothing can be said about other draws, with 1 draw of labels"


def test_methods_without_a_draw_in_common_are_named_not_compared(study):
    study.add("mae", 7, [0.5, 0.6, 0.7])
    made, absent = compared(study)
    assert absent == ("18 labels: mae and none have no finished draw in common",)
    assert ("18", "mae", "dice") not in made


def test_seeds_of_the_same_labelled_frames_are_one_draw(study):
    for method, gain in (("none", 0.0), ("cm_unet", 0.1)):
        study.add(method, 2, [0.3 + gain, 0.5 + gain, 0.7], label_draw=1)
    made, _ = compared(study)
    assert made["18", "cm_unet", "dice"].draws == (0, 1, 2)
    assert made["18", "cm_unet", "dice"].test.draws == 2


def test_only_the_primary_p_value_is_not_corrected(study):
    study.add("mae", 0, [0.55, 0.68, 0.72])
    study.add("mae", 1, [0.48, 0.52, 0.69])
    made, _ = compared(study, primary=Primary("mae", "dice", "18"))
    chosen = made["18", "mae", "dice"]
    assert chosen.primary
    assert chosen.p_value == chosen.test.p_value
    assert math.isnan(chosen.p_holm)
    tables = {name: read_runs(study.folder).runs["18", name].tables["dice"] for name in ("mae", "none")}
    assert chosen.p_value == paired_test(tables["mae"], tables["none"]).p_value
    others = [c for c in made.values() if not c.primary]
    tested = [c.test.p_value for c in others if not math.isnan(c.test.p_value)]
    smallest = min(others, key=lambda c: c.test.p_value)
    assert smallest.p_holm == pytest.approx(min(1, len(tested) * smallest.test.p_value))


def test_mistakes_in_what_is_compared_are_named(study):
    with pytest.raises(ValueError, match="baseline 'mae' is not among the methods none, cm_unet"):
        compare(read_runs(study.folder), "mae", diagonal_px=1, primary=None)
    with pytest.raises(ValueError, match="metric 'dcie' is not among dice"):
        compared(study, primary=Primary(metric="dcie"))
    with pytest.raises(ValueError, match="'none' with itself"):
        compared(study, primary=Primary(method="none"))
    with pytest.raises(ValueError, match="must be METHOD:METRIC:LABELS"):
        main([str(study.folder), "--output", str(study.folder / "report"), "--primary", "dice"])


def test_a_method_is_higher_only_where_interval_and_test_say_so(study):
    study.folder = study.folder.with_name("other")
    study.cells = []
    rng = np.random.default_rng(0)
    for draw in range(4):
        base = rng.uniform(0.5, 0.6, 3)
        study.add("none", draw, base)
        study.add("cm_unet", draw, base + 0.1 + rng.normal(0, 0.005, 3))
        study.add("mae", draw, base + np.array([0.001, 0.06, 0.0, 0.12])[draw] + rng.normal(0, 0.001, 3))
        study.add("spark", draw, base + np.array([-0.1, 0.1, -0.05, 0.05])[draw])
    made, _ = compared(study)
    sure, unsure, no = (made["18", name, "dice"] for name in ("cm_unet", "mae", "spark"))
    assert in_words(sure).startswith("cm_unet against none, Dice, 18 labelled images: higher (difference +0.0")
    assert unsure.interval.lower > 0
    assert unsure.p_value > 0.05
    assert verdict(unsure) == "undecided: the interval leaves out zero, the corrected test does not"
    assert verdict(no) == "no difference shown"


def test_one_draw_gives_intervals_over_images(study):
    study.drop("none", 1)
    study.drop("cm_unet", 1)
    interval = row_of(table(read_runs(study.folder)), "cm_unet", "dice").interval
    assert interval.mean == pytest.approx(0.7)
    assert 0.6 <= interval.lower < 0.7 < interval.upper <= 0.8
    difference = compared(study)[0]["18", "cm_unet", "dice"].interval
    assert (difference.mean, difference.lower, difference.upper) == pytest.approx((0.1, 0.1, 0.1))


def test_a_metric_that_is_nowhere_defined_is_said_to_be(study):
    for path in study.folder.glob("labels_18/draw_*/none/evaluation/per_image.csv"):
        header, *lines = path.read_text().splitlines()
        column = header.split(",").index("add_px")
        cells = [line.split(",") for line in lines]
        kept = [",".join([*line[:column], "", *line[column + 1 :]]) for line in cells]
        path.write_text("\n".join([header, *kept]) + "\n")
    row = row_of(table(read_runs(study.folder)), "none", "add_px")
    assert METRICS["add_px"].show(row.interval.mean) == "undefined"
    assert (row.interval.undefined, row.values) == (6, 6)


def test_a_zero_is_shown_without_a_minus_and_a_share_in_percent():
    assert METRICS["failure"].show(-1e-17) == "0.0"
    assert METRICS["failure"].show(0.125) == "12.5"
    assert METRICS["dice"].show(0.05, "+") == "+0.050"


def test_the_diameters_of_all_draws_agree_as_worked_out_by_hand(study):
    agreement = {item.method: item for item in agreements(read_runs(study.folder), "px")}
    none, cm_unet = agreement["none"], agreement["cm_unet"]
    assert (none.r, none.bias, none.lower, none.upper) == pytest.approx((1, -0.5, -0.5, -0.5))  # reference + 0.5
    assert (none.n, none.left_out) == (6, 0)
    assert (cm_unet.n, cm_unet.left_out) == (5, 1)  # the empty mask has no diameter
    assert none.r_by_draw == pytest.approx((1, 1))
    assert math.isnan(cm_unet.r_by_draw[1])  # two points always lie on a line


def test_cases_are_chosen_by_the_median_over_draws_and_show_the_nearest_draw(study):
    found = [case for case in cases(read_runs(study.folder)) if case.method == "none"]
    # medians 0.45, 0.55, 0.65; of two draws equally near the first is taken
    assert [(case.kind, case.id) for case in found] == [("best", "c"), ("median", "b"), ("worst", "a")]
    assert [case.dice for case in found] == pytest.approx([0.65, 0.55, 0.45])
    cm_unet = [case for case in cases(read_runs(study.folder)) if case.method == "cm_unet"]
    assert [(case.kind, case.id) for case in cm_unet] == [("best", "b"), ("median", "a"), ("worst", "c")]
    study.add("none", 2, [0.1, 0.1, 0.1])
    failing = [case for case in cases(read_runs(study.folder)) if (case.method, case.kind) == ("none", "failing")]
    assert failing == []  # medians 0.4, 0.5, 0.6: the only failure is the worst
    study.add("none", 3, [0.1, 0.2, 0.6])
    study.add("none", 4, [0.1, 0.3, 0.6])
    failing = [case for case in cases(read_runs(study.folder)) if (case.method, case.kind) == ("none", "failing")]
    assert [(case.id, case.draw) for case in failing] == [("b", 4)]  # 0.3 is the median of 0.1 to 0.6


def test_the_tables_hold_the_figures_as_they_are(study, tmp_path, capsys):
    assert main([str(study.folder), "--output", str(tmp_path / "report")]) == 0
    assert (tmp_path / "report" / "table.md").read_text() in capsys.readouterr().out
    with (tmp_path / "report" / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * len(SHOWN)
    none = next(row for row in rows if (row["method"], row["metric"]) == ("none", "dice"))
    assert (none["labels"], none["mean"], none["by_draw"], none["undefined"]) == ("18", "0.55", "0.6 0.5", "0")
    with (tmp_path / "report" / "comparisons.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["kind"] for row in rows] == ["primary"] + ["exploratory"] * (len(METRICS) - 1)
    assert (rows[0]["method"], rows[0]["metric"], rows[0]["p_holm"]) == ("cm_unet", "dice", "")


def test_without_masks_the_diagonal_is_asked_for_where_a_distance_is_undefined(study, tmp_path):
    for path in study.folder.glob("*/*/*/evaluation/masks/*"):
        path.unlink()
    output = ["--output", str(tmp_path / "report")]
    with pytest.raises(FileNotFoundError, match="give --diagonal-px"):
        main([str(study.folder), *output])
    assert main([str(study.folder), *output, "--diagonal-px", "10"]) == 0
    study.drop("cm_unet", 1)
    assert main([str(study.folder), *output]) == 0
    for method in ("none", "cm_unet"):  # an empty label has no distance that anything would stand for
        table = study.per_image(method, 0)
        lines = table.read_text().splitlines()
        columns = lines[0].split(",")
        values = dict(zip(columns, lines[1].split(","), strict=True))
        values |= dict.fromkeys(("dice", "cl_dice", "iou", "modified_hausdorff_px"), "")
        table.write_text("\n".join([lines[0], ",".join(values.values()), *lines[2:]]) + "\n")
    assert main([str(study.folder), *output]) == 0
