"""What an evaluation makes of masks and labels, without a network."""

import json
import math

import pytest
import torch
from ignite.engine import State
from monai.data import MetaTensor

from cmunet_monai.engines.handlers import EvaluationReport
from cmunet_monai.engines.handlers.evaluation import image_id, measure_pair, picks, summarise_rows

BAR = torch.zeros(1, 64, 64)
BAR[:, 10:50, 30:35] = 1  # 40 x 5 pixels


class Evaluator:
    """What the handler reads of an engine."""

    def __init__(self, source, mask, label):
        image = MetaTensor(torch.zeros(1, 8, 8), meta={"filename_or_obj": source})
        self.state = State(
            batch=[{"frame": torch.rand(mask.shape)}], output=[{"image": image, "pred": mask, "label": label}]
        )


def test_a_row_holds_the_values_worked_out_by_hand():
    half = BAR.clone()
    half[:, 30:] = 0  # the mask covers half of the bar
    row = measure_pair(half, BAR, {"id": "a", "group": "g", "image": "a.png", "spacing_mm": 0.5})
    assert row["dice"] == pytest.approx(2 * 100 / (100 + 200))
    assert row["iou"] == pytest.approx(0.5)
    assert row["artery_diameter_reference_px"] == pytest.approx(5, abs=0.5)
    assert row["artery_diameter_reference_mm"] == pytest.approx(0.5 * row["artery_diameter_reference_px"])
    assert row["unmatched_share"] == pytest.approx(0.5, abs=0.1)


def test_a_patient_is_the_group_before_near_duplicates_and_the_image_itself():
    def group(**facts):
        return measure_pair(BAR, BAR, {"id": "a", "image": "a.png"} | facts)["group"]

    assert (group(patient_id="p", group="g"), group(group="g"), group()) == ("p", "g", "a")


def test_a_row_without_an_id_is_called_by_its_file():
    assert image_id({"image": "folder/f.nii.gz"}) == "f"


def test_picks_are_best_median_worst_and_failing_and_leave_out_undefined_ones():
    rows = [{"id": name, "dice": dice} for name, dice in zip("abcde", (0.9, 0.4, 0.7, math.nan, 0.1), strict=True)]
    assert picks(rows) == {"best": "a", "median": "c", "worst": "e", "failing": ["e", "b"]}


def test_an_empty_label_is_counted_as_undefined():
    rows = [
        measure_pair(BAR, BAR, {"id": "a", "image": "a.png"}),
        measure_pair(BAR, torch.zeros_like(BAR), {"id": "b", "image": "b.png"}),
    ]
    dice = summarise_rows(rows)["metrics"]["dice"]
    assert (dice["mean"], dice["n"], dice["undefined"], dice["failure_rate"]) == (1.0, 1, 1, 0.0)


def test_ids_that_repeat_are_named(tmp_path):
    with pytest.raises(ValueError, match="twin, twin occur"):
        EvaluationReport([{"id": "twin", "image": "a.png"}, {"id": "twin", "image": "b.png"}], tmp_path)


def test_ids_that_would_share_a_file_are_named(tmp_path):
    with pytest.raises(ValueError, match="a/b"):
        EvaluationReport([{"id": "a/b", "image": "a.png"}, {"id": "a_b", "image": "b.png"}], tmp_path)


def test_a_frame_listed_twice_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"listed more than once: a\.png"):
        EvaluationReport([{"id": "x", "image": "a.png"}, {"id": "y", "image": "a.png"}], tmp_path)


def test_an_output_folder_that_is_a_file_is_seen_at_the_start(tmp_path):
    (tmp_path / "taken").touch()
    report = EvaluationReport([{"id": "a", "image": "a.png"}], tmp_path / "taken")
    with pytest.raises(FileExistsError, match="taken"):
        report.start(None)


def test_an_empty_list_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no row"):
        EvaluationReport([], tmp_path)


def test_a_label_of_another_size_than_its_frame_is_named(tmp_path):
    report = EvaluationReport([{"id": "a", "image": "a.png"}], tmp_path)
    report.seconds = 0.0
    with pytest.raises(ValueError, match=r"label of a is \(64, 32\).*frame \(64, 64\)"):
        report.measure(Evaluator("a.png", BAR, BAR[..., :32]))


def test_undefined_figures_are_null_in_the_summary(tmp_path):
    report = EvaluationReport([{"id": "a", "image": "a.png"}], tmp_path, facts={"split": "test"})
    report.seconds = 0.0
    evaluator = Evaluator("a.png", torch.zeros_like(BAR), BAR)
    report.measure(evaluator)
    report.write(evaluator)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["split"] == "test"
    assert (summary["empty_masks"], summary["empty_labels"]) == (1, 0)
    assert summary["metrics"]["dice"]["mean"] == 0
    assert summary["metrics"]["artery_diameter_px"]["mean"] is None
    assert summary["agreement"]["diameter_px"]["pearson"]["r"] is None


@pytest.mark.parametrize("overlays", [True, False])
def test_overlays_are_drawn_where_they_are_asked_for_and_masks_always(tmp_path, overlays):
    report = EvaluationReport([{"id": "a", "image": "a.png"}], tmp_path, overlays=overlays)
    report.seconds = 0.0
    report.measure(Evaluator("a.png", BAR, BAR))
    assert (tmp_path / "masks" / "a.png").is_file()
    assert (tmp_path / "overlays" / "a.png").is_file() == overlays
