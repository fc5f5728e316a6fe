"""From an export to frames: what is kept, what is listed, and what identifies nobody."""

import csv
import gzip
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
import zipfile
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from io import BytesIO
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from pydicom.datadict import dictionary_VR, tag_for_keyword

from cmunet_monai.pseudonyms import Pseudonyms
from cmunet_monai.xa.identity import read_identity
from cmunet_monai.xa.run import read_frames
from data_prep.__main__ import main
from data_prep.datalist import validate_datalist
from data_prep.deidentification.rules import table_actions
from data_prep.ingestion.frames import CHOICES, as_nifti, cardiac_phase
from data_prep.ingestion.pool import Lost
from data_prep.synthetic.cine import synthesize_cine
from data_prep.synthetic.xa_file import TRANSFER_SYNTAX_NAMES, write_xa

CANARY = "QXZJWKVBNMPL"
SIZE, FRAMES = 160, 24


@cache
def make_cine(patient, run):
    return synthesize_cine(0, patient + 1, run, size=SIZE, frames=FRAMES, contrast=True)


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    """Two patients with two runs each, in folders named after them; a copy, a zipped run, and files that are none."""
    root = tmp_path_factory.mktemp("export")
    for patient in range(2):
        for run in range(2):
            path = root / f"{CANARY}_{patient}" / f"IM{run}"
            path.parent.mkdir(exist_ok=True)
            write_xa(path, make_cine(patient, run).frames, facts_of(patient, run))
    shutil.copy(root / f"{CANARY}_0" / "IM0", root / "copy of IM0.dcm")
    with zipfile.ZipFile(root / "study.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(root / f"{CANARY}_1" / "IM1", f"{CANARY}/IM1")
    (root / f"{CANARY}_1" / "IM1").unlink()
    (root / f"{CANARY}.txt").write_text(CANARY)
    (root / "cut.dcm").write_bytes((root / f"{CANARY}_0" / "IM1").read_bytes()[:3000])
    empty = synthesize_cine(0, 3, 0, size=SIZE, frames=FRAMES, contrast=False)
    write_xa(root / "no contrast", empty.frames, empty.facts)
    return root


def _dicom_of(patient, run):
    """The file that the export holds of a run (UIDs come from the content)."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run"
        write_xa(path, make_cine(patient, run).frames, facts_of(patient, run))
        return path.read_bytes()


def facts_of(patient, run):
    return replace(make_cine(patient, run).facts, patient_name=f"{CANARY}^{patient}", patient_id=f"{CANARY}{patient}")


def ingest(export, output, *options):
    return main(["dicom", "--source", str(export), "--output", str(output), "--workers", "2", *options])


@pytest.fixture(scope="module")
def ingested(export, tmp_path_factory):
    output = tmp_path_factory.mktemp("ingested") / "data"
    assert ingest(export, output, "--frames", "fullest", "measure") == 0
    return output


def files_of(output):
    with (output / "files.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def tree_of(output):
    return {path.relative_to(output): path.read_bytes() for path in sorted(output.rglob("*")) if path.is_file()}


def test_every_file_has_its_line_and_runs_with_contrast_are_kept_once(ingested):
    statuses = sorted(row["status"] for row in files_of(ingested))
    assert statuses == ["duplicate", "failed", "kept", "kept", "kept", "kept", "passed over", "passed over"]
    reasons = " | ".join(row["reason"] for row in files_of(ingested))
    for reason in ("no filled coronary tree is seen", "no DICOM file", "the same object is in another file"):
        assert reason in reasons


def test_the_data_list_is_valid_and_holds_two_patients(ingested):
    datalist = validate_datalist(ingested / "datalist.json", deep=True)
    rows = datalist.lists["pretraining"]
    assert len({row.patient_id for row in rows}) == 2
    assert len({row.extra["run"] for row in rows}) == 4
    assert all(row.spacing_mm is None or 0.05 < row.spacing_mm < 1 for row in rows)


def test_a_written_frame_is_the_one_in_the_file(export, ingested):
    whole = np.stack(list(read_frames(export / f"{CANARY}_0" / "IM0", windowed=False)))
    found = [nibabel.load(path).get_fdata()[..., 0].T for path in sorted((ingested / "images").iterdir())]
    matches = [number for frame in found for number in range(FRAMES) if np.array_equal(frame, whole[number])]
    assert matches, "no written frame equals a frame of the first run"


@pytest.mark.parametrize(
    "tags", [{"PixelSpacing": [0.2, 0.25]}, {"ImagerPixelSpacing": [0.4, 0.5]}, {"PixelAspectRatio": [4, 5]}], ids=str
)
def test_frames_of_pixels_that_are_not_square_keep_the_ratio_of_their_sides(export, tmp_path, tags):
    dataset = pydicom.dcmread(export / f"{CANARY}_0" / "IM0")
    for keyword in ("PixelSpacing", "ImagerPixelSpacing"):
        if keyword in dataset:
            del dataset[keyword]
    for keyword, value in tags.items():
        setattr(dataset, keyword, value)
    dataset.save_as(tmp_path / "run.dcm")
    assert ingest(tmp_path / "run.dcm", tmp_path / "data", "--spacing-mm", "0.2") == 0
    (row,) = json.loads((tmp_path / "data" / "datalist.json").read_text())["pretraining"]
    assert row["spacing_mm"] is None
    width, height = nibabel.load(tmp_path / "data" / row["image"]).header.get_zooms()[:2]
    assert height / width == pytest.approx(0.8)  # the spacing between rows comes first in DICOM


def test_in_the_chosen_frame_the_whole_tree_is_filled(ingested):
    names = Pseudonyms.open(f"{ingested}.key", output=ingested)
    truth = {}
    for patient in range(2):
        for run in range(2):
            uid = read_identity(BytesIO(_dicom_of(patient, run))).sop_instance_uid
            truth[names.run(uid)] = make_cine(patient, run).truth.filling
    rows = json.loads((ingested / "datalist.json").read_text())["pretraining"]
    fullest = [row for row in rows if "fullest" in row["choices"]]
    assert len(fullest) == len(truth) == 4
    assert all(truth[row["run"]][row["frame"]] == 1 for row in fullest)


def test_nothing_that_identifies_is_in_an_output(ingested, capsys, export):
    assert ingest(export, ingested, "--frames", "fullest", "measure") == 0
    printed = "".join(capsys.readouterr())
    assert CANARY not in printed
    for path, content in tree_of(ingested).items():
        assert CANARY not in str(path)
        assert CANARY.encode() not in content, path
    for path in (ingested / "images").iterdir():
        assert CANARY.encode() not in nibabel.load(path).header.binaryblock


def with_canaries(path, rng):
    """Put a word into every attribute that PS3.15 table E.1-1 names and that holds text; return the words."""
    words = []

    def word():
        words.append("".join(rng.choice(list("ABCDEFGHIJKLMNOPQRSTUVWXYZ"), 12)))
        return words[-1]

    def fill(dataset):
        for keyword in table_actions():
            tag = tag_for_keyword(keyword)
            if tag and dictionary_VR(tag) in ("LO", "LT", "PN", "SH", "ST", "UC", "UT"):
                dataset.add_new(tag, dictionary_VR(tag), word())
        dataset.add_new(0x00091001, "LO", word())

    dataset = pydicom.dcmread(path)
    fill(dataset)
    inner = pydicom.Dataset()
    fill(inner)
    dataset.OriginalAttributesSequence = [inner]
    outer = pydicom.Dataset()
    outer.ContentSequence = [inner]
    dataset.RequestAttributesSequence = [outer]
    dataset.save_as(path)
    return words


def test_no_identifying_attribute_of_the_standard_reaches_an_output(tmp_path, capsys):
    rng = np.random.default_rng(0)
    words = []
    for number, name in enumerate(("IM0", "DICOMDIR")):
        write_xa(tmp_path / "export" / f"{CANARY}" / name, make_cine(0, number).frames, facts_of(0, number))
        words += with_canaries(tmp_path / "export" / CANARY / name, rng)
    damaged = (tmp_path / "export" / CANARY / "IM0").read_bytes()
    for cut in (2000, 4000, len(damaged) // 2):
        (tmp_path / "export" / CANARY / f"cut {cut}").write_bytes(damaged[:cut])
    assert len(set(words)) > 300
    assert ingest(tmp_path / "export", tmp_path / "data", "--frames", *CHOICES) == 0
    assert "kept" in {row["status"] for row in files_of(tmp_path / "data")}
    printed = "".join(capsys.readouterr()).encode()
    for path, content in [("printed", printed), *tree_of(tmp_path / "data").items()]:
        plain = gzip.decompress(content) if str(path).endswith(".gz") else content
        found = [word for word in (*words, CANARY) if word.encode() in plain or word in str(path)]
        assert not found, path


def test_the_map_beside_the_key_tells_whom_pseudonyms_stand_for(ingested):
    path = Path(f"{ingested}.key.map.csv")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with path.open(newline="") as file:
        originals = {row["pseudonym"]: row["original"] for row in csv.DictReader(file)}
    patients = {row["patient"] for row in files_of(ingested) if row["status"] == "kept"}
    assert {originals[patient] for patient in patients} == {f"{CANARY}0", f"{CANARY}1"}
    assert f"{CANARY}_0/IM0" in originals.values()
    assert f"study.zip!{CANARY}/IM1" in originals.values()


def test_a_second_run_does_nothing(export, ingested):
    before = {path: path.stat().st_mtime_ns for path in (ingested / "images").iterdir()}
    contents = tree_of(ingested)
    assert ingest(export, ingested, "--frames", "fullest", "measure") == 0
    assert {path: path.stat().st_mtime_ns for path in (ingested / "images").iterdir()} == before
    assert tree_of(ingested) == contents


def test_a_changed_file_is_done_again_and_leaves_nothing_of_before(export, tmp_path):
    copy = tmp_path / "export"
    shutil.copytree(export / f"{CANARY}_0", copy)
    assert ingest(copy, tmp_path / "data") == 0
    before = validate_datalist(tmp_path / "data" / "datalist.json").lists["pretraining"]
    cine = synthesize_cine(1, 0, 0, size=SIZE, frames=FRAMES, contrast=True)
    write_xa(copy / "IM0", cine.frames, cine.facts)
    assert ingest(copy, tmp_path / "data") == 0
    after = validate_datalist(tmp_path / "data" / "datalist.json").lists["pretraining"]
    assert len(after) == len(before) == 2
    assert len({row.id for row in after} & {row.id for row in before}) == 1
    assert sorted(path.name for path in (tmp_path / "data" / "images").iterdir()) == sorted(
        Path(row.image).name for row in after
    )


def test_a_single_frame_is_taken_as_it_is(tmp_path):
    facts = replace(facts_of(0, 0), r_wave_frames=())
    write_xa(tmp_path / "export" / "IM0", make_cine(0, 0).frames[12:13], facts)
    assert ingest(tmp_path / "export", tmp_path / "data") == 0
    (row,) = validate_datalist(tmp_path / "data" / "datalist.json").lists["pretraining"]
    assert (row.extra["frame"], row.extra["choices"]) == (0, "single")


def test_declared_text_waits_for_a_person(tmp_path):
    facts = replace(facts_of(0, 0), burned_in_annotation=True)
    write_xa(tmp_path / "export" / "IM0", make_cine(0, 0).frames, facts)
    assert ingest(tmp_path / "export", tmp_path / "data") == 0
    (row,) = files_of(tmp_path / "data")
    assert (row["status"], row["reason"]) == ("quarantined", "declares burned-in annotations: a person must look at it")
    assert not (tmp_path / "data" / "images").exists()
    assert not (tmp_path / "data" / "report" / "frames").exists()
    (tmp_path / "cleared.txt").write_text(row["run"])
    assert ingest(tmp_path / "export", tmp_path / "data", "--reviewed", str(tmp_path / "cleared.txt")) == 0
    assert [row["status"] for row in files_of(tmp_path / "data")] == ["kept"]


def test_a_mask_that_was_drawn_lists_its_frame_for_training(export, tmp_path, capsys):
    shutil.copytree(export / f"{CANARY}_0", tmp_path / "export")
    output = tmp_path / "data"
    assert ingest(tmp_path / "export", output) == 0
    first, second = validate_datalist(output / "datalist.json").lists["pretraining"]
    mask = np.zeros((SIZE, SIZE, 1), np.uint8)
    mask[40:60, 40:44] = 1
    (output / "labels").mkdir()
    affine = nibabel.load(output / first.image).affine
    nibabel.save(nibabel.Nifti1Image(mask, affine), output / "labels" / f"{first.id}.nii.gz")
    (output / "labels" / f"{CANARY}.png").touch()
    assert ingest(tmp_path / "export", output) == 0
    said = capsys.readouterr().out
    assert "1 files in labels/ belong to no frame" in said
    assert CANARY not in said
    lists = validate_datalist(output / "datalist.json", deep=True).lists
    assert [row.label for row in lists["training"]] == [f"labels/{first.id}.nii.gz"]
    assert [row.id for row in lists["pretraining"]] == [second.id]


def test_ctrl_c_ends_in_one_line(export, tmp_path, monkeypatch, capsys):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("data_prep.dicom.work_through", interrupted)
    assert ingest(export, tmp_path / "data") == 130
    assert capsys.readouterr().err == "interrupted; the same command goes on\n"


def test_swapped_names_lose_nothing(tmp_path):
    for number, name in enumerate(("a", "b")):
        write_xa(tmp_path / "export" / name, make_cine(0, number).frames, facts_of(0, number))
    assert ingest(tmp_path / "export", tmp_path / "data") == 0
    before = tree_of(tmp_path / "data" / "images")
    for old, new in (("a", "c"), ("b", "a"), ("c", "b")):
        (tmp_path / "export" / old).rename(tmp_path / "export" / new)
    assert ingest(tmp_path / "export", tmp_path / "data") == 0
    assert tree_of(tmp_path / "data" / "images") == before
    assert len(validate_datalist(tmp_path / "data" / "datalist.json").lists["pretraining"]) == 2


def test_a_file_given_up_for_its_time_is_tried_again(tmp_path, monkeypatch):
    write_xa(tmp_path / "export" / "a", make_cine(0, 0).frames, facts_of(0, 0))

    @contextmanager
    def too_slow(*_args, **_settings):
        yield lambda _, tasks: ((task, Lost("it took longer than 1 s and was given up")) for task in tasks)

    with monkeypatch.context() as patch:
        patch.setattr("data_prep.ingestion.archive.processes", too_slow)
        assert ingest(tmp_path / "export", tmp_path / "data") == 0
    assert [row["status"] for row in files_of(tmp_path / "data")] == ["failed"]
    assert ingest(tmp_path / "export", tmp_path / "data") == 0
    assert [row["status"] for row in files_of(tmp_path / "data")] == ["kept"]


def test_a_damaged_copy_does_not_stand_in_for_the_whole_one(tmp_path):
    rle = TRANSFER_SYNTAX_NAMES["rle"]
    write_xa(tmp_path / "export" / "z", make_cine(0, 0).frames, facts_of(0, 0), transfer_syntax=rle)
    content = bytearray((tmp_path / "export" / "z").read_bytes())
    start = content.index(b"\xfe\xff\x00\xe0", content.index(b"\xe0\x7f\x10\x00") + 20)
    content[start + 8 : start + 12] = b"\xff\xff\xff\xff"  # the number of segments of the first frame
    (tmp_path / "export" / "a").write_bytes(bytes(content))
    assert ingest(tmp_path / "export", tmp_path / "data") == 0
    for _ in range(2):
        rows = {row["status"]: row["reason"] for row in files_of(tmp_path / "data")}
        assert rows.keys() == {"duplicate", "kept"}
        assert "another copy of the object is used, since here 1 of 24 frames left out: frame 0" in rows["duplicate"]
        assert rows["kept"] == ""
        assert ingest(tmp_path / "export", tmp_path / "data") == 0  # a second run does nothing


def test_a_moved_export_is_the_same_export(export, tmp_path):
    shutil.copytree(export / f"{CANARY}_0", tmp_path / "export" / "deep")
    assert ingest(tmp_path / "export" / "deep", tmp_path / "data") == 0
    assert ingest(tmp_path / "export", tmp_path / "data", "--frames", "fullest", "early") == 0
    assert [row["status"] for row in files_of(tmp_path / "data")] == ["kept", "kept"]
    rows = validate_datalist(tmp_path / "data" / "datalist.json").lists["pretraining"]
    assert {word for row in rows for word in row.extra["choices"].split()} == {"fullest", "early"}


def test_every_nth_frame_of_a_run_is_written_for_learning_without_labels(export, tmp_path, capsys):
    shutil.copytree(export / f"{CANARY}_0", tmp_path / "export")
    arguments = (tmp_path / "export", tmp_path / "data", "--frames", "fullest", "all", "--every")
    assert ingest(*arguments, "0") == 2
    assert "--every must be at least 1, got 0" in capsys.readouterr().err
    assert ingest(*arguments, "5") == 0
    rows = validate_datalist(tmp_path / "data" / "datalist.json").lists["pretraining"]
    for run in {row.extra["run"] for row in rows}:
        chosen = {row.extra["frame"]: row.extra["choices"].split() for row in rows if row.extra["run"] == run}
        assert [frame for frame, words in chosen.items() if "all" in words] == [0, 5, 10, 15, 20]
        assert sum("fullest" in words for words in chosen.values()) == 1
        assert len({row.patient_id for row in rows if row.extra["run"] == run}) == 1  # a split keeps them together
    assert len(list((tmp_path / "data" / "images").iterdir())) == len(rows)


def test_places_and_files_that_cannot_be_right_are_named(export, tmp_path, capsys):
    def error(*arguments):
        assert ingest(*arguments) == 2
        return capsys.readouterr().err

    assert "is inside --output" in error(export, export)
    assert "is inside --output" in error(export, export.parent)
    (tmp_path / "list.txt").write_text("\ufeffRabc", encoding="utf-8")
    assert "must contain only pseudonyms" in error(export, tmp_path / "data", "--reviewed", str(tmp_path / "list.txt"))
    assert ingest(tmp_path, tmp_path / "data") == 0
    (tmp_path / "data.key").rename(tmp_path / "away")
    assert "a key that is not at" in error(tmp_path, tmp_path / "data")
    assert not (tmp_path / "data.key").exists()


def test_another_key_is_refused(export, ingested, tmp_path, capsys):
    Pseudonyms.open(tmp_path / "other.key", output=ingested)
    assert ingest(export, ingested, "--key", str(tmp_path / "other.key")) == 2
    assert "another key" in capsys.readouterr().err


def test_a_cluster_gives_the_same_as_this_machine(export, ingested, tmp_path):
    distributed = pytest.importorskip("distributed")
    output = tmp_path / "data"
    shutil.copy(f"{ingested}.key", f"{output}.key")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, local_directory=str(tmp_path)
    ) as cluster:
        options = ("--frames", "fullest", "measure", "--dask", cluster.scheduler_address)
        assert ingest(export, output, *options) == 0
    assert tree_of(output) == tree_of(ingested)


def test_killed_at_random_moments_nothing_is_lost_or_doubled(export, ingested, tmp_path):
    output = tmp_path / "data"
    shutil.copy(f"{ingested}.key", f"{output}.key")
    command = [sys.executable, "-m", "data_prep", "dicom", "--source", str(export), "--output", str(output)]
    command += ["--workers", "2", "--frames", "fullest", "measure"]
    rng = np.random.default_rng(0)
    for _ in range(3):
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        time.sleep(rng.uniform(1.5, 4))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert subprocess.run(command, check=True, capture_output=True).returncode == 0
    expected, found = tree_of(ingested), tree_of(output)
    assert {path for path in found if ".tmp-" not in path.name} == set(expected)
    assert all(found[path] == content for path, content in expected.items())


def test_cardiac_phase_is_the_share_of_the_heartbeat():
    assert cardiac_phase(12, (5, 15, 25)) == pytest.approx(0.7)
    assert cardiac_phase(15, (5, 15, 25)) == 0
    assert cardiac_phase(30, (5, 15, 25)) is None
    assert cardiac_phase(3, None) is None


@pytest.mark.parametrize("top, kind", [(255, np.uint8), (4095, np.uint16), (0.5, np.float32)])
def test_whole_numbers_are_stored_as_such(top, kind):
    image = as_nifti(np.full((4, 6), top, np.float32), 0.2)
    assert image.get_data_dtype() == kind
    assert image.shape == (6, 4, 1)
    assert image.header.get_zooms() == pytest.approx((0.2, 0.2, 1))
    assert image.header.get_xyzt_units()[0] == "mm"


def test_an_unknown_size_is_said_to_be_unknown():
    assert as_nifti(np.zeros((4, 6), np.float32), None).header.get_xyzt_units()[0] == "unknown"


def test_a_missing_extra_is_named(monkeypatch, capsys):
    for name in ("data_prep.dicom", "data_prep.ingestion.archive", "data_prep.ingestion.pool"):
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pebble", None)
    assert main(["dicom", "--help"]) == 2
    assert "dicom needs pebble: pip install 'cmunet_monai[dicom]'" in capsys.readouterr().err
