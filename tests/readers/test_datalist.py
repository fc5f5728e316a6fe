"""One list of a data list."""

import json

import numpy as np
import pytest
from PIL import Image

from cmunet_monai.readers import load_rows


@pytest.fixture
def datalist(tmp_path):
    row = {"id": "a", "image": "images/a.png", "label": "labels/a.png", "group": "g", "spacing_mm": None}
    path = tmp_path / "datalist.json"
    path.write_text(json.dumps({"name": "x", "training": [row], "test": []}))
    return path


def test_image_and_label_become_paths_and_the_rest_stays(datalist):
    assert load_rows(datalist, "training", "/data") == [
        {"id": "a", "image": "/data/images/a.png", "label": "/data/labels/a.png", "group": "g", "spacing_mm": None}
    ]


def test_an_empty_list_names_those_that_have_rows(datalist):
    with pytest.raises(ValueError, match=r"`test` of .*is empty; lists with rows: training"):
        load_rows(datalist, "test", "/data")


def test_a_list_that_does_not_exist_is_named(datalist):
    with pytest.raises(ValueError, match=r"`tests` of .* does not exist"):
        load_rows(datalist, "tests", "/data")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.json"):
        load_rows(tmp_path / "nowhere.json", "test", "/data")


@pytest.mark.parametrize("content", ['{"test": [', "[1, 2]"])
def test_a_data_list_that_is_cut_or_no_object_is_named(tmp_path, content):
    (tmp_path / "cut.json").write_text(content)
    with pytest.raises(ValueError, match=r"cut\.json"):
        load_rows(tmp_path / "cut.json", "test", "/data")


def test_an_empty_list_may_be_right(datalist):
    assert load_rows(datalist, "test", "/data", may_be_empty=True) == []


@pytest.fixture
def labelled(tmp_path):
    """A function that writes a data list of one frame of 6 x 4 pixels (width x height), its row changed as asked."""
    for name, size in (("frame", (4, 6)), ("label", (4, 6)), ("turned", (6, 4))):
        Image.fromarray(np.zeros(size, np.uint8)).save(tmp_path / f"{name}.png")

    def write(**changes):
        row = {"id": "a", "image": "frame.png", "label": "label.png"} | changes
        (tmp_path / "datalist.json").write_text(json.dumps({"training": [row]}))
        return load_rows(tmp_path / "datalist.json", "training", tmp_path, labelled=True)

    return write


def test_a_label_of_its_frames_size_is_right(labelled, tmp_path):
    assert labelled()[0]["label"] == str(tmp_path / "label.png")


def test_a_label_of_another_size_is_named_with_both_sizes(labelled):
    with pytest.raises(ValueError, match=r"turned\.png: the label of a is 4 x 6 .* frame 6 x 4"):
        labelled(label="turned.png")


@pytest.mark.parametrize("key", ["image", "label"])
def test_a_row_without_image_or_label_is_named(labelled, key):
    with pytest.raises(ValueError, match=rf"row 0 of `training` \(a\) has no `{key}`, got None"):
        labelled(**{key: None})


def test_a_label_that_is_not_there_is_named(labelled):
    with pytest.raises(FileNotFoundError, match=r"lost\.png"):
        labelled(label="lost.png")


@pytest.mark.parametrize("value", ["0.2", 0, -1.0, True, float("nan")])
def test_a_spacing_that_is_no_positive_number_is_named(labelled, value):
    with pytest.raises(ValueError, match=r"\(a\): `spacing_mm` must be a positive number or null"):
        labelled(spacing_mm=value)


@pytest.mark.parametrize("content", ["[" * 100_000, '{"a":' * 100_000, '{"test": ' + "[" * 5000 + "]" * 5000 + "}"])
def test_a_data_list_that_is_nested_too_deep_is_refused_by_name(tmp_path, content):
    (tmp_path / "list.json").write_text(content)
    with pytest.raises(ValueError, match=r"list\.json"):
        load_rows(tmp_path / "list.json", "test", tmp_path)
