"""The MONAI reader of XA DICOM."""

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset, MetaTensor
from monai.transforms import Compose, LoadImage, LoadImaged

from cmunet_monai.readers.xa_dicom import (
    DamagedDicomError,
    NoFilledTreeError,
    NotAngiographyError,
    UnsupportedDicomError,
    XADicomReader,
)
from data_prep.synthetic.xa_file import CircularShutter, XAFacts, write_xa

READER = "cmunet_monai.readers.xa_dicom.XADicomReader"


def ramp(frames, rows=34, columns=50):
    frame, row, column = np.mgrid[:frames, :rows, :columns]
    return ((row * 4 + column + frame * 10) % 256).astype(np.uint8)


@pytest.fixture
def file(tmp_path):
    def make(frames=None, name="run.dcm", **facts):
        write_xa(tmp_path / name, ramp(3) if frames is None else frames, XAFacts(**facts))
        return str(tmp_path / name)

    return make


@pytest.mark.parametrize("name", ["run.dcm", "IM_0001", "1.2.840.1", "run.IMA"])
def test_load_image_gives_frames_rows_columns(file, name):
    load = LoadImaged(keys="image", reader=READER, ensure_channel_first=True)
    image = load({"image": file(name=name, imager_pixel_spacing_mm=0.3, estimated_magnification=1.5)})["image"]
    assert isinstance(image, MetaTensor)
    assert (image.shape, image.dtype) == ((3, 34, 50), torch.float32)
    np.testing.assert_array_equal(image.numpy(), ramp(3))
    assert image.meta["spacing_mm"] == pytest.approx(0.2)  # 0.3 / 1.5
    assert np.diag(image.affine).tolist() == pytest.approx([0.2, 0.2, 1, 1])
    assert image.meta["spacing_source"] == "imager_over_estimated_magnification"
    assert (list(image.meta["frame_indices"]), image.meta["frame_time_ms"]) == ([0, 1, 2], 66.7)


def test_single_frame_has_a_frame_axis(file):
    for frames in (ramp(1)[0], ramp(1)):
        image = LoadImage(reader=READER, ensure_channel_first=True, image_only=True)(file(frames))
        np.testing.assert_array_equal(image.numpy(), ramp(1))


def test_unknown_spacing_is_left_out_and_the_affine_says_nothing(file):
    array, meta = XADicomReader().get_data((file(),))
    assert "spacing_mm" not in meta
    assert meta["spacing_source"] == "unknown"
    np.testing.assert_array_equal(meta["affine"], np.eye(4))
    assert XADicomReader(spacing_mm=0.25).get_data((file(),))[1]["spacing_mm"] == 0.25
    assert array.shape == (3, 34, 50)


def test_chosen_frames_come_in_the_order_asked_for(file):
    array, meta = XADicomReader([2, 0]).get_data((file(),))
    np.testing.assert_array_equal(array, ramp(3)[[2, 0]])
    assert meta["frame_indices"] == [2, 0]
    with pytest.raises(ValueError, match=r"run\.dcm: there is no frame 3"):
        XADicomReader([3]).get_data((file(),))


@pytest.mark.parametrize("wanted", ["fullest", "measure"])
def test_best_frame_is_asked_for_and_given(file, monkeypatch, wanted):
    seen = {}
    best = SimpleNamespace(
        filling_curve=lambda frames: np.stack(list(frames)),
        fullest_frame=lambda curve: seen.update(curve=curve) or 1,
        measure_frame=lambda curve, *, r_wave_frames: seen.update(curve=curve, r=r_wave_frames) or 2,
    )
    monkeypatch.setitem(sys.modules, "cmunet_monai.xa.best_frame", best)
    array, meta = XADicomReader(wanted).get_data((file(r_wave_frames=(0, 2)),))
    index = 1 if wanted == "fullest" else 2
    np.testing.assert_array_equal(array, ramp(3)[[index]])
    np.testing.assert_array_equal(seen["curve"], ramp(3))
    assert meta["frame_indices"] == [index]
    assert seen.get("r") == (None if wanted == "fullest" else (0, 2))


def test_run_without_a_filled_tree_is_a_typed_error(file, monkeypatch):
    none = SimpleNamespace(
        filling_curve=list, fullest_frame=lambda curve: None, measure_frame=lambda curve, *, r_wave_frames: None
    )
    monkeypatch.setitem(sys.modules, "cmunet_monai.xa.best_frame", none)
    with pytest.raises(NoFilledTreeError, match="none of its 3 frames"):
        XADicomReader("fullest").get_data((file(),))


def test_runs_of_one_size_make_a_batch_whatever_they_know(file):
    paths = [
        file(name="a", r_wave_frames=(0, 1), imager_pixel_spacing_mm=0.3, estimated_magnification=1.5),
        file(name="b", r_wave_frames=(2,), representative_frame=1),
        file(name="c", manufacturer="", extra={"FrameTime": None, "CineRate": 15}),
    ]
    load = Compose([LoadImaged(keys="image", reader=READER, ensure_channel_first=True)])
    data = Dataset([{"image": path} for path in paths], load)
    (batch,) = DataLoader(data, batch_size=3)
    assert batch["image"].shape == (3, 3, 34, 50)


def test_shutter_is_in_the_meta_data(file):
    _, meta = XADicomReader().get_data((file(shutter=CircularShutter(17, 25, 5)),))
    region = meta["valid_region"]
    assert (region.shape, region.dtype) == ((34, 50), bool)
    assert region[16, 24]  # counted from 0
    assert not region[16, 31]
    assert "valid_region" not in XADicomReader().get_data((file(),))[1]


def test_bright_lines_are_flagged_and_never_inverted(file):
    frames = np.full((2, 200, 200), 100, np.uint8)
    frames[:, :, 98:102] = 180
    frames[:, :20], frames[:, -20:] = 40, 240  # what the field lies between
    array, meta = XADicomReader().get_data((file(frames),))
    assert "contrast_may_be_bright" in meta["flags"]
    np.testing.assert_array_equal(array, frames)
    _, meta = XADicomReader().get_data((file(255 - frames),))
    assert meta["flags"] == ""


def test_nothing_that_names_a_patient_is_in_the_meta_data(file):
    canary = "X7Q2-CANARY"
    path = file(patient_name=canary, patient_id=canary, study_description=canary, manufacturer=canary)
    _, meta = XADicomReader().get_data((path,))
    text = json.dumps(meta, default=str)
    assert canary not in text
    assert "2020" not in text  # the year of the study


def test_errors_begin_with_the_path(file, tmp_path):
    path = file(extra={"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"})
    with pytest.raises(NotAngiographyError, match=r"run\.dcm: is of the SOP class Secondary Capture"):
        XADicomReader().get_data((path,))
    assert XADicomReader(require_xa=False).get_data((path,))[0].shape == (3, 34, 50)
    with pytest.raises(FileNotFoundError, match=r"no file at .*lost"):
        XADicomReader().get_data((str(tmp_path / "lost"),))
    (tmp_path / "text").write_text("no DICOM")
    with pytest.raises(UnsupportedDicomError, match=r"text: is no DICOM file"):
        XADicomReader().get_data((str(tmp_path / "text"),))
    with pytest.raises(ValueError, match="one file makes a run, got 2"):
        XADicomReader().get_data((path, path))


def test_monai_does_not_fall_back_to_its_own_reader(file):
    path = file()
    with open(path, "r+b") as stream:
        stream.truncate(4000)
    with pytest.raises(DamagedDicomError, match="frame 1: the file ends before it does"):
        LoadImage(reader=XADicomReader())(path)


def test_other_formats_are_left_to_other_readers():
    reader = XADicomReader()
    assert all(reader.verify_suffix(name) for name in ("a.dcm", "a.dicom", "a.ima", "IM0001", "1.2.3"))
    assert not any(reader.verify_suffix(name) for name in ("a.png", "a.nii.gz", "a.nii", "a.JPG"))


@pytest.mark.parametrize(
    "arguments, words",
    [({"frames": "best"}, "best"), ({"frames": []}, "at least one"), ({"spacing_mm": 0}, "between 0.01 and 5 mm")],
)
def test_wrong_arguments_are_named(arguments, words):
    with pytest.raises(ValueError, match=words):
        XADicomReader(**arguments)
