"""Damage belongs to a frame: what the three verbs make of a cine with damaged frames."""

import csv
import json
from dataclasses import replace
from functools import cache

import numpy as np
import pydicom
import pytest

from cmunet_monai.readers import list_frames
from cmunet_monai.xa.run import read_frames, read_run
from data_prep.__main__ import main
from data_prep.deidentification.left_out import without_frames
from data_prep.synthetic.cine import synthesize_cine
from data_prep.synthetic.xa_file import TRANSFER_SYNTAX_NAMES, write_xa

FRAMES = 16


@cache
def cine():
    made = synthesize_cine(0, 1, 0, size=128, frames=FRAMES, contrast=True)
    frames = (made.frames >> (made.facts.bits_stored - 8)).astype(np.uint8)
    changed = {"bits_stored": 8, "window": None, "ecg": None, "r_wave_frames": (2, 9), "representative_frame": 9}
    return replace(made, frames=frames, facts=replace(made.facts, **changed, frame_time_ms=50.0))


def damage_cut(path):
    write_xa(path, cine().frames, cine().facts)
    path.write_bytes(path.read_bytes()[: -128 * 128 - 8000])  # one and a half frames


def damage_coded(path, numbers, syntax):
    write_xa(path, cine().frames, cine().facts, transfer_syntax=TRANSFER_SYNTAX_NAMES[syntax])
    dataset = pydicom.dcmread(path)
    pieces = list(pydicom.encaps.generate_frames(dataset.PixelData, number_of_frames=FRAMES))
    for number in numbers:
        pieces[number] = bytes(len(pieces[number]))
    dataset.PixelData = pydicom.encaps.encapsulate(pieces)
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(path)


DAMAGES = {
    "cut": (damage_cut, (14, 15)),
    "jpeg": (lambda path: damage_coded(path, (3,), "jpeg-baseline"), (3,)),
    "rle": (lambda path: damage_coded(path, (0, 3), "rle"), (0, 3)),
}


@pytest.fixture(params=DAMAGES)
def damaged(request, tmp_path):
    """A file, and the numbers of its damaged frames."""
    (tmp_path / "export").mkdir()
    damage, numbers = DAMAGES[request.param]
    damage(tmp_path / "export" / "run")
    return tmp_path / "export" / "run", numbers


def rows_of(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def run(verb, source, output, *options):
    assert main([verb, "--source", str(source), "--output", str(output), "--workers", "1", *options]) == 0


def test_ingestion_chooses_among_the_other_frames_and_names_the_damaged(damaged, tmp_path):
    path, numbers = damaged
    run("dicom", path, tmp_path / "data")
    (row,) = rows_of(tmp_path / "data" / "files.csv")
    assert row["status"] == "kept"
    assert row["reason"].startswith(f"{len(numbers)} of {FRAMES} frames left out: frame {numbers[0]} is damaged (")
    (facts,) = rows_of(tmp_path / "data" / "runs.csv")
    assert facts["damaged_frames"] == " ".join(map(str, numbers))
    (frame,) = json.loads((tmp_path / "data" / "datalist.json").read_text())["pretraining"]
    assert cine().truth.filling[frame["frame"]] == max(
        cine().truth.filling[number] for number in range(FRAMES) if number not in numbers
    )


@pytest.mark.parametrize("frames", ["fullest", "measure", "all"])
def test_prediction_takes_the_other_frames_and_names_the_damaged(damaged, tmp_path, frames):
    path, numbers = damaged
    rows = list_frames(path, frames=frames, key=tmp_path / "key", passed_over=tmp_path / "passed_over.csv")
    assert {row["frame_index"] for row in rows} <= set(range(FRAMES)) - set(numbers)
    assert len(rows) == (FRAMES - len(numbers) if frames == "all" else 1)
    lost = {row["name"].split(", ")[1]: row["reason"] for row in rows_of(tmp_path / "passed_over.csv")}
    assert list(lost) == [f"frame {number}" for number in numbers]
    assert not [reason for reason in lost.values() if "Error" in reason]


def test_a_copy_that_would_lack_a_frame_is_refused_with_its_number(damaged, tmp_path):
    path, numbers = damaged
    run("deidentify", path, tmp_path / "data")
    (row,) = rows_of(tmp_path / "data" / "deidentified.csv")
    assert row["status"] == "failed"
    assert row["reason"].startswith(f"frame {numbers[0]}: ")
    assert row["reason"].endswith("--without-damaged-frames copies the other frames")
    assert not list((tmp_path / "data").rglob("*.dcm"))


def test_a_copy_without_damaged_frames_has_the_others_and_names_them(damaged, tmp_path):
    path, numbers = damaged
    run("deidentify", path, tmp_path / "data", "--without-damaged-frames")
    (row,) = rows_of(tmp_path / "data" / "deidentified.csv")
    assert (row["status"], row["damaged_frames"]) == ("copied", " ".join(map(str, numbers)))
    (copy,) = (tmp_path / "data").rglob("*.dcm")
    kept = [number for number in range(FRAMES) if number not in numbers]
    np.testing.assert_array_equal(list(read_frames(copy)), list(read_frames(path, kept)))
    after = read_run(copy)
    assert (after.frames, after.representative_frame) == (len(kept), kept.index(9))
    assert after.r_wave_frames == tuple(kept.index(number) for number in (2, 9))
    assert int(pydicom.dcmread(copy).NumberOfFrames) == len(kept)


def test_a_file_without_a_whole_frame_fails_with_the_first_reason(tmp_path):
    damage_coded(tmp_path / "run", range(FRAMES), "jpeg-baseline")
    run("dicom", tmp_path / "run", tmp_path / "data")
    (row,) = rows_of(tmp_path / "data" / "files.csv")
    assert row["status"] == "failed"
    assert row["reason"].startswith("frame 0: its ")


@pytest.mark.parametrize("order", [("a", "b"), ("b", "a")])
def test_of_two_copies_of_a_run_the_whole_one_is_used(tmp_path, order):
    export = tmp_path / "export"
    export.mkdir()
    damage_coded(export / order[0], (3,), "jpeg-baseline")
    write_xa(export / order[1], cine().frames, cine().facts)
    content = pydicom.dcmread(export / order[1])
    content.SOPInstanceUID = pydicom.dcmread(export / order[0]).SOPInstanceUID
    content.save_as(export / order[1])
    rows = list_frames(export, frames="all", key=tmp_path / "key", passed_over=tmp_path / "passed_over.csv")
    assert {row["image"] for row in rows} == {str(export / order[1])}
    assert len(rows) == FRAMES
    run("dicom", export, tmp_path / "data")
    reasons = {row["status"]: row["reason"] for row in rows_of(tmp_path / "data" / "files.csv")}
    assert reasons.keys() == {"kept", "duplicate"}
    assert reasons["kept"] == ""


@pytest.mark.parametrize(
    "left_out, times",
    [
        ((2,), ["0", "50", "100"]),  # of frames at 0, 50, 100 and 150 ms those at 0, 50 and 150
        ((1, 2), ["0", "150"]),
    ],
)
def test_where_a_frame_is_left_out_between_others_the_times_stay_right(left_out, times):
    header = pydicom.Dataset()
    header.NumberOfFrames, header.FrameTime, header.FrameIncrementPointer = 4, "50", 0x00181063
    header.PositionerPrimaryAngleIncrement = ["0", "1", "2", "3"]
    result, lost = without_frames(header, left_out, 4)
    assert [str(value) for value in result.FrameTimeVector] == times
    assert (result.FrameIncrementPointer, "FrameTime" in result) == (0x00181065, False)
    assert lost == ("PositionerPrimaryAngleIncrement",)
    assert header.FrameTime == 50


@pytest.mark.parametrize("left_out", [(3,), (2, 3)])
def test_where_the_last_frames_are_left_out_the_rest_is_as_it_was(left_out):
    header = pydicom.Dataset()
    header.NumberOfFrames, header.FrameTime = 4, "50"
    header.PositionerPrimaryAngleIncrement = ["0", "1", "2", "3"]
    result, lost = without_frames(header, left_out, 4)
    kept = 4 - len(left_out)
    assert (result.NumberOfFrames, result.FrameTime, lost) == (kept, 50, ())
    assert list(result.PositionerPrimaryAngleIncrement) == list(range(kept))
