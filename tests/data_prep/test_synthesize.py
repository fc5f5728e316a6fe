import json

import nibabel
import numpy as np
import pydicom
import pytest
from PIL import Image

from data_prep.__main__ import main
from data_prep.datalist import validate_datalist
from data_prep.synthetic.cine import synthesize_cine


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


def synthesize_cines(output, *options):
    return synthesize(output, "--cine", "--frames", "8", "--patients", "2", "--runs-per-patient", "1", *options)


@pytest.fixture(scope="module")
def cines(tmp_path_factory):
    """Two patients with one run of 8 frames each; not to be changed."""
    folder = tmp_path_factory.mktemp("cines")
    assert synthesize_cines(folder) == 0
    return folder


def test_cine_files_hold_the_frames_masks_and_truth_of_the_generator(cines):
    document = json.loads((cines / "cines.json").read_text())
    assert [row["patient_id"] for row in document["cines"]] == ["synthetic_0_00000", "synthetic_0_00001"]
    for patient, row in enumerate(document["cines"]):
        made = synthesize_cine(0, patient, 0, size=64, frames=8)
        dataset = pydicom.dcmread(cines / row["dicom"])
        assert dataset.PatientID == row["patient_id"]
        assert dataset.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"
        np.testing.assert_array_equal(dataset.pixel_array, made.frames)
        mask = nibabel.load(cines / row["mask"])
        assert mask.get_data_dtype() == np.uint8
        np.testing.assert_array_equal(np.asarray(mask.dataobj).transpose(2, 1, 0), made.truth.masks)
        truth = json.loads((cines / row["truth"]).read_text())
        assert truth["id"] == row["id"]
        assert truth["spacing_mm"] == made.spacing_mm
        assert truth["r_wave_frames"] == list(made.r_wave_frames)
        np.testing.assert_allclose(truth["filling"], made.truth.filling, atol=1e-4)
        for line, expected in zip(truth["centrelines"], made.truth.centrelines, strict=True):
            assert line["branch"] == expected.branch
            np.testing.assert_allclose(line["diameter_mm"], expected.diameter_mm, atol=1e-3)
            np.testing.assert_allclose(line["column_row_px"], expected.points_px[made.reference_frame], atol=1e-2)
        for stenosis, drawn in zip(truth["stenoses"], made.stenoses, strict=True):
            narrowed = 100 * (1 - stenosis["diameter_mm"] / stenosis["healthy_diameter_mm"])
            assert narrowed == pytest.approx(drawn.percent, abs=0.1)


def test_cine_files_list_is_all_that_is_there(cines):
    rows = json.loads((cines / "cines.json").read_text())["cines"]
    assert {row[kind] for row in rows for kind in ("dicom", "mask", "truth")} | {"cines.json"} == set(contents(cines))


def test_same_cine_command_gives_equal_bytes_whatever_the_number_of_processes(cines, tmp_path):
    assert synthesize_cines(tmp_path, "--workers", "2") == 0
    assert contents(tmp_path) == contents(cines)


def test_interrupted_cines_are_completed_and_finished_ones_left_as_they_are(cines, tmp_path):
    synthesize_cines(tmp_path, "--patients", "1")
    (tmp_path / "cines.json").unlink()
    kept = tmp_path / "dicom" / "synthetic_0_00000" / "synthetic_0_00000_run00.dcm"
    before = kept.stat().st_mtime_ns
    # What is killed while writing leaves a temporary file and no truth.
    (tmp_path / "masks" / ".tmp-x.nii.gz").write_bytes(b"x")
    assert synthesize_cines(tmp_path, "--patients", "1") == 0
    assert kept.stat().st_mtime_ns == before
    (tmp_path / "truth" / "synthetic_0_00000_run00.json").unlink()
    kept.write_bytes(b"cut")
    assert synthesize_cines(tmp_path, "--patients", "1") == 0
    for name in ("dicom/synthetic_0_00000/synthetic_0_00000_run00.dcm", "masks/synthetic_0_00000_run00.nii.gz"):
        assert (tmp_path / name).read_bytes() == (cines / name).read_bytes()


def test_cines_go_to_the_transfer_syntax_that_is_asked_for(tmp_path):
    assert synthesize_cines(tmp_path, "--patients", "1", "--transfer-syntax", "jpeg-ls") == 0
    dataset = pydicom.dcmread(next(tmp_path.rglob("*.dcm")))
    assert dataset.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.4.80"
    np.testing.assert_array_equal(dataset.pixel_array, synthesize_cine(0, 0, 0, size=64, frames=8).frames)


@pytest.mark.parametrize(
    "options, message",
    [
        (["--cine", "--frames", "7"], "--frames must be 8 or more with --cine, got 7"),
        (["--cine", "--patients", "0"], "--patients must be 1 or more, got 0"),
        (["--cine", "--runs-per-patient", "0"], "--runs-per-patient must be 1 or more, got 0"),
        (["--cine", "--round-corners", "all"], "--round-corners cannot be given with --cine"),
        (["--cine", "--frames-per-patient", "2"], "--frames-per-patient cannot be given with --cine"),
        (["--cine", "--transfer-syntax", "jpeg-baseline"], "jpeg-baseline holds 8 bits"),
        (["--patients", "2"], "--patients needs --cine"),
        (["--transfer-syntax", "rle"], "--transfer-syntax needs --cine"),
    ],
)
def test_bad_cine_argument_is_named_and_nothing_is_written(tmp_path, capsys, options, message):
    assert synthesize(tmp_path / "d", *options) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "d").exists()


def test_cines_leave_the_folder_of_anything_else_alone(cines, tmp_path, capsys):
    before = contents(cines)
    assert synthesize_cines(cines, "--seed", "1") == 2
    assert "holds another data set" in capsys.readouterr().err
    assert contents(cines) == before
    synthesize(tmp_path, "--frames", "1")
    assert synthesize_cines(tmp_path) == 2
    assert "which this data set does not have" in capsys.readouterr().err
    assert not (tmp_path / "cines.json").exists()
