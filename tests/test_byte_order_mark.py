"""A byte order mark, which editors of Windows put before a text, is no part of it."""

import codecs
import csv
import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from cmunet_monai.__main__ import main
from cmunet_monai.label.command import read_token
from cmunet_monai.label.workspace import _group_of_files
from cmunet_monai.pseudonyms import Pseudonyms, map_file, write_map
from cmunet_monai.readers import load_rows
from cmunet_monai.report.study_runs import _rows
from cmunet_monai.study.plan import _json
from data_prep.datalist import read_json_object

BUNDLE = Path(__file__).parents[1] / "bundles" / "coronary_xa_segmentation"
LISTS = {"test": [{"id": "a", "image": "a.png", "patient_id": "p"}]}


def marked(path, text):
    path.write_bytes(codecs.BOM_UTF8 + text.encode())
    path.chmod(0o600)
    return path


@pytest.mark.parametrize(
    "read, expected",
    [
        (lambda path: load_rows(path, "test", path.parent)[0]["id"], "a"),
        (_group_of_files, {("a.png",): "p"}),
        (lambda path: read_json_object(path)[0], LISTS),
        (_json, LISTS),
    ],
    ids=["data list", "groups", "data list of data_prep", "study"],
)
def test_json_may_have_one(tmp_path, read, expected):
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    assert read(marked(tmp_path / "list.json", json.dumps(LISTS))) == expected


def test_a_key_may_have_one_and_gives_the_same_pseudonyms(tmp_path):
    plain, output = tmp_path / "plain", tmp_path / "output"
    expected = Pseudonyms.open(plain, output=output).patient("x")
    key = marked(tmp_path / "key", plain.read_text())
    assert Pseudonyms.open(key, output=output).patient("x") == expected


def test_the_map_of_pseudonyms_may_have_one_and_keeps_what_it_holds(tmp_path):
    pseudonyms = Pseudonyms.open(tmp_path / "key", output=tmp_path / "output")
    write_map(pseudonyms, {"R1": "1.2"})
    path = map_file(pseudonyms)
    marked(path, path.read_text())
    write_map(pseudonyms, {"R2": "1.3"})
    with path.open(newline="") as file:
        assert list(csv.reader(file)) == [["pseudonym", "original"], ["R1", "1.2"], ["R2", "1.3"]]


def test_a_token_may_have_one_and_no_other_character_than_ascii(tmp_path):
    assert read_token(marked(tmp_path / "token", "sixteen letters!\n")) == "sixteen letters!"
    with pytest.raises(ValueError, match="must contain only ASCII characters"):
        read_token(marked(tmp_path / "token", "sechzehn Zeichen ä\n"))


def test_a_table_may_have_one(tmp_path):
    assert _rows(marked(tmp_path / "cells.csv", "labels,draw\r\n18,0\r\n")) == [{"labels": "18", "draw": "0"}]


def test_a_config_with_one_is_named_since_monai_reads_none(tmp_path, capsys):
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    shutil.copytree(BUNDLE / "configs", tmp_path / "bundle" / "configs")
    config = tmp_path / "bundle" / "configs" / "inference.json"
    marked(config, config.read_text())
    words = ["-i", tmp_path / "a.png", "-o", tmp_path / "out", "--bundle", tmp_path / "bundle"]
    assert main(["predict", *map(str, words)]) == 2
    assert f"{config} begins with a byte order mark, which MONAI does not read" in capsys.readouterr().err
