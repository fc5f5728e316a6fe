import csv
import math

import numpy as np
import pytest
from PIL import Image

from cmunet_monai.report.command import main
from cmunet_monai.report.study_table import METRICS, compare, largest_diagonal, read_runs

IDS = ["a", "b", "c"]


def write_cell(folder, method, draw, dice, distance=1.0):
    table = folder / f"draw_{draw}" / method / "per_image.csv"
    table.parent.mkdir(parents=True)
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["id", "group", *METRICS])
        writer.writeheader()
        for name, value in zip(IDS, dice, strict=True):
            row = dict.fromkeys(METRICS, 0.0) | {"dice": value, "modified_hausdorff_px": distance if value else ""}
            writer.writerow({"id": name, "group": name} | row)
    return [method, draw, 0.002, table.relative_to(folder).as_posix()]


@pytest.fixture
def study(tmp_path):
    cells = [
        write_cell(tmp_path, "none", 0, [0.5, 0.6, 0.7]),
        write_cell(tmp_path, "cm_unet", 0, [0.6, 0.7, 0.8]),
        write_cell(tmp_path, "none", 1, [0.4, 0.5, 0.6]),
        write_cell(tmp_path, "cm_unet", 1, [0.6, 0.7, 0.0], distance=2.0),
    ]
    with (tmp_path / "cells.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["method", "draw", "learning_rate", "per_image"], *cells])
    return tmp_path


def row_of(rows, method, title):
    return next(row for row in rows if (row["method"], row["metric"]) == (method, title))


def test_means_are_over_draws_and_images(study):
    rows = compare(read_runs(study), "none", diagonal_px=10)
    none = row_of(rows, "none", "Dice")
    assert none["mean"].startswith("0.550 [")
    assert none["by draw"] == "0.600, 0.500"
    assert none["failed"] == "16.7%"  # the 0.4 of six
    assert "difference" not in none
    assert row_of(rows, "cm_unet", "Dice")["difference"].startswith("+0.017 [")  # 3.4 / 6 - 3.3 / 6


def test_an_undefined_distance_is_the_diagonal_in_a_difference_and_counted(study):
    row = row_of(compare(read_runs(study), "none", diagonal_px=10), "cm_unet", "modified HD (px)")
    assert row["undefined"] == "1 of 6"
    assert row["mean"].startswith("1.400 [")  # (3 * 1 + 2 * 2) / 5
    assert row["difference"].startswith("+1.833 [")  # (0 + 0 + 0 + 1 + 1 + 9) / 6


def test_images_are_matched_by_id_not_by_order(study):
    path = study / "draw_0" / "cm_unet" / "per_image.csv"
    header, *lines = path.read_text().splitlines()
    path.write_text("\n".join([header, *reversed(lines)]) + "\n")
    assert read_runs(study)["cm_unet"].tables["dice"][0].tolist() == [0.6, 0.7, 0.8]


def test_runs_on_other_images_are_refused(study):
    path = study / "draw_0" / "cm_unet" / "per_image.csv"
    path.write_text("\n".join(path.read_text().splitlines()[:-1]) + "\n")
    with pytest.raises(ValueError, match="other images"):
        read_runs(study)


def test_a_half_finished_study_and_an_unknown_baseline_are_named(study):
    with pytest.raises(ValueError, match="baseline 'mae' is not among"):
        compare(read_runs(study), "mae", diagonal_px=1)
    cells = (study / "cells.csv").read_text().splitlines()
    (study / "cells.csv").write_text("\n".join(cells[:-1]) + "\n")
    with pytest.raises(ValueError, match="not finished"):
        read_runs(study)
    with pytest.raises(FileNotFoundError, match=r"cells\.csv is not there"):
        read_runs(study / "draw_0")


def test_one_draw_gives_intervals_over_images(study):
    cells = (study / "cells.csv").read_text().splitlines()
    (study / "cells.csv").write_text("\n".join(cells[:3]) + "\n")
    row = row_of(compare(read_runs(study), "none", diagonal_px=10), "cm_unet", "Dice")
    mean, lower, upper = (float(word.strip("[],")) for word in row["mean"].split())
    assert mean == pytest.approx(0.7)
    assert 0.6 <= lower < 0.7 < upper <= 0.8
    assert row["difference"] == "+0.100 [+0.100, +0.100]"


def test_the_command_writes_and_prints_the_table(study, capsys):
    assert main([str(study), "--output", str(study / "report"), "--diagonal-px", "10"]) == 0
    printed = capsys.readouterr().out
    assert (study / "report" / "table.md").read_text() in printed
    with (study / "report" / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * len(METRICS)
    assert not math.isnan(np.mean([float(row["mean"].split()[0]) for row in rows]))


def test_a_metric_that_is_nowhere_defined_is_said_to_be(study):
    for path in study.glob("draw_*/none/per_image.csv"):
        header, *lines = path.read_text().splitlines()
        column = header.split(",").index("add_px")
        cells = [line.split(",") for line in lines]
        kept = [",".join([*line[:column], "", *line[column + 1 :]]) for line in cells]
        path.write_text("\n".join([header, *kept]) + "\n")
    row = row_of(compare(read_runs(study), "none", diagonal_px=10), "none", "ADD (px)")
    assert (row["mean"], row["by draw"]) == ("undefined", "undefined, undefined")
    assert row["undefined"] == "6 of 6"


def test_the_largest_saved_mask_gives_the_diagonal(tmp_path):
    for name, size in (("a", (30, 40)), ("b", (3, 4))):
        path = tmp_path / "draw_0" / "none" / "evaluation" / "masks" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros(size, np.uint8)).save(path)
    assert largest_diagonal(tmp_path) == 50


def test_without_masks_the_diagonal_is_asked_for(study, tmp_path, capsys):
    with pytest.raises(FileNotFoundError, match="give --diagonal-px"):
        main([str(study), "--output", str(tmp_path / "report")])
