import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from skimage.draw import polygon as pixels_of_polygon

from cmunet_monai.verbs import DATA_PREP_VERBS
from data_prep import arcade
from data_prep.__main__ import main
from data_prep.arcade import Polygon, inside_polygon, rasterise
from data_prep.datalist import validate_datalist

SIDE = 128
BOX = [10, 20, 50, 20, 50, 26, 10, 26]  # x, y of the corners: 40 x 6 pixels
# Category 10 is called 9a, as published; the other names do not matter here.
CATEGORIES = [{"id": number, "name": "9a" if number == 10 else f"name {number}"} for number in range(1, 27)]


def _frame(seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal((SIDE, SIDE)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 3)
    return np.clip(130 + 30 * smooth / smooth.std(), 40, 220).astype(np.uint8)


def _annotation(image_id: int, *outlines: list[float], category: int = 1) -> dict[str, object]:
    return {"id": image_id, "image_id": image_id, "category_id": category, "segmentation": list(outlines), "area": 0}


def _make_split(
    root: Path, task: str, split: str, frames: dict[int, np.ndarray], annotations: list[dict[str, object]] | None = None
) -> Path:
    """Write one split in the published layout; returns the annotation file."""
    images = root / task / split / "images"
    images.mkdir(parents=True)
    for image_id, frame in frames.items():
        Image.fromarray(frame).save(images / f"{image_id}.png")
    category = 26 if task == "stenosis" else 1
    path = root / task / split / "annotations" / f"{split}.json"
    path.parent.mkdir()
    listed = [
        {"id": image_id, "width": SIDE, "height": SIDE, "file_name": f"{image_id}.png"} for image_id in frames
    ]  # fmt: skip
    document = {
        "images": listed,
        "annotations": annotations or [_annotation(image_id, BOX, category=category) for image_id in frames],
        "categories": CATEGORIES,
    }
    path.write_text(json.dumps(document))
    return path


@pytest.fixture
def source(tmp_path):
    """Syntax frames 1 to 3 to train on and 1 in val; every mask is the box of 240 pixels."""
    root = tmp_path / "published"
    _make_split(root, "syntax", "train", {number: _frame(number) for number in (1, 2, 3)})
    _make_split(root, "syntax", "val", {1: _frame(100)})
    return root


def _prepare(source: Path, *options: str) -> Path:
    output = source.parent / "prepared"
    assert main(["arcade", "--source", str(source), "--output", str(output), *options]) == 0
    return output


def _edit(path: Path, change) -> None:
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def _error(source: Path, capsys, *options: str) -> str:
    """Run on a faulty source: exit code 2, one error on stderr, nothing written."""
    output = source.parent / "prepared"
    assert main(["arcade", "--source", str(source), "--output", str(output), *options]) == 2
    captured = capsys.readouterr()
    message = captured.err[captured.err.index("error: ") :]
    assert "Traceback" not in captured.err
    assert not output.exists()
    return message


def _read(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


# Rasterising


def _inside(*corners: tuple[float, float], height: int = 20, width: int = 30) -> np.ndarray:
    return inside_polygon(np.array(corners, np.float64), height, width)


def test_box_on_pixel_edges_covers_its_area():
    mask = _inside((3, 5), (13, 5), (13, 9), (3, 9))
    assert mask.sum() == 10 * 4
    assert mask[5:9, 3:13].all()


def test_pixel_counts_where_its_centre_lies_inside():
    # centres at 10.5, 11.5 and 12.5; rows' centres at 5.5 and 6.5
    assert np.argwhere(_inside((10.4, 5.4), (12.6, 5.4), (12.6, 6.6), (10.4, 6.6))).tolist() == [
        [5, 10], [5, 11], [5, 12], [6, 10], [6, 11], [6, 12]
    ]  # fmt: skip


def test_polygon_between_centres_covers_no_pixel():
    assert not _inside((3, 5.6), (13, 5.6), (13, 6.4), (3, 6.4)).any()


def test_direction_and_first_corner_do_not_matter():
    corners = [(3.2, 5.1), (13.7, 2.3), (22.4, 9.9), (9.5, 17.2)]
    expected = _inside(*corners)
    np.testing.assert_array_equal(_inside(*corners[::-1]), expected)
    np.testing.assert_array_equal(_inside(*corners[2:], *corners[:2]), expected)


def test_halves_of_a_square_share_no_pixel_and_leave_none_out():
    # the diagonal runs through the centres of ten pixels
    upper = _inside((2, 2), (12, 2), (12, 12))
    lower = _inside((2, 2), (12, 12), (2, 12))
    assert not (upper & lower).any()
    assert (upper | lower).sum() == 100


def test_outline_that_crosses_itself_encloses_both_loops():
    # It crosses at (10, 10): inside are the triangles to the left and right of it, not those above and below.
    mask = _inside((2, 6), (18, 14), (18, 6), (2, 14))
    assert mask[10, 3]
    assert mask[10, 16]
    assert not mask[6, 10]
    assert not mask[13, 10]


def test_part_outside_the_frame_is_cut_off():
    mask = _inside((-5, -7), (3, -7), (3, 2), (-5, 2))
    assert mask.sum() == 3 * 2
    assert mask[:2, :3].all()


@pytest.mark.parametrize("offset", [(-100, 0), (100, 0), (0, -100), (0, 100), (1e300, 1e300)])
def test_polygon_outside_the_frame_covers_no_pixel(offset):
    corners = np.array([(3, 5), (13, 5), (13, 9), (3, 9)]) + offset
    assert not inside_polygon(corners, 20, 30).any()


@pytest.mark.parametrize("seed", range(8))
def test_pixels_are_those_of_scikit_image(seed):
    generator = np.random.default_rng(seed)
    angles = np.sort(generator.uniform(0, 2 * np.pi, 25))
    radii = generator.uniform(5, 45, 25)  # a star, partly outside
    vertices = np.stack([30 + radii * np.cos(angles), 35 + radii * np.sin(angles)], axis=1)
    expected = np.zeros((64, 72), bool)
    expected[pixels_of_polygon(vertices[:, 1] - 0.5, vertices[:, 0] - 0.5, shape=expected.shape)] = True
    np.testing.assert_array_equal(inside_polygon(vertices, 64, 72), expected)


def test_smaller_polygon_stands_on_top():
    small = Polygon(7, np.array([(4, 4), (8, 4), (8, 8), (4, 8)], np.float64))
    large = Polygon(3, np.array([(2, 2), (12, 2), (12, 12), (2, 12)], np.float64))
    for polygons in ((small, large), (large, small)):
        mask = rasterise(polygons, 20, 20, values="category")
        assert np.bincount(mask.ravel(), minlength=8)[[0, 3, 7]].tolist() == [300, 84, 16]


# What is written


def test_vessel_mask_is_the_union_of_all_polygons(source):
    def two_segments(document):
        document["annotations"] = [
            _annotation(1, [10, 5, 20, 5, 20, 8, 10, 8]),  # 10 x 3
            _annotation(1, [15, 6, 25, 6, 25, 12, 15, 12], category=6),  # 10 x 6, of which 5 x 2 in common
            _annotation(2, BOX),
            _annotation(3, BOX),
        ]

    _edit(source / "syntax/train/annotations/train.json", two_segments)
    mask = _read(_prepare(source) / "labels/syntax_train_0001.png")
    assert mask.dtype == np.uint8
    assert mask.shape == (SIDE, SIDE)
    assert np.unique(mask).tolist() == [0, 255]
    assert np.count_nonzero(mask) == 30 + 60 - 10
    assert mask[5:8, 10:20].all()
    assert mask[6:12, 15:25].all()


def test_segment_labels_hold_the_class_and_the_names_are_listed(source):
    _edit(
        source / "syntax/val/annotations/val.json",
        lambda document: document.update(
            annotations=[_annotation(1, BOX, [60, 60, 64, 60, 64, 70, 60, 70], category=10)]
        ),
    )
    output = _prepare(source, "--labels", "segments")
    mask = _read(output / "labels/syntax_val_0001.png")
    assert np.bincount(mask.ravel(), minlength=11)[[0, 10]].tolist() == [SIDE**2 - 240 - 40, 240 + 40]
    values = json.loads((output / "datalist.json").read_text())["label_values"]
    assert values["0"] == "background"
    assert values["10"] == "9a"
    assert len(values) == 26


def test_stenosis_labels_come_from_the_stenosis_task(source):
    _make_split(source, "stenosis", "train", {4: _frame(40)})
    output = _prepare(source, "--labels", "stenosis")
    datalist = validate_datalist(output / "datalist.json", deep=True)
    assert [row.id for row in datalist.lists["training"]] == ["stenosis_train_0004"]
    assert np.count_nonzero(_read(output / "labels/stenosis_train_0004.png") == 255) == 240
    assert datalist.header["label_values"] == {"0": "background", "255": "stenosis"}


def test_val_and_published_test_split_become_the_test_list(source):
    _make_split(source, "syntax", "test", {7: _frame(70)})
    output = _prepare(source)
    datalist = validate_datalist(output / "datalist.json", deep=True)
    ids = {name: [row.id for row in rows] for name, rows in datalist.lists.items()}
    assert ids == {
        "pretraining": [],
        "training": ["syntax_train_0001", "syntax_train_0002", "syntax_train_0003"],
        "validation": [],
        "test": ["syntax_val_0001", "syntax_test_0007"],
    }
    assert json.loads((output / "datalist.json").read_text())["test"][1] == {
        "id": "syntax_test_0007",
        "image": "images/syntax_test_0007.png",
        "label": "labels/syntax_test_0007.png",
        "group": "syntax_test_0007",
        "spacing_mm": None,
        "spacing_source": "unknown",
        "source": "syntax/test/images/7.png",
    }


def test_frames_are_copied_unchanged(source):
    output = _prepare(source)
    published = (source / "syntax/train/images/2.png").read_bytes()
    assert (output / "images/syntax_train_0002.png").read_bytes() == published


def test_frame_with_three_equal_channels_becomes_one(source):
    path = source / "syntax/train/images/2.png"
    Image.fromarray(np.stack([_frame(2)] * 3, axis=-1)).save(path)
    np.testing.assert_array_equal(_read(_prepare(source) / "images/syntax_train_0002.png"), _frame(2))


def test_sixteen_bit_frame_stays_so(source):
    Image.fromarray(_frame(2).astype(np.uint16) * 16).save(source / "syntax/train/images/2.png")
    frame = _read(_prepare(source) / "images/syntax_train_0002.png")
    np.testing.assert_array_equal(frame, _frame(2).astype(np.uint16) * 16)


def test_other_task_is_added_unlabelled_on_request(source):
    _make_split(source, "stenosis", "train", {4: _frame(40), 5: _frame(50)})
    _make_split(source, "stenosis", "val", {6: _frame(60)})
    output = _prepare(source, "--add-unlabelled")
    rows = validate_datalist(output / "datalist.json").lists["pretraining"]
    assert [(row.id, row.label) for row in rows] == [("stenosis_train_0004", None), ("stenosis_train_0005", None)]
    assert not (output / "labels/stenosis_train_0004.png").exists()
    assert (output / "images/stenosis_train_0004.png").exists()


# Near-duplicates


def test_training_frame_that_resembles_a_test_frame_is_dropped_and_listed(source, capsys):
    shifted = np.roll(_frame(100), 6, axis=1) // 2 + 20  # val 1, moved by 3 px of 64, at half the contrast
    Image.fromarray(shifted).save(source / "syntax/train/images/3.png")
    output = _prepare(source)
    document = json.loads((output / "datalist.json").read_text())
    assert [row["id"] for row in document["training"]] == ["syntax_train_0001", "syntax_train_0002"]
    (dropped,) = document["dropped"]
    assert dropped.pop("score") > 0.39
    assert dropped == {
        "id": "syntax_train_0003",
        "source": "syntax/train/images/3.png",
        "list": "training",
        "reason": "near_duplicate",
        "test_id": "syntax_val_0001",
    }
    assert not (output / "images/syntax_train_0003.png").exists()
    assert "1 frames to train on, near_duplicate of a test frame" in capsys.readouterr().out


def test_near_duplicates_to_train_on_share_a_group(source):
    Image.fromarray(np.roll(_frame(1), -4, axis=0)).save(source / "syntax/train/images/3.png")
    rows = validate_datalist(_prepare(source) / "datalist.json").lists["training"]
    assert {row.id: row.group for row in rows} == {
        "syntax_train_0001": "syntax_train_0001",
        "syntax_train_0002": "syntax_train_0002",
        "syntax_train_0003": "syntax_train_0001",
    }


def test_training_frame_with_the_shutters_of_a_test_frame_is_dropped(source):
    for path, seed in (("train/images/2.png", 2), ("val/images/1.png", 100)):
        frame = _frame(seed)
        frame[:, :30] = 0
        Image.fromarray(frame).save(source / "syntax" / path)
    (dropped,) = json.loads((_prepare(source) / "datalist.json").read_text())["dropped"]
    assert dropped["id"] == "syntax_train_0002"
    assert dropped["reason"] == "same_shutters"
    assert dropped["test_id"] == "syntax_val_0001"
    assert dropped["score"] == 1.0


# Running again


def _state(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


def test_second_run_changes_no_file(source):
    output = _prepare(source)
    before = _state(output)
    _prepare(source)
    assert _state(output) == before
    assert len(before) == 4 + 4 + 1  # frames, masks, datalist


def test_second_run_repairs_a_damaged_file(source):
    output = _prepare(source)
    good = (output / "labels/syntax_train_0002.png").read_bytes()
    (output / "labels/syntax_train_0002.png").write_bytes(good[:40])
    _prepare(source)
    assert (output / "labels/syntax_train_0002.png").read_bytes() == good


def test_interrupted_run_leaves_no_datalist_and_no_part_of_a_file(source, monkeypatch):
    put, written = arcade._put, []

    def interrupted(path, content):
        if len(written) == 3:
            raise KeyboardInterrupt
        written.append(path)
        put(path, content)

    monkeypatch.setattr(arcade, "_put", interrupted)
    output = source.parent / "prepared"
    assert main(["arcade", "--source", str(source), "--output", str(output)]) == 130
    assert sorted(path for path in output.rglob("*") if path.is_file()) == sorted(written)
    monkeypatch.undo()
    validate_datalist(_prepare(source) / "datalist.json", deep=True)


def test_interrupted_change_leaves_no_datalist_of_the_old_state(source, monkeypatch):
    output = _prepare(source)
    _make_split(source, "syntax", "test", {7: _frame(70)})
    monkeypatch.setattr(arcade, "_put", lambda path, content: (_ for _ in ()).throw(KeyboardInterrupt))
    assert main(["arcade", "--source", str(source), "--output", str(output)]) == 130
    assert not (output / "datalist.json").exists()


def test_other_labels_are_not_mixed_into_the_same_folder(source, capsys):
    output = _prepare(source)
    before = _state(output)
    assert main(["arcade", "--source", str(source), "--output", str(output), "--labels", "segments"]) == 2
    assert "was made for labels 'vessel', not 'segments'" in capsys.readouterr().err
    assert _state(output) == before


# Faulty sources


def test_missing_task_says_what_is_there(tmp_path, capsys):
    source = tmp_path / "published"
    (source / "arcade").mkdir(parents=True)
    message = _error(source, capsys)
    assert f"{source / 'syntax' / 'train'} is missing" in message
    assert "holds: arcade" in message


def test_missing_annotation_file_is_named(source, capsys):
    path = source / "syntax/val/annotations/val.json"
    path.unlink()
    assert f"{path} is missing" in _error(source, capsys)


@pytest.mark.parametrize("share", [0, 0.5, 0.99])
def test_cut_annotation_file_is_named(source, capsys, share):
    path = source / "syntax/train/annotations/train.json"
    content = path.read_text()
    path.write_text(content[: int(share * len(content))])
    assert f"{path} is not valid JSON" in _error(source, capsys)


def test_listed_images_that_are_missing_are_all_named(source, capsys):
    gone = [source / f"syntax/train/images/{number}.png" for number in (1, 3)]
    for path in gone:
        path.unlink()
    message = _error(source, capsys)
    for path in gone:
        assert f"{path} is missing, but listed in" in message


def test_image_without_annotation_is_named(source, capsys):
    _edit(source / "syntax/train/annotations/train.json", lambda document: document["annotations"].pop(1))
    assert f"{source / 'syntax/train/images/2.png'} (image 2) has no annotation in" in _error(source, capsys)


def test_image_that_is_not_listed_is_named(source, capsys):
    Image.fromarray(_frame(9)).save(source / "syntax/train/images/9.png")
    assert f"{source / 'syntax/train/images/9.png'} has no annotation: it is not listed" in _error(source, capsys)


@pytest.mark.parametrize(
    "outline", [[200, 200, 220, 200, 220, 210, 200, 210], [5, 5, 5, 5, 5, 5], [3, 5.6, 9, 5.6, 9, 6]]
)
def test_mask_that_touches_no_pixel_names_the_image(source, capsys, outline):
    _edit(
        source / "syntax/train/annotations/train.json",
        lambda document: document["annotations"][2].update(segmentation=[outline]),
    )
    assert f"{source / 'syntax/train/images/3.png'}: its mask touches no pixel" in _error(source, capsys)


def test_size_other_than_annotated_names_both(source, capsys):
    _edit(source / "syntax/val/annotations/val.json", lambda document: document["images"][0].update(width=64))
    message = _error(source, capsys)
    assert f"{source / 'syntax/val/images/1.png'} is 128x128" in message
    assert "says 64x128" in message


@pytest.mark.parametrize("share", [0.02, 0.5, 0.95])
def test_truncated_png_is_named(source, capsys, share):
    path = source / "syntax/train/images/2.png"
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    message = _error(source, capsys)
    assert "1 of 3 frames cannot be used" in message
    assert f"{path} is truncated or damaged" in message


def test_colour_picture_is_refused(source, capsys):
    path = source / "syntax/train/images/2.png"
    Image.fromarray(np.stack([_frame(2), _frame(2), _frame(3)], axis=-1)).save(path)
    assert f"{path} must be greyscale" in _error(source, capsys)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda d: d["images"][1].update(id=1), "image id 1 is given twice, the second time for 2.png"),
        (lambda d: d["images"][1].update(file_name="1.png"), "file name 1.png is given twice, for images 1 and 2"),
        (
            lambda d: d["images"][1].update(file_name="../1.png"),
            "image 2 must have a plain `file_name`, got '../1.png'",
        ),
        (lambda d: d["images"][1].update(width="128"), "expected a whole number for `width`, got '128'"),
        (lambda d: d["annotations"][1].update(image_id=9), "annotation 2 is for image 9, which is not listed"),
        (lambda d: d["annotations"][1].update(category_id=26), "has category 26, expected 1 to 25 in task syntax"),
        (lambda d: d["annotations"][1].update(segmentation={"counts": []}), "must be a list of polygons, got dict"),
        (lambda d: d["annotations"][1].update(segmentation=[[1, 2, 3, 4]]), "x, y of three or more points"),
        (lambda d: d["annotations"][1].update(segmentation=[[1, 2, 3, 4, 5, 6, 7]]), "x, y of three or more points"),
        (lambda d: d["annotations"][1].update(segmentation=[[1, 2, 3, 4, 5, None]]), "x, y of three or more points"),
        (lambda d: d.pop("annotations"), "`annotations` must be a list of objects, got None"),
        (lambda d: d.update(images=[], annotations=[]), "lists no images"),
        (lambda d: d["categories"].pop(), "name different `categories`"),
    ],
)
def test_faulty_annotations_name_file_and_entry(source, capsys, change, message):
    _edit(source / "syntax/train/annotations/train.json", change)
    shown = _error(source, capsys)
    assert str(source / "syntax") in shown
    assert message in shown


def test_unnamed_segment_classes_are_named(source, capsys):
    for split in ("train", "val"):
        path = source / f"syntax/{split}/annotations/{split}.json"
        _edit(path, lambda document: document["categories"].pop(3))
    assert "they do not name [4]" in _error(source, capsys, "--labels", "segments")


# The command


def test_help_lists_the_verbs_without_importing_them():
    code = (
        "import sys, runpy\nsys.argv = ['data_prep', '--help']\n"
        "try: runpy.run_module('data_prep', run_name='__main__')\n"
        "except SystemExit as end: assert not end.code\n"
        "print([name for name in sys.modules if name in ('numpy', 'data_prep.arcade', 'data_prep.split')])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    for verb in DATA_PREP_VERBS:
        assert verb in shown
    assert shown.endswith("[]\n")


@pytest.mark.parametrize("verb", ["arcade", "split"])
def test_help_of_a_verb_states_its_rules(verb, capsys):
    with pytest.raises(SystemExit) as end:
        main([verb, "--help"])
    assert end.value.code == 0
    shown = capsys.readouterr().out
    assert {"arcade": "at least 0.39", "split": "rounded to the nearest whole number"}[verb] in shown


def test_unknown_verb_ends_with_code_two(capsys):
    with pytest.raises(SystemExit) as end:
        main(["arcad"])
    assert end.value.code == 2
    assert "arcade" in capsys.readouterr().err
