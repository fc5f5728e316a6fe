"""One line from files to masks, measurements and quality."""

import csv
import json
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import highdicom
import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from cmunet_monai.prediction import predict
from cmunet_monai.prediction.command import parse
from data_prep.synthetic.cine import synthesize_cine
from data_prep.synthetic.xa_file import write_xa

CANARY = "QXZJWKVBNMPL"
TINY = {"channels": [4, 8, 16], "image_size": [64, 64], "num_workers": 0, "runtime": "torch"}


def draw(path, *, vessel=True):
    """A bright noisy frame of 64 x 64 with a dark vessel of 6 px across it, or one of a single grey level."""
    frame = np.full((64, 64), 150.0)
    if vessel:
        frame += 3 * np.random.default_rng(0).standard_normal((64, 64))
        frame[30:36, 4:60] = 60
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(frame.astype(np.uint8)).save(path)


@pytest.fixture
def frames(tmp_path):
    draw(tmp_path / "frames" / "a.png")
    draw(tmp_path / "frames" / "later" / "b.png")
    return tmp_path / "frames"


@pytest.fixture
def run(dark_detector):
    def predict_tiny(source, output, **options):
        return predict(source, output, **({"weights": [dark_detector]} | TINY | options))

    return predict_tiny


def read_csv(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_vessel_is_found_measured_and_drawn(frames, run, tmp_path):
    summary = run(frames, tmp_path / "out")
    assert (summary["frames"], summary["verdicts"]["refused"], summary["no_vessel_found"]) == (2, 0, 0)
    first, _ = summary["records"]
    assert first["id"] == "a.png"
    assert first["finding"] == "vessel"
    assert first["mean_diameter_px"] == pytest.approx(6, abs=0.5)
    assert first["vessel_share"] == pytest.approx(6 * 56 / 64**2, rel=0.1)
    rows = read_csv(tmp_path / "out" / "segments.csv")
    assert {row["id"] for row in rows} == {"a.png", "later/b.png"}
    assert float(rows[0]["length_px"]) == pytest.approx(56, abs=5)
    assert {row["use"] for row in rows} == {"research use only"}
    assert (tmp_path / "out" / "overlays" / "later" / "b.png").is_file()


def test_one_file_is_enough(frames, run, tmp_path):
    assert run(frames / "later" / "b.png", tmp_path / "out")["records"][0]["id"] == "b.png"
    assert (tmp_path / "out" / "masks" / "b.png").is_file()


def test_an_empty_mask_says_that_no_vessel_was_found(run, tmp_path):
    draw(tmp_path / "frames" / "empty.png", vessel=False)
    (record,) = run(tmp_path / "frames", tmp_path / "out")["records"]
    assert record["finding"] == "no vessel found"
    assert record["quality"]["verdict"] != "ok"
    assert record["mean_diameter_px"] is None
    assert read_csv(tmp_path / "out" / "segments.csv") == []


def test_nothing_is_in_mm_where_pixels_are_not_square_and_the_frame_says_so(frames, run, tmp_path):
    tall = nib.Nifti1Image(np.asarray(Image.open(frames / "a.png")).T[..., None], np.diag([0.2, 0.25, 1, 1]))
    nib.save(tall, frames / "a.nii.gz")
    records = {record["id"]: record for record in run(frames, tmp_path / "out", spacing_mm=0.2)["records"]}
    assert records["a.png"]["mean_diameter_mm"] == pytest.approx(0.2 * 6, abs=0.1)
    assert "anisotropic" not in records["a.png"]["quality"]["reasons"]
    oblong = records["a.nii.gz"]
    assert (oblong["mean_diameter_mm"], oblong["spacing_mm"], oblong["quality"]["verdict"]) == (None, None, "review")
    assert "anisotropic" in oblong["quality"]["reasons"]
    rows = [row for row in read_csv(tmp_path / "out" / "segments.csv") if row["id"] == "a.nii.gz"]
    assert rows
    assert {row["length_mm"] for row in rows} == {""}


def test_a_bad_file_is_reported_and_the_others_are_done(frames, run, tmp_path):
    (frames / "cut.png").write_bytes((frames / "a.png").read_bytes()[:100])
    assert run(frames, tmp_path / "out")["frames"] == 2
    (lost,) = read_csv(tmp_path / "out" / "passed_over.csv")
    assert lost["name"] == "cut.png"
    assert str(frames) not in lost["reason"]


def test_a_second_run_does_what_is_left_and_what_has_changed(frames, run, tmp_path):
    out = tmp_path / "out"
    run(frames, out)
    before = {path: path.stat().st_mtime_ns for path in (out / "masks").rglob("*.png")}
    (out / "records" / "a.png.json").unlink()
    draw(frames / "c.png")
    assert run(frames, out)["frames"] == 3
    after = {path: path.stat().st_mtime_ns for path in (out / "masks").rglob("*.png")}
    assert after[out / "masks" / "later" / "b.png"] == before[out / "masks" / "later" / "b.png"]
    assert after[out / "masks" / "a.png"] > before[out / "masks" / "a.png"]
    draw(frames / "c.png", vessel=False)
    assert run(frames, out)["no_vessel_found"] == 1


def test_a_frame_whose_files_are_lost_or_damaged_is_done_again(frames, run, tmp_path):
    out = tmp_path / "out"
    expected = run(frames, out)
    verdicts = {record["id"]: record["quality"]["verdict"] for record in expected["records"]}
    assert {row["id"]: row["verdict"] for row in read_csv(out / "segments.csv")} == verdicts
    (out / "masks" / "a.png").unlink()
    (out / "records" / "later" / "b.png.json").write_text("")
    (out / "overlays" / "later" / "b.png").unlink()
    assert run(frames, out) == expected
    assert sorted(path.name for path in out.rglob("*.png")) == ["a.png", "a.png", "b.png", "b.png"]


def test_a_file_name_that_is_no_text_loses_nothing(frames, run, tmp_path):
    draw(frames / "caf\udce9.png")
    (frames / "cut\udce9.png").write_bytes(b"")
    assert run(frames, tmp_path / "out")["frames"] == 3
    assert {row["id"] for row in read_csv(tmp_path / "out" / "segments.csv")} == {
        "a.png",
        "caf\\udce9.png",
        "later/b.png",
    }
    (lost,) = read_csv(tmp_path / "out" / "passed_over.csv")
    assert lost["name"] == "cut\\udce9.png"


def test_a_segmentation_leaves_refused_frames_out(export, run, tmp_path):
    options = {"frames": [9, 10], "dicom_seg": "pseudonym", "overlays": False}
    out = tmp_path / "out"
    records = run(export, out, **options)["records"]
    (seg,) = (out / "seg").iterdir()
    assert highdicom.seg.segread(seg).NumberOfFrames == 2
    for record, number in zip(records, (1, 0), strict=True):
        path = out / "records" / f"{record['id']}.json"
        stored = json.loads(path.read_text())
        stored["quality"]["verdict"] = "refused"
        path.write_text(json.dumps(stored))
        run(export, out, **options)
        assert seg.is_file() == bool(number)
        if number:
            assert highdicom.seg.segread(seg).NumberOfFrames == number


def test_an_output_that_is_a_file_is_named(frames, run, tmp_path):
    (tmp_path / "out").touch()
    with pytest.raises(NotADirectoryError, match="out is a file: name a folder"):
        run(frames, tmp_path / "out")


def test_results_of_other_settings_are_not_mixed(frames, run, tmp_path):
    run(frames, tmp_path / "out")
    with pytest.raises(ValueError, match="results made with another threshold: choose another output folder"):
        run(frames, tmp_path / "out", threshold=0.4)
    with pytest.raises(ValueError, match="made with another probabilities"):
        run(frames, tmp_path / "out", probabilities=True)


def test_another_pixel_size_is_measured_anew(frames, run, tmp_path):
    assert run(frames, tmp_path / "out")["records"][0]["mean_diameter_mm"] is None
    (first, _) = run(frames, tmp_path / "out", spacing_mm=0.25)["records"]
    assert first["mean_diameter_mm"] == pytest.approx(0.25 * first["mean_diameter_px"], abs=2e-3)
    assert first["spacing_source"] == "user"


def test_frames_that_would_write_one_file_are_refused_before_anything_is_written(frames, run, tmp_path):
    frame = nib.Nifti1Image(np.full((64, 64), 100, np.uint8), np.eye(4))
    nib.save(frame, frames / "x.nii.gz")
    draw(frames / "x.nii.gz.png")
    with pytest.raises(FileExistsError, match=r"x\.nii\.gz and x\.nii\.gz\.png would write the same file"):
        run(frames, tmp_path / "out")
    assert not (tmp_path / "out" / "masks").exists()


def test_probability_and_uncertainty_are_written_on_request(frames, run, tmp_path):
    run(frames, tmp_path / "out", probabilities=True, flips=True)
    probability = np.asarray(Image.open(tmp_path / "out" / "probabilities" / "a.png"))
    mask = np.asarray(Image.open(tmp_path / "out" / "masks" / "a.png"))
    assert probability.dtype == np.uint16
    np.testing.assert_array_equal(probability >= 0.5 * 65535, mask > 0)
    # it looks at each pixel alone, so that mirror images tell it nothing new
    assert np.asarray(Image.open(tmp_path / "out" / "uncertainty" / "a.png")).max() < 0.01 * 65535
    (record, _) = json.loads((tmp_path / "out" / "statistics.json").read_text())["records"]
    assert record["quality"]["measures"]["agreement"] == pytest.approx(1, abs=0.01)


def test_several_weights_are_averaged(frames, run, dark_detector, tmp_path):
    summary = run(frames, tmp_path / "out", weights=[dark_detector, dark_detector])
    assert len(summary["settings"]["weights_sha256"]) == 2
    assert (tmp_path / "out" / "uncertainty" / "a.png").is_file()
    run(frames, tmp_path / "one")
    for name in ("a.png", "later/b.png"):
        assert (tmp_path / "out" / "masks" / name).read_bytes() == (tmp_path / "one" / "masks" / name).read_bytes()


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    """A run of a patient's; nothing of its name may come out."""
    root = tmp_path_factory.mktemp("export")
    cine = synthesize_cine(0, 1, 0, size=96, frames=16, contrast=True)
    write_xa(root / CANARY, cine.frames, replace(cine.facts, patient_name=CANARY, patient_id=CANARY))
    return root


def test_a_run_gets_a_moving_picture_and_a_segmentation_that_agrees_with_its_masks(export, run, tmp_path):
    out = tmp_path / "out"
    summary = run(export, out, frames=[9, 10, 12], dicom_seg="pseudonym", batch_size=2)
    (name,) = {record["run"] for record in summary["records"]}
    assert [record["frame_index"] for record in summary["records"]] == [9, 10, 12]
    with Image.open(out / "animations" / f"{name}.gif") as animation:
        assert animation.n_frames == 3
    seg = highdicom.seg.segread(out / "seg" / f"{name}.dcm")
    source = seg.PerFrameFunctionalGroupsSequence
    numbers = [frame.DerivationImageSequence[0].SourceImageSequence[0].ReferencedFrameNumber for frame in source]
    assert numbers == [10, 11, 13]  # DICOM counts from 1
    masks = [
        np.asarray(nib.load(out / "masks" / f"{name}_{index:04d}.nii.gz").dataobj)[..., 0].T for index in (9, 10, 12)
    ]
    np.testing.assert_array_equal(seg.pixel_array, np.stack(masks))
    for path in out.rglob("*"):
        assert CANARY not in path.name
        assert path.is_dir() or CANARY.encode() not in path.read_bytes()


def test_a_segmentation_may_carry_the_patient_for_an_archive(export, run, tmp_path):
    run(export, tmp_path / "out", dicom_seg="source")
    (seg,) = (tmp_path / "out" / "seg").iterdir()
    assert CANARY.encode() in seg.read_bytes()
    assert CANARY not in seg.name


def test_an_unknown_option_and_a_missing_bundle_are_named(frames, run, tmp_path):
    with pytest.raises(ValueError, match=r"inference\.json has no treshold"):
        run(frames, tmp_path / "out", treshold=0.4)
    with pytest.raises(FileNotFoundError, match="no bundle at"):
        run(frames, tmp_path / "out", bundle=tmp_path)
    with pytest.raises(FileNotFoundError, match=r"none\.safetensors"):
        run(frames, tmp_path / "out", weights=[tmp_path / "none.safetensors"])


def test_the_command_line_says_what_was_asked_for_and_leaves_the_rest_to_the_bundle():
    assert parse(["-i", "a", "-o", "b"]) == {"source": Path("a"), "output": Path("b")}
    given = parse(["-i", "a", "-o", "b", "--frames", "3", "5", "--tta", "--seg", "--stenosis", "--any-sop-class"])
    assert given["frames"] == [3, 5]
    assert (given["flips"], given["narrowings"], given["dicom_seg"]) == (True, True, "pseudonym")
    assert given["require_xa"] is False
    assert parse(["-i", "a", "-o", "b", "--frames", "all", "--seg", "source"])["dicom_seg"] == "source"


@pytest.mark.parametrize("words", [["some"], ["3", "all"], ["-1"]])
def test_frames_that_cannot_be_are_refused(words, capsys):
    with pytest.raises(SystemExit):
        parse(["-i", "a", "-o", "b", "--frames", *words])


def test_help_is_shown_without_torch():
    code = (
        "import sys; from cmunet_monai.prediction.command import main; assert 'torch' not in sys.modules; main(['-h'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout.split()[:2]) == (0, ["usage:", "python"]), done.stderr


def test_a_killed_run_goes_on_and_ends_with_the_same_results(frames, dark_detector, tmp_path):
    for number in range(12):
        draw(frames / f"more{number}.png")
    words = [sys.executable, "-c", KILLED_AFTER_THREE, str(frames), str(tmp_path / "killed"), str(dark_detector)]
    assert subprocess.run(words, check=False, capture_output=True).returncode == -signal.SIGKILL
    done = {path: path.stat().st_mtime_ns for path in (tmp_path / "killed" / "records").rglob("*.json")}
    assert 0 < len(done) < 14
    options = {"weights": [dark_detector], **TINY}
    assert predict(frames, tmp_path / "killed", **options) == predict(frames, tmp_path / "whole", **options)
    assert all(path.stat().st_mtime_ns == before for path, before in done.items())
    names = {path.relative_to(tmp_path / "whole") for path in (tmp_path / "whole").rglob("*") if path.is_file()}
    for name in names - {Path("statistics.json")}:
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


KILLED_AFTER_THREE = f"""
import os, signal, sys
from cmunet_monai.prediction import FrameResults, predict

write = FrameResults._write
seen = []

def write_and_die(self, row, frame, output):
    seen.append(row)
    write(self, row, frame, output)
    if len(seen) == 3:
        os.kill(os.getpid(), signal.SIGKILL)

FrameResults._write = write_and_die
predict(sys.argv[1], sys.argv[2], weights=[sys.argv[3]], **{TINY!r})
"""
