import gzip
import hashlib
import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
from monai.data import load_decathlon_datalist
from PIL import Image

from data_prep.datalist import Row, validate_datalist, write_datalist


def _save(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(array).save(path)


def _row(name: str, **changes: object) -> dict[str, object]:
    row = {"id": name, "image": f"images/{name}.png", "label": f"labels/{name}.png", "group": name, "spacing_mm": None}
    return {key: value for key, value in {**row, **changes}.items() if value != "absent"}


@pytest.fixture
def folder(tmp_path):
    """Frames a, b, c of 16 x 12 (width x height) with masks; a and b to train on, c to test on."""
    for seed, name in enumerate("abc"):
        image = np.random.default_rng(seed).integers(0, 256, (12, 16)).astype(np.uint8)
        _save(tmp_path / "images" / f"{name}.png", image)
        _save(tmp_path / "labels" / f"{name}.png", np.where(image > 128, 255, 0).astype(np.uint8))
    _write(tmp_path, training=[_row("a"), _row("b")], test=[_row("c")])
    return tmp_path


def _write(folder: Path, **document: object) -> Path:
    path = folder / "datalist.json"
    path.write_text(json.dumps(document))
    return path


def test_rows_and_header_are_read(folder):
    path = _write(folder, labels="vessel", pretraining=[_row("b", label="absent", source="x")], test=[_row("c")])
    datalist = validate_datalist(path, deep=True)
    assert datalist.lists["pretraining"] == (Row("b", "images/b.png", group="b", extra={"source": "x"}),)
    assert datalist.lists["test"] == (Row("c", "images/c.png", "labels/c.png", "c"),)
    assert datalist.lists["training"] == datalist.lists["validation"] == ()
    assert datalist.header == {"labels": "vessel"}
    assert datalist.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_written_datalist_is_read_by_monai(folder):
    row = Row("a", "images/a.png", "labels/a.png", "a", spacing_mm=0.2, spacing_source="calibrated", extra={"view": 1})
    write_datalist(folder / "out.json", {"training": (row,)}, {"name": "set"})
    assert load_decathlon_datalist(str(folder / "out.json"), True, "training", str(folder)) == [
        {
            "id": "a",
            "image": str(folder / "images/a.png"),
            "label": str(folder / "labels/a.png"),
            "group": "a",
            "spacing_mm": 0.2,
            "spacing_source": "calibrated",
            "view": 1,
        }
    ]
    assert validate_datalist(folder / "out.json").lists["training"] == (row,)


def test_row_for_pretraining_has_no_label_key():
    written = Row("a", "images/a.png", "labels/a.png", "a").without_label().to_json()
    assert written == {
        "id": "a", "image": "images/a.png", "group": "a", "spacing_mm": None, "spacing_source": "unknown"
    }  # fmt: skip


def test_same_datalist_is_not_written_again(folder):
    path = folder / "out.json"
    write_datalist(path, {}, {"name": "set"})
    before = path.stat().st_ino
    write_datalist(path, {}, {"name": "set"})
    assert path.stat().st_ino == before
    write_datalist(path, {}, {"name": "other"})
    assert json.loads(path.read_text())["name"] == "other"


def test_dataset_folder_can_be_another_one(folder, tmp_path_factory):
    elsewhere = _write(tmp_path_factory.mktemp("splits"), training=[_row("a")])
    assert validate_datalist(elsewhere, folder).lists["training"][0].id == "a"
    with pytest.raises(FileNotFoundError, match=r"images/a\.png of row a is missing"):
        validate_datalist(elsewhere)


@pytest.mark.parametrize(
    "document, message",
    [
        ({"training": [_row("a"), _row("b", id="a")]}, "id 'a' is given twice, in `training` and in `training`"),
        ({"training": [_row("a")], "test": [_row("b", id="a")]}, "id 'a' is given twice, in `training` and in `test`"),
        ({"training": [_row("a"), _row("b", image="images/a.png")]}, "image 'images/a.png' is given twice"),
        ({"training": [_row("a"), _row("b", label="labels/a.png")]}, "label 'labels/a.png' is given twice"),
        ({"training": [_row("a", label="absent")]}, "row a in `training` has no `label`"),
        ({"training": [_row("a", group="absent")]}, "expected `patient_id` or `group`, got neither"),
        ({"training": [_row("a", group=3)]}, "`group` must be a non-empty string, got 3"),
        ({"training": [_row("a", id=1)]}, "`id` must be a non-empty string, got 1"),
        ({"training": [_row("a", image="absent")]}, "`image` must be a non-empty string, got None"),
        ({"training": [_row("a", image="../a.png")]}, "`image` must lie inside the dataset folder"),
        ({"training": [_row("a", label="/labels/a.png")]}, "`label` must lie inside the dataset folder"),
        ({"training": [_row("a", spacing_mm=0)]}, "`spacing_mm` must be a positive number or null, got 0"),
        ({"training": [_row("a", spacing_mm=True)]}, "`spacing_mm` must be a positive number or null, got True"),
        ({"training": [_row("a", spacing_mm=float("nan"))]}, "`spacing_mm` must be a positive number or null, got nan"),
        ({"training": ["a"]}, "`training` row 0 must be a JSON object, got str"),
        ({"training": {"a": 1}}, "list `training` must be a JSON list, got dict"),
        ({"training": []}, "has no rows"),
        (
            {"training": [_row("a", patient_id="7")], "test": [_row("c", patient_id="7")]},
            "patient 7 is in `test` (c) and in `training` (a)",
        ),
        (
            {"pretraining": [_row("a", label="absent", group="g")], "test": [_row("c", group="g")]},
            "group g is in `test` (c) and in `pretraining` (a)",
        ),
        (
            {"training": [_row("a", group="g")], "validation": [_row("b", group="g")]},
            "group g is in `training` (a) and in `validation` (b)",
        ),
    ],
)
def test_faulty_rows_are_named(folder, document, message):
    path = _write(folder, **document)
    with pytest.raises(ValueError, match="datalist") as caught:
        validate_datalist(path)
    assert str(path) in str(caught.value)
    assert message in str(caught.value)


def test_patient_is_what_counts_where_it_is_known(folder):
    rows = {"training": [_row("a", patient_id="1", group="g")], "test": [_row("c", patient_id="2", group="g")]}
    validate_datalist(_write(folder, **rows))


def test_missing_files_are_all_named(folder):
    (folder / "labels/a.png").unlink()
    (folder / "images/c.png").unlink()
    with pytest.raises(FileNotFoundError) as caught:
        validate_datalist(folder / "datalist.json")
    assert f"{folder / 'labels/a.png'} of row a is missing" in str(caught.value)
    assert f"{folder / 'images/c.png'} of row c is missing" in str(caught.value)


def test_more_than_ten_faults_are_counted(folder):
    path = _write(folder, training=[_row(f"gone{number}") for number in range(13)])
    with pytest.raises(FileNotFoundError, match=r"gone9\.png(?s:.*)\.\.\. and 3 more$"):
        validate_datalist(path)


def test_label_of_another_size_names_both_sizes(folder):
    # turned by 90 degrees: the number of pixels is the same
    _save(folder / "labels/b.png", np.full((16, 12), 255, np.uint8))
    with pytest.raises(ValueError, match=r"labels/b\.png: label of b is 12x16 .* expected 16x12"):
        validate_datalist(folder / "datalist.json")


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_truncated_png_is_found_when_files_are_decoded(folder, share):
    path = folder / "images/b.png"
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=r"images/b\.png is truncated or damaged"):
        validate_datalist(folder / "datalist.json", deep=True)


def test_damaged_header_is_found_without_decoding(folder):
    (folder / "images/b.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"images/b\.png is truncated or damaged"):
        validate_datalist(folder / "datalist.json")


def test_empty_label_is_found_when_files_are_decoded(folder):
    _save(folder / "labels/a.png", np.zeros((12, 16), np.uint8))
    validate_datalist(folder / "datalist.json")
    with pytest.raises(ValueError, match=r"labels/a\.png: label of a has no foreground pixel"):
        validate_datalist(folder / "datalist.json", deep=True)


def test_nifti_frames_are_compared_by_their_first_two_axes(folder):
    frame = np.random.default_rng(0).integers(1, 200, (16, 12, 1)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(frame, np.eye(4)), folder / "images/n.nii.gz")
    path = _write(folder, training=[_row("a", image="images/n.nii.gz")])
    validate_datalist(path, deep=True)  # (x, y) as PNG's width x height: 16 x 12

    content = gzip.decompress((folder / "images/n.nii.gz").read_bytes())
    (folder / "images/n.nii.gz").write_bytes(gzip.compress(content[: len(content) // 2 + 200]))
    with pytest.raises(ValueError, match=r"images/n\.nii\.gz is truncated or damaged"):
        validate_datalist(path, deep=True)


@pytest.mark.parametrize("content", ['{"training": [', "", "[]", "\x00"])
def test_cut_json_names_the_file(folder, content):
    path = folder / "datalist.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"datalist\.json (is not valid JSON|must hold a JSON object)"):
        validate_datalist(path)


def test_missing_datalist_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.json is missing"):
        validate_datalist(tmp_path / "none.json")
