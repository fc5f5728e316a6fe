"""One list of a data list."""

import json

import pytest

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
