"""What fails for one frame costs that frame alone."""

import csv
import json
import re
import struct
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from cmunet_monai.prediction import predict, results
from cmunet_monai.prediction.command import main
from data_prep.synthetic.cine import synthesize_cine
from data_prep.synthetic.xa_file import write_xa
from tests.conftest import small_disk

TINY = {"channels": [4, 8, 16], "image_size": [64, 64], "num_workers": 0, "runtime": "torch", "overlays": False}


def frame(seed=0):
    grey = 150 + 3 * np.random.default_rng(seed).standard_normal((64, 64))
    grey[30:36, 4:60] = 60
    return grey.astype(np.uint8)


def nifti(path, values=None, *, sizes=None, sform=None):
    values = frame().T[..., None] if values is None else values
    nib.save(nib.Nifti1Image(values, np.diag([0.3, 0.3, 1, 1])), path)
    raw = bytearray(path.read_bytes())
    if sizes is not None:
        struct.pack_into("<3f", raw, 80, *sizes)
        struct.pack_into("<2h", raw, 252, 0, 0)
    if sform is not None:
        struct.pack_into("<2h", raw, 252, 0, 1)
        struct.pack_into("<12f", raw, 280, *sform)
    path.write_bytes(raw)


def huge():
    values = frame().T[..., None].astype(np.float32)
    values[:5, :5] = 3.4e38
    return values


@pytest.fixture
def mixed(tmp_path):
    """Thirty files: 17 PNG, 2 NIfTI and a DICOM run that are whole, and ten that are broken in different ways."""
    folder = tmp_path / "mixed"
    folder.mkdir()
    for number in range(17):
        Image.fromarray(frame(number)).save(folder / f"good{number:02}.png")
    for number in range(2):
        nifti(folder / f"good{number}.nii")
    cine = synthesize_cine(0, 1, 0, size=96, frames=16, contrast=True)
    write_xa(folder / "run.dcm", cine.frames, cine.facts)
    whole = (folder / "good00.png").read_bytes()
    (folder / "cut.png").write_bytes(whole[:200])
    (folder / "empty.png").write_bytes(b"")
    (folder / "text.png").write_text("no picture")
    (folder / "cut.nii").write_bytes((folder / "good0.nii").read_bytes()[:1000])
    (folder / "run_cut.dcm").write_bytes((folder / "run.dcm").read_bytes()[:4000])
    nifti(folder / "nan_sizes.nii", sizes=[float("nan")] * 3)
    nifti(folder / "no_geometry.nii", sform=[0.0] * 12)
    nifti(folder / "huge.nii", huge())
    nifti(folder / "negative.nii", frame().T[..., None].astype(np.int16) - 200)
    nifti(folder / "two.nii", np.stack([frame().T] * 2, axis=-1))
    assert len(list(folder.iterdir())) == 30
    return folder


def lost_in(output):
    with (output / "passed_over.csv").open(newline="") as file:
        return {row["name"]: row["reason"] for row in csv.DictReader(file)}


def test_ten_broken_files_of_thirty_cost_themselves_alone(mixed, dark_detector, tmp_path, monkeypatch):
    def tiny(**arguments):
        return predict(**arguments, **TINY)

    monkeypatch.setattr("cmunet_monai.prediction.run_bundle.predict", tiny)
    output = tmp_path / "out"
    assert main(["-i", str(mixed), "-o", str(output), "--weights", str(dark_detector)]) == 3
    summary = json.loads((output / "statistics.json").read_text())
    assert summary["frames"] == 20
    assert len(list((output / "masks").iterdir())) == 20
    assert (output / "segments.csv").is_file()
    lost = lost_in(output)
    assert len(lost) == 10
    for reason in lost.values():
        assert str(tmp_path) not in reason
        assert "Error" not in reason and "Traceback" not in reason  # noqa: PT018
    assert "its header is damaged" in lost["nan_sizes.nii"]
    assert "geometry in its header" in lost["no_geometry.nii"]
    assert "grey levels must be at most" in lost["huge.nii"]
    assert "not negative" in lost["negative.nii"]
    assert "one grey frame" in lost["two.nii"]


@pytest.fixture
def frames(tmp_path):
    folder = tmp_path / "frames"
    folder.mkdir()
    for name in ("a.png", "m.png", "z.png"):
        Image.fromarray(frame()).save(folder / name)
    return folder


@pytest.mark.parametrize("step", ["measure_arteries", "assess_frame", "write_mask"])
def test_a_frame_that_cannot_be_measured_or_written_costs_itself(step, frames, dark_detector, tmp_path, monkeypatch):
    whole, calls = getattr(results, step), []

    def fails_on_the_second(*arguments, **options):
        calls.append(step)
        if len(calls) in (2, 3):  # once in its turn, once more alone
            raise ZeroDivisionError(f"no way in {frames / 'm.png'}")
        return whole(*arguments, **options)

    monkeypatch.setattr(results, step, fails_on_the_second)
    output = tmp_path / "out"
    summary = predict(frames, output, weights=[dark_detector], **TINY)
    assert [record["id"] for record in summary["records"]] == ["a.png", "z.png"]
    reason = "its arteries could not be measured, drawn or written (no way in m.png)"
    assert lost_in(output) == {"m.png": reason}
    assert not list(output.rglob("m.png*"))
    monkeypatch.undo()
    assert predict(frames, output, weights=[dark_detector], **TINY)["frames"] == 3
    assert not (output / "passed_over.csv").exists()


@pytest.mark.parametrize("workers", [0, 1])
def test_a_frame_that_cannot_be_prepared_leaves_the_others(workers, frames, dark_detector, tmp_path, monkeypatch):
    from cmunet_monai.transforms import unsharp_mask

    whole = unsharp_mask.UnsharpMask.__call__

    def fails_on_bright(self, image):
        if float(image.max()) > 250:
            raise np.linalg.LinAlgError("Singular matrix")
        return whole(self, image)

    monkeypatch.setattr(unsharp_mask.UnsharpMask, "__call__", fails_on_bright)
    Image.fromarray(np.full((64, 64), 255, np.uint8)).save(frames / "m.png")
    summary = predict(frames, tmp_path / "out", weights=[dark_detector], **TINY | {"num_workers": workers})
    assert summary["frames"] == 2
    assert lost_in(tmp_path / "out") == {"m.png": "it could not be read and prepared for the network (Singular matrix)"}


def test_nothing_that_could_be_done_is_a_mistake_and_the_tables_are_there(frames, dark_detector, tmp_path, monkeypatch):
    def refuse(*arguments, **options):
        raise ValueError("no")

    monkeypatch.setattr(results, "measure_arteries", refuse)

    def tiny(**arguments):
        return predict(**arguments, **TINY)

    monkeypatch.setattr("cmunet_monai.prediction.run_bundle.predict", tiny)
    words = ["-i", str(frames), "-o", str(tmp_path / "out"), "--weights", str(dark_detector)]
    assert main(words) == 2
    assert json.loads((tmp_path / "out" / "statistics.json").read_text())["frames"] == 0
    assert len(lost_in(tmp_path / "out")) == 3


def test_a_full_disk_ends_the_run(frames, dark_detector, tmp_path, monkeypatch):
    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(results, "write_mask", full)
    with pytest.raises(OSError, match="No space left"):
        predict(frames, tmp_path / "out", weights=[dark_detector], **TINY)


# Predicts into a disk with ever more room. Arguments: the frames, the output folder, the weights; the last line that it
# writes is a JSON list, one object for each run
FILL_AND_PREDICT = """
import json
import os
import sys
from pathlib import Path

from PIL import Image

from cmunet_monai.prediction import predict

TINY = {"channels": [4, 8, 16], "image_size": [64, 64], "num_workers": 0, "runtime": "torch", "probabilities": True}


def fill(folder, left):
    filler = folder / "filler"
    filler.unlink(missing_ok=True)
    facts = os.statvfs(folder)
    filler.write_bytes(bytes(facts.f_bavail * facts.f_frsize - left))


def run(frames, output, weights):
    # what a person reads, and what lies there afterwards
    try:
        error, verdicts = None, predict(frames, output, weights=[weights], **TINY)["verdicts"]
    except OSError as raised:
        error, verdicts = str(raised), None
    for path in output.rglob("*.png"):
        with Image.open(path) as picture:
            picture.load()  # raises where it is cut or empty
    for path in (output / "records").rglob("*.json"):
        json.loads(path.read_text())
    return {"error": error, "verdicts": verdicts, "left over": [path.name for path in output.rglob(".tmp-*")]}


frames, output, weights = map(Path, sys.argv[1:])
found = []
for left_kib in (4, 12, 20, 24, 32, 48, 64):
    fill(output, 1024 * left_kib)
    found.append(run(frames, output, weights))
(output / "filler").unlink()
found.append(run(frames, output, weights))
sys.stdout.write(f"\\n{json.dumps(found)}\\n")
"""


def test_on_a_full_disk_no_result_is_half_written_and_the_same_call_goes_on(frames, dark_detector, tmp_path):
    output = tmp_path / "out"
    output.mkdir()
    words = [*small_disk(output, mib=1), sys.executable, "-c", FILL_AND_PREDICT, frames, output, dark_detector]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    *full, last = json.loads(done.stdout.splitlines()[-1])
    errors = [run["error"] for run in full if run["error"] is not None]
    assert len(errors) >= 3
    assert all(re.search(f"No space left on device: '{re.escape(str(output))}/.+'", error) for error in errors)
    assert [run["left over"] for run in (*full, last)] == [[]] * (len(full) + 1)
    assert last["error"] is None
    assert sum(last["verdicts"].values()) == len(list(frames.iterdir()))


# What lies in the folder is what the tables say -----------------------------------------------------------------------


DAMAGED = ["[]", "null", "3", "{}", '{"settings": {}}', "[" * 5000, "", '{"id": "m.png", "settings": []}']


@pytest.mark.parametrize("text", DAMAGED)
def test_a_record_that_is_none_is_made_again(text, frames, dark_detector, tmp_path):
    output = tmp_path / "out"
    expected = predict(frames, output, weights=[dark_detector], **TINY)
    (output / "records" / "m.png.json").write_text(text)
    assert predict(frames, output, weights=[dark_detector], **TINY) == expected


@pytest.mark.parametrize("folder", ["masks", "overlays", "probabilities"])
@pytest.mark.parametrize("size", [0, 60])
def test_an_empty_or_cut_result_does_not_count_as_done(folder, size, frames, dark_detector, tmp_path):
    output, options = tmp_path / "out", {"weights": [dark_detector], **TINY, "overlays": True, "probabilities": True}
    predict(frames, output, **options)
    path = output / folder / "m.png"
    whole = path.read_bytes()
    path.write_bytes(whole[:size])
    predict(frames, output, **options)
    assert path.read_bytes() == whole


def test_fewer_frames_leave_what_the_tables_say_and_files_of_others_alone(dark_detector, tmp_path):
    cine = synthesize_cine(0, 1, 0, size=96, frames=16, contrast=True)
    write_xa(tmp_path / "export", cine.frames, cine.facts)
    output, options = tmp_path / "out", {"weights": [dark_detector], **TINY, "overlays": True, "dicom_seg": "pseudonym"}
    predict(tmp_path / "export", output, frames=[9, 10, 12], **options)
    assert len(list((output / "animations").iterdir())) == 1
    (output / "masks" / "mine.nii.gz").touch()
    (output / "overlays" / ".tmp-killed.png").touch()
    summary = predict(tmp_path / "export", output, frames=[10], **options)
    (name,) = (record["id"] for record in summary["records"])
    assert sorted(path.name for path in (output / "masks").iterdir()) == [f"{name}.nii.gz", "mine.nii.gz"]
    assert [path.name for path in (output / "overlays").iterdir()] == [f"{name}.png"]
    assert [path.name for path in (output / "records").iterdir()] == [f"{name}.json"]
    assert list((output / "animations").iterdir()) == []
    assert len(list((output / "seg").iterdir())) == 1


def test_results_of_other_frames_are_neither_mixed_with_nor_removed(frames, dark_detector, tmp_path):
    predict(frames, tmp_path / "out", weights=[dark_detector], **TINY)
    others = tmp_path / "others"
    others.mkdir()
    Image.fromarray(frame()).save(others / "other.png")
    with pytest.raises(FileExistsError, match="holds results of other frames"):
        predict(others, tmp_path / "out", weights=[dark_detector], **TINY)
    assert len(list((tmp_path / "out" / "masks").iterdir())) == 3


def test_a_masks_folder_of_others_is_not_written_to(frames, dark_detector, tmp_path, monkeypatch):
    (frames / "masks").mkdir()
    Image.fromarray(frame()).save(frames / "masks" / "a.png")
    before = (frames / "masks" / "a.png").read_bytes()
    monkeypatch.chdir(frames)
    with pytest.raises(FileExistsError, match="masks holds files that no earlier run has written"):
        predict(".", ".", weights=[dark_detector], **TINY)
    assert (frames / "masks" / "a.png").read_bytes() == before


def test_results_beside_the_frames_are_not_read_as_frames(frames, dark_detector, tmp_path, monkeypatch):
    monkeypatch.chdir(frames)
    for output in (".", "first", "first/second", "."):
        assert predict(".", output, weights=[dark_detector], **TINY)["frames"] == 3
    assert sorted(path.name for path in Path("masks").iterdir()) == ["a.png", "m.png", "z.png"]
