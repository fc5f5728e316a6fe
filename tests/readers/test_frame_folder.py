"""The frames of a folder."""

import csv
import logging
import os
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from PIL import Image

from cmunet_monai.files.nifti import as_nifti
from cmunet_monai.files.own_results import mark_results
from cmunet_monai.pseudonyms import Pseudonyms, map_file
from cmunet_monai.readers import list_frames
from cmunet_monai.xa.run import read_run
from data_prep.synthetic.cine import synthesize_cine
from data_prep.synthetic.xa_file import XAFacts, write_xa

CANARY = "QXZJWKVBNMPL"


FRAME = np.full((4, 6), 9, np.uint8)


def write_frame(path):
    path.parent.mkdir(exist_ok=True)
    if path.suffix == ".png":
        Image.fromarray(FRAME).save(path)
    else:
        nib.save(nib.Nifti1Image(FRAME, np.eye(4)), path)


@pytest.fixture
def folder(tmp_path):
    for name in ("b.png", "a.nii.gz", "sub/c.nii", ".hidden.png", ".cache/d.png", "out/b.png"):
        write_frame(tmp_path / name)
    (tmp_path / "sub" / "c.nii").rename(tmp_path / "sub" / "c.NII")
    (tmp_path / "notes.txt").touch()
    return tmp_path


def test_frames_are_sorted_and_hidden_files_passed_over(folder):
    assert [row["id"] for row in list_frames(folder)] == ["a.nii.gz", "b.png", "out/b.png", "sub/c.NII"]
    assert list_frames(folder)[0]["image"] == str(folder / "a.nii.gz")


def test_a_folder_is_left_out(folder):
    assert [row["id"] for row in list_frames(folder, leave_out=folder / "out")] == ["a.nii.gz", "b.png", "sub/c.NII"]


def test_a_folder_without_frames_is_named(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(FileNotFoundError, match=r"no frame .*1 other files"):
        list_frames(tmp_path)


def test_a_folder_that_cannot_be_opened_is_listed_without_its_name(folder, tmp_path, monkeypatch):
    def scandir(path):
        if Path(path).name == "sub":
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    scan = os.scandir
    monkeypatch.setattr(os, "scandir", scandir)
    rows = list_frames(folder, passed_over=tmp_path / "lost.csv")
    assert [row["id"] for row in rows] == ["a.nii.gz", "b.png", "out/b.png"]
    with (tmp_path / "lost.csv").open(newline="") as file:
        (lost,) = csv.DictReader(file)
    assert lost["name"] == "folder 1 of 1"
    assert "cannot be opened, 1 below the source" in lost["reason"]


def test_a_name_too_long_to_name_results_by_is_passed_over(folder, tmp_path):
    write_frame(folder / f"{'a' * 240}.png")
    assert [row["id"] for row in list_frames(folder)] == ["a.nii.gz", "b.png", "out/b.png", "sub/c.NII"]


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file or folder at .*nowhere"):
        list_frames(tmp_path / "nowhere")


def test_frames_may_lie_in_the_output_folder(folder, monkeypatch):
    assert [row["id"] for row in list_frames(folder / "out", leave_out=folder)] == ["b.png"]
    monkeypatch.chdir(folder)
    assert [row["id"] for row in list_frames("out", leave_out=".")] == ["b.png"]


@pytest.mark.parametrize("name", ["first/masks", "later/second/overlays", "probabilities"])
def test_results_of_an_earlier_run_are_no_frames(folder, name):
    frames = [row["id"] for row in list_frames(folder)]
    mark_results(folder / name)
    write_frame(folder / name / "b.png")
    assert [row["id"] for row in list_frames(folder)] == frames
    with pytest.raises(ValueError, match="contains results of an earlier run, not frames"):
        list_frames(folder / name)


def test_a_folder_of_others_is_never_marked_as_results(folder):
    with pytest.raises(FileExistsError, match="out holds files that no earlier run has written"):
        mark_results(folder / "out")


def test_links_are_not_followed_and_listed(folder, tmp_path):
    (folder / "link.png").symlink_to(folder / "b.png")
    (folder / "nowhere.png").symlink_to(folder / "absent")
    (folder / "round").symlink_to(folder)
    rows = list_frames(folder, passed_over=tmp_path / "lost.csv")
    assert [row["id"] for row in rows] == ["a.nii.gz", "b.png", "out/b.png", "sub/c.NII"]
    with (tmp_path / "lost.csv").open(newline="") as file:
        lost = list(csv.DictReader(file))
    assert [row["name"] for row in lost] == ["link 1 of 3", "link 2 of 3", "link 3 of 3"]
    assert "is not followed: give the file or folder itself" in lost[0]["reason"]
    assert [row["id"] for row in list_frames(folder / "link.png")] == ["link.png"]  # one that is named is meant


ODD_NAMES = {
    "apostrophe": "it's one",
    "quote": 'a "b',
    "backslash": "back\\slash",
    "no text": "caf\udce9",
    "line": "new\nline",
    "comma": "Müller, Anna",
}


@pytest.mark.parametrize("name", ODD_NAMES.values(), ids=ODD_NAMES.keys())
def test_no_path_reaches_the_table_whatever_the_names(tmp_path, name):
    folder = tmp_path / name / f"IM {name}"
    folder.mkdir(parents=True)
    write_frame(folder / "good.png")
    for file in (f"{name}.png", f"{name}.nii", f"{name}.nii.gz"):
        (folder / file).write_bytes(b"no frame")
    list_frames(folder, passed_over=tmp_path / "lost.csv")
    with (tmp_path / "lost.csv").open(newline="") as file:
        lost = list(csv.DictReader(file))
    assert len(lost) == 3
    for row in lost:
        assert str(tmp_path) not in row["reason"]
        assert "IM " not in row["reason"]


@pytest.mark.parametrize("spacing_mm", [0.2, 0.345678, None])
def test_nifti_that_this_project_wrote_keeps_its_pixel_size(tmp_path, spacing_mm):
    nib.save(as_nifti(FRAME, spacing_mm), tmp_path / "own.nii.gz")
    others = nib.Nifti1Image(FRAME, np.diag([0.5, 0.5, 1, 1]))
    others.header.set_xyzt_units("mm")
    nib.save(others, tmp_path / "others.nii")
    others_row, own_row = list_frames(tmp_path, spacing_mm=0.3)
    assert (others_row["spacing_mm"], others_row["spacing_source"]) == (0.3, "user")  # mm at the detector, or none
    expected = (0.3, "user") if spacing_mm is None else (pytest.approx(spacing_mm), "frame_file")
    assert (own_row["spacing_mm"], own_row["spacing_source"]) == expected


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A run with contrast, a copy of it, one without contrast, a single frame, a cut file, and a PNG."""
    root = tmp_path_factory.mktemp("exported")
    filled, empty = (synthesize_cine(0, 1, 0, size=96, frames=16, contrast=contrast) for contrast in (True, False))
    for name, cine in ((f"{CANARY}/IM0", filled), ("copy.dcm", filled), ("none", empty)):
        (root / name).parent.mkdir(exist_ok=True)
        write_xa(root / name, cine.frames, replace(cine.facts, patient_name=CANARY, patient_id=CANARY))
    write_xa(root / "single", np.full((20, 30), 7, np.uint8), XAFacts())
    (root / f"{CANARY}.dcm").write_bytes((root / "copy.dcm").read_bytes()[:4000])
    write_frame(root / "b.png")
    return root


@pytest.fixture
def key(tmp_path):
    return tmp_path / "key"


def test_a_dicom_run_gives_its_fullest_frame_by_pseudonym(exported, key, caplog):
    caplog.set_level(logging.INFO)
    rows = list_frames(exported, key=key)
    assert rows[0] == {
        "id": "b.png",
        "image": str(exported / "b.png"),
        "spacing_mm": None,
        "spacing_source": "unknown",
    }
    runs = {row["id"].split("_")[0]: row for row in rows[1:]}
    assert len(runs) == len(rows[1:]) == 2  # the run and the single frame; its copy, no contrast and a cut file are not
    single = next(row for row in rows[1:] if row["image"] == str(exported / "single"))
    assert single["frame_index"] == 0
    (filled,) = (row for row in rows[1:] if row is not single)
    assert filled["id"].endswith(f"_{filled['frame_index']:04d}")
    assert filled["frame_index"] > 0
    for reason in ("none of its 16 frames shows", "again", "passed over"):
        assert reason in caplog.text
    assert CANARY not in caplog.text
    assert not any(CANARY in row["id"] for row in rows)


def test_dicom_that_is_named_as_a_picture_goes_by_its_pseudonym_too(exported, key, caplog):
    named = exported / f"{CANARY}.png"
    (exported / "single").rename(named)
    rows = list_frames(exported, key=key)
    assert all(CANARY not in row["id"] for row in rows)
    assert CANARY not in caplog.text
    assert str(named) in [row["image"] for row in rows]


def test_pseudonyms_are_those_of_the_key_and_stand_in_the_map_beside_it(exported, key):
    rows = list_frames(exported, key=key)
    names = Pseudonyms.open(key, output=exported)
    text = map_file(names).read_text()
    assert all(row["id"].split("_")[0] in text for row in rows[1:])
    assert names.source("none") in text
    assert [row["id"] for row in list_frames(exported, key=key)] == [row["id"] for row in rows]
    other = list_frames(exported, key=key.with_name("other"))
    assert not {row["id"] for row in other[1:]} & {row["id"] for row in rows[1:]}


def test_frames_are_all_or_those_named(exported, key, caplog):
    every = [row for row in list_frames(exported, key=key, frames="all") if "frame_index" in row]
    assert len(every) == 16 + 16 + 1
    assert len({row["id"] for row in every}) == len(every)
    named = [row for row in list_frames(exported, key=key, frames=[3, 15, 16]) if "frame_index" in row]
    assert sorted(row["frame_index"] for row in named) == [3, 3, 15, 15]
    assert "frame 16 passed over: there is no such frame, it has 16" in caplog.text


def test_dicom_without_a_key_or_without_a_usable_frame_is_named(exported, tmp_path):
    with pytest.raises(ValueError, match="holds 5 DICOM files: `key` must name a file"):
        list_frames(exported)
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "x").write_bytes((exported / "copy.dcm").read_bytes()[:4000])
    with pytest.raises(FileNotFoundError, match="all 1 files were passed over"):
        list_frames(tmp_path / "cut", key=tmp_path / "key")


def test_a_damaged_copy_does_not_stand_for_a_whole_one(exported, key, tmp_path):
    whole, folder = exported / "copy.dcm", tmp_path / "copies"
    folder.mkdir()
    (folder / "b.dcm").write_bytes(whole.read_bytes())
    (folder / "a.dcm").write_bytes(whole.read_bytes()[:-5000])  # the last frame is cut
    (row,) = list_frames(folder, key=key, frames=[15])
    assert row["image"] == str(folder / "b.dcm")


def test_a_file_that_cannot_be_opened_is_logged_by_its_pseudonym(exported, key, caplog, monkeypatch):
    def refuse(self, *arguments, **settings):
        if self.name == "none":
            raise PermissionError(13, "Permission denied", str(self))
        return original(self, *arguments, **settings)

    original = Path.open
    monkeypatch.setattr(Path, "open", refuse)
    monkeypatch.setattr("cmunet_monai.readers.frame_folder.read_run", opening(read_run))
    rows = list_frames(exported, key=key)
    assert len(rows) == 3
    file = Pseudonyms.open(key, output=exported).source("none")
    assert f"{file} passed over: it cannot be read: Permission denied" in caplog.text
    assert str(exported / "none") not in caplog.text


def opening(read):
    """`read_run` of a path that is opened by `Path.open`."""

    def read_opened(path, **settings):
        with path.open("rb") as stream:
            return read(stream, **settings)

    return read_opened


@pytest.mark.parametrize(
    "frames, message",
    [
        ("best", "`all`, `fullest`, `measure` or numbers"),
        ([], "at least one"),
        ([5, 5], r"different whole numbers from 0, got \[5, 5\]"),
        ([-1], "whole numbers from 0"),
        ([1.0], "whole numbers from 0"),
        ([True], "whole numbers from 0"),
        (["a"], "whole numbers from 0"),
    ],
)
def test_frames_that_cannot_be_are_named(exported, key, frames, message):
    with pytest.raises(ValueError, match=message):
        list_frames(exported, key=key, frames=frames)


def test_one_number_is_one_frame(exported, key):
    assert {row["frame_index"] for row in list_frames(exported, key=key, frames=3) if "frame_index" in row} == {3}


def test_a_single_file_is_a_frame_of_its_folder(folder):
    assert [row["id"] for row in list_frames(folder / "sub" / "c.NII")] == ["c.NII"]
    with pytest.raises(FileNotFoundError, match=r"no frame .*notes.txt, which holds 1 other files"):
        list_frames(folder / "notes.txt")


def test_an_unreadable_frame_is_passed_over_and_listed_without_its_folder(folder, caplog):
    (folder / "cut.png").write_bytes((folder / "b.png").read_bytes()[:50])
    nib.save(nib.Nifti1Image(np.zeros((4, 6, 3), np.uint8), np.eye(4)), folder / "three.nii")
    nib.save(nib.Nifti1Image(np.full((4, 6), -1.5, np.float32), np.eye(4)), folder / "negative.nii")
    nib.save(nib.Nifti1Image(np.full((4, 6), np.nan, np.float32), np.eye(4)), folder / "nan.nii")
    table = folder.parent / "passed_over.csv"
    rows = list_frames(folder, leave_out=folder / "out", passed_over=table)
    assert [row["id"] for row in rows] == ["a.nii.gz", "b.png", "sub/c.NII"]
    with table.open(newline="") as file:
        lost = {row["name"]: row["reason"] for row in csv.DictReader(file)}
    assert list(lost) == ["cut.png", "nan.nii", "negative.nii", "three.nii"]
    assert lost["nan.nii"] == "grey levels must be finite and not negative, got nan to nan"
    assert lost["negative.nii"].endswith("got -1.5 to -1.5")
    assert "cut.png cannot be read as a PNG or NIfTI frame" in lost["cut.png"]
    assert "must hold one grey frame, got an array of shape (4, 6, 3)" in lost["three.nii"]
    assert str(folder) not in caplog.text.replace(f"{folder}: 7 frames", "")
    for name in lost:
        (folder / name).unlink()
    list_frames(folder, leave_out=folder / "out", passed_over=table)
    assert not table.exists()  # of an earlier run


def test_what_the_header_says_against_a_run_goes_with_its_rows(exported, key, monkeypatch):
    monkeypatch.setattr(
        "cmunet_monai.readers.frame_folder.read_run",
        lambda path, **settings: replace(read_run(path, **settings), subtracted=True, burned_in_annotation=True),
    )
    rows = [row for row in list_frames(exported, key=key, frames=[2]) if "run" in row]
    assert [row["concerns"] for row in rows] == [["subtracted", "burned_in_annotation"]] * 2
    assert all(row["id"].startswith(row["run"]) for row in rows)


@pytest.mark.parametrize(
    "tags", [{"PixelSpacing": [0.2, 0.25]}, {"ImagerPixelSpacing": [0.3, 0.4]}, {"PixelAspectRatio": [4, 3]}], ids=str
)
def test_pixels_of_dicom_that_are_not_square_are_a_concern_and_have_no_mm(exported, key, tmp_path, tags):
    dataset = pydicom.dcmread(exported / "copy.dcm")
    for keyword in ("PixelSpacing", "ImagerPixelSpacing", "PixelAspectRatio"):
        if keyword in dataset:
            del dataset[keyword]
    for keyword, value in tags.items():
        setattr(dataset, keyword, value)
    (tmp_path / "run").mkdir()
    dataset.save_as(tmp_path / "run" / "oblong.dcm")
    (row,) = list_frames(tmp_path / "run", key=key, frames=[2], spacing_mm=0.2)
    assert (row["spacing_mm"], row["concerns"]) == (None, ["anisotropic"])


@pytest.mark.parametrize(
    "image",
    [
        nib.Nifti1Image(FRAME, np.diag([0.2, 0.25, 1, 1])),
        nib.Nifti1Image(FRAME, np.array([[0, -0.3, 0, 5], [0.2, 0, 0, -7], [0, 0, 1, 2], [0, 0, 0, 1.0]])),
        as_nifti(FRAME, None, aspect=0.75),
    ],
    ids=["of others", "turned", "of a run whose ratio alone is known"],
)
def test_pixels_of_nifti_that_are_not_square_are_a_concern_and_take_no_users_size(tmp_path, image):
    nib.save(image, tmp_path / "oblong.nii.gz")
    write_frame(tmp_path / "square.png")
    oblong, square = list_frames(tmp_path, spacing_mm=0.3)
    assert (oblong["spacing_mm"], oblong["spacing_source"], oblong["concerns"]) == (None, "unknown", ["anisotropic"])
    assert (square["spacing_mm"], square.get("concerns")) == (0.3, None)
