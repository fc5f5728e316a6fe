import json

import numpy as np
import pytest
from PIL import Image

from data_prep.__main__ import main
from data_prep.datalist import validate_datalist


def synthesize(output, *options):
    return main(["synthesize", "--size", "64", "--output", str(output), *options])


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_data_set_passes_the_datalist_check_and_is_disjoint_by_patient(tmp_path):
    assert synthesize(tmp_path / "d", "--frames", "20", "--frames-per-patient", "2") == 0
    lists = validate_datalist(tmp_path / "d" / "datalist.json", deep=True).lists
    patients = {name: {row.patient_id for row in rows} for name, rows in lists.items()}
    assert lists["pretraining"] == lists["validation"] == ()
    assert (len(lists["training"]), len(lists["test"])) == (16, 4)
    assert (len(patients["training"]), len(patients["test"])) == (8, 2)
    assert not patients["training"] & patients["test"]
    assert all(row.spacing_mm is None for row in lists["training"])


def test_rows_name_8_bit_pictures_of_the_asked_size(tmp_path):
    synthesize(tmp_path, "--frames", "2")
    document = json.loads((tmp_path / "datalist.json").read_text())
    row = document["training"][0]
    assert row["spacing_mm"] is None
    for name in (row["image"], row["label"]):
        with Image.open(tmp_path / name) as image:
            assert (image.size, image.mode) == ((64, 64), "L")
    assert set(np.unique(np.array(Image.open(tmp_path / row["label"])))) == {0, 255}


def test_same_seed_gives_equal_bytes_and_a_longer_set_begins_with_the_shorter(tmp_path):
    for name, frames in (("a", "5"), ("b", "5"), ("long", "9")):
        synthesize(tmp_path / name, "--frames", frames, "--seed", "7")
    short, again, longer = (contents(tmp_path / name) for name in ("a", "b", "long"))
    assert short == again
    pictures = {name: content for name, content in short.items() if name.endswith(".png")}
    assert len(pictures) == 10
    assert pictures.items() <= longer.items()
    rows = [json.loads(files["datalist.json"]) for files in (short, longer)]
    assert rows[1]["training"][:4] == rows[0]["training"]
    assert rows[1]["test"][:1] == rows[0]["test"]


def test_number_of_processes_does_not_change_the_bytes(tmp_path):
    synthesize(tmp_path / "one", "--frames", "6", "--frames-per-patient", "2")
    synthesize(tmp_path / "two", "--frames", "6", "--frames-per-patient", "2", "--workers", "2")
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_same_command_again_completes_an_interrupted_set(tmp_path):
    synthesize(tmp_path, "--frames", "3")
    whole = contents(tmp_path)
    (tmp_path / "datalist.json").unlink()
    next((tmp_path / "images").iterdir()).unlink()
    assert synthesize(tmp_path, "--frames", "3") == 0
    assert contents(tmp_path) == whole


@pytest.mark.parametrize(
    "options, message",
    [
        (["--size", "63"], "--size must be 64 to 2048 pixels, got 63"),
        (["--frames", "0"], "--frames must be 1 or more, got 0"),
        (["--seed", "-1"], "--seed must be 0 or more, got -1"),
        (["--frames-per-patient", "0"], "--frames-per-patient must be 1 or more, got 0"),
        (["--min-calibre-mm", "-1"], "--min-calibre-mm must be 0 to 3"),
        (["--workers", "0"], "--workers must be 1 or more, got 0"),
    ],
)
def test_bad_argument_is_named_and_nothing_is_written(tmp_path, capsys, options, message):
    assert synthesize(tmp_path / "d", *options) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "d").exists()


def test_folder_of_another_data_set_is_left_alone(tmp_path, capsys):
    synthesize(tmp_path / "d", "--frames", "1")
    before = contents(tmp_path / "d")
    assert synthesize(tmp_path / "d", "--frames", "1", "--seed", "1") == 2
    assert "holds another data set" in capsys.readouterr().err
    assert contents(tmp_path / "d") == before


def test_folder_with_foreign_files_is_left_alone(tmp_path, capsys):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "mine.png").write_bytes(b"x")
    assert synthesize(tmp_path, "--frames", "1") == 2
    assert "mine.png" in capsys.readouterr().err
    assert list(contents(tmp_path)) == ["images/mine.png"]


def test_output_that_is_a_file_is_refused(tmp_path, capsys):
    (tmp_path / "d").write_text("x")
    assert synthesize(tmp_path / "d", "--frames", "1") == 2
    assert "is a file: expected a folder" in capsys.readouterr().err
