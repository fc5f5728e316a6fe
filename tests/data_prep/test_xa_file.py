import shutil
import subprocess
import sys

import numpy as np
import pydicom
import pytest

from data_prep.synthetic.xa_file import (
    NEAR_LOSSLESS_ERROR,
    TRANSFER_SYNTAX_NAMES,
    CircularShutter,
    RectangularShutter,
    XAFacts,
    write_xa,
)

EXTENDED = "1.2.840.10008.1.2.4.51"
LOSSY = ("jpeg-ls-near-lossless", "jpeg-2000-lossy", "jpeg-baseline")
# PS3.3 table A.14-1: the type 1 attributes of the mandatory modules, and of the conditional ones that a run needs.
TYPE_1 = (
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "SOPClassUID",
    "SOPInstanceUID",
    "Modality",
    "ImageType",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PixelIntensityRelationship",
    "PixelData",
    "RadiationSetting",
    "NumberOfFrames",
    "FrameIncrementPointer",
    "FrameTime",
)
TYPE_2 = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
    "StudyID",
    "AccessionNumber",
    "SeriesNumber",
    "Manufacturer",
    "InstanceNumber",
    "KVP",
    "PositionerPrimaryAngle",
    "PositionerSecondaryAngle",
    "PositionerMotion",
    "ContrastBolusAgent",
)


def smooth_frames(dtype=np.uint8, shape=(3, 33, 41)):
    """Waves of odd size, different in every frame, over the whole range of 8 or 12 bits."""
    frame, row, column = np.indices(shape)
    wave = np.sin(row / 9 + frame) * np.cos(column / 7 - 2 * frame)
    high = 255 if dtype == np.uint8 else 4095
    values = np.rint((wave + 1) / 2 * high)
    return (values - 2048 if dtype == np.int16 else values).astype(dtype)


def written(tmp_path, frames, facts=None, **options):
    path = tmp_path / "run.dcm"
    write_xa(path, frames, XAFacts() if facts is None else facts, **options)
    return pydicom.dcmread(path)


@pytest.mark.parametrize("dtype, bits", [(np.uint8, 8), (np.uint16, 12)])
@pytest.mark.parametrize("name", TRANSFER_SYNTAX_NAMES)
def test_frames_read_back_equal_in_every_transfer_syntax_or_near_in_a_lossy_one(tmp_path, name, dtype, bits):
    if name.startswith("jpeg-baseline") or name.startswith("jpeg-lossless"):
        pytest.importorskip("gdcm")
    if name == "jpeg-baseline" and bits > 8:
        pytest.skip("holds 8 bits")
    frames = smooth_frames(dtype)
    uid = TRANSFER_SYNTAX_NAMES[name]
    dataset = written(tmp_path, frames, XAFacts(bits_stored=bits), transfer_syntax=uid)
    assert dataset.file_meta.TransferSyntaxUID == uid
    back = dataset.pixel_array
    assert back.shape == frames.shape
    error = np.abs(back.astype(int) - frames).max()
    # 60 dB of signal to noise: a deviation of 4095 / 1000, some pixels have several of it.
    assert error <= {"jpeg-ls-near-lossless": NEAR_LOSSLESS_ERROR, "jpeg-2000-lossy": 30, "jpeg-baseline": 4}.get(
        name, 0
    )
    assert ("LossyImageCompression" in dataset) == (name in LOSSY)


@pytest.mark.parametrize("name", ["explicit", "big-endian", "rle", "jpeg-lossless-sv1"])
def test_frame_without_frame_axis_has_no_number_of_frames(tmp_path, name):
    if name.startswith("jpeg"):
        pytest.importorskip("gdcm")
    frame = smooth_frames()[0]
    dataset = written(tmp_path, frame, transfer_syntax=TRANSFER_SYNTAX_NAMES[name])
    assert "NumberOfFrames" not in dataset
    assert "FrameTime" not in dataset
    np.testing.assert_array_equal(dataset.pixel_array, frame)


def test_one_frame_with_frame_axis_is_a_run_of_one(tmp_path):
    assert written(tmp_path, smooth_frames()[:1]).NumberOfFrames == 1


@pytest.mark.parametrize("name", ["explicit", "big-endian", "jpeg-ls", "jpeg-2000"])
def test_signed_values_stay_signed(tmp_path, name):
    frames = smooth_frames(np.int16)
    assert frames.min() < -2000
    dataset = written(tmp_path, frames, XAFacts(bits_stored=12), transfer_syntax=TRANSFER_SYNTAX_NAMES[name])
    assert dataset.PixelRepresentation == 1
    np.testing.assert_array_equal(dataset.pixel_array, frames)


def test_monochrome1_keeps_the_stored_values(tmp_path):
    pytest.importorskip("gdcm")
    facts = XAFacts(photometric_interpretation="MONOCHROME1")
    dataset = written(tmp_path, smooth_frames(), facts, transfer_syntax=TRANSFER_SYNTAX_NAMES["jpeg-lossless-sv1"])
    assert dataset.PhotometricInterpretation == "MONOCHROME1"
    np.testing.assert_array_equal(dataset.pixel_array, smooth_frames())


def test_default_object_has_what_the_xa_iod_demands(tmp_path):
    dataset = written(tmp_path, smooth_frames())
    assert dataset.SOPClassUID == dataset.file_meta.MediaStorageSOPClassUID == "1.2.840.10008.5.1.4.1.1.12.1"
    assert dataset.SOPInstanceUID == dataset.file_meta.MediaStorageSOPInstanceUID
    assert [keyword for keyword in TYPE_1 if dataset.get(keyword) in (None, "")] == []
    assert [keyword for keyword in TYPE_2 if keyword not in dataset] == []
    assert dataset.Modality == "XA"
    assert dataset.ImageType[2] == "SINGLE PLANE"
    assert (dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation) == (8, 8, 7, 0)
    assert dataset.FrameIncrementPointer == 0x00181063


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dicom3tools is not installed")
@pytest.mark.parametrize(
    "facts",
    [
        XAFacts(),
        XAFacts(
            bits_stored=12,
            pixel_intensity_relationship="LOG",
            r_wave_frames=(0, 2),
            ecg=(2048, 3000, 2048),
            imager_pixel_spacing_mm=0.2,
            pixel_spacing_mm=0.15,
            pixel_spacing_calibration="FIDUCIAL",
            source_to_detector_mm=1000,
            source_to_patient_mm=750,
            estimated_magnification=4 / 3,
            shutter=RectangularShutter(2, 40, 3, 30),
            positioner_motion="DYNAMIC",
            primary_angle_increments_deg=(0, 1, 2),
            secondary_angle_increments_deg=(0, 0, 0),
            representative_frame=1,
            window=(2000, 3000),
        ),
        XAFacts(contrast_agent=None, shutter=CircularShutter(16, 20, 15), burned_in_annotation=True),
    ],
)
def test_dciodvfy_finds_no_error(tmp_path, facts):
    frames = smooth_frames(np.uint8 if facts.bits_stored == 8 else np.uint16)
    write_xa(tmp_path / "run.dcm", frames, facts)
    found = subprocess.run(["dciodvfy", str(tmp_path / "run.dcm")], capture_output=True, text=True, check=False)
    assert [line for line in (found.stdout + found.stderr).splitlines() if line.startswith("Error")] == []
    assert "XAImage" in found.stdout + found.stderr


def test_facts_stand_where_the_standard_puts_them(tmp_path):
    facts = XAFacts(
        primary_angle_deg=-30.5,
        secondary_angle_deg=22,
        frame_time_ms=66.7,
        imager_pixel_spacing_mm=(0.2, 0.3),
        source_to_detector_mm=1000,
        source_to_patient_mm=750,
        burned_in_annotation=True,
        shutter=CircularShutter(16, 20, 15),
        manufacturer="Synthetic Scanner A",
    )
    dataset = written(tmp_path, smooth_frames(), facts)
    assert (dataset.PositionerPrimaryAngle, dataset.PositionerSecondaryAngle) == (-30.5, 22)
    assert dataset.FrameTime == 66.7
    assert dataset.ImagerPixelSpacing == [0.2, 0.3]
    assert "PixelSpacing" not in dataset
    assert "EstimatedRadiographicMagnificationFactor" not in dataset
    assert (dataset.DistanceSourceToDetector, dataset.DistanceSourceToPatient) == (1000, 750)
    assert dataset.BurnedInAnnotation == "YES"
    assert (dataset.ShutterShape, dataset.CenterOfCircularShutter, dataset.RadiusOfCircularShutter) == (
        "CIRCULAR",
        [16, 20],
        15,
    )
    assert dataset.Manufacturer == "Synthetic Scanner A"


def test_frames_are_counted_from_one_in_the_file(tmp_path):
    dataset = written(tmp_path, smooth_frames(), XAFacts(r_wave_frames=(0, 2), representative_frame=1))
    assert dataset.RWavePointer == [1, 3]
    assert dataset.RepresentativeFrameNumber == 2


@pytest.mark.parametrize("name, order", [("explicit", "<u2"), ("big-endian", ">u2")])
def test_words_of_curve_and_lookup_table_have_the_files_byte_order(tmp_path, name, order):
    facts = XAFacts(ecg=(1, 256, 65535), pixel_intensity_relationship="LOG")
    dataset = written(tmp_path, smooth_frames(), facts, transfer_syntax=TRANSFER_SYNTAX_NAMES[name])
    assert list(np.frombuffer(dataset[0x5000, 0x3000].value, order)) == [1, 256, 65535]
    table = np.frombuffer(dataset.ModalityLUTSequence[0].LUTData, order)
    # Two decades over 255 steps: the darkest is a hundredth of the brightest, the step is 100 ** (1 / 255).
    assert (table[0], table[-1]) == (655, 65535)
    assert table[200] / table[100] == pytest.approx(100 ** (100 / 255), rel=1e-3)


def test_extra_is_set_last_and_none_removes(tmp_path):
    extra = {"NumberOfFrames": 7, "PatientComments": "x", "FrameTime": None, "KVP": None}
    dataset = written(tmp_path, smooth_frames(), XAFacts(extra=extra))
    assert (dataset.NumberOfFrames, dataset.PatientComments) == (7, "x")
    assert "FrameTime" not in dataset
    assert "KVP" not in dataset


def test_equal_input_is_an_equal_file_and_other_pixels_are_another_instance_of_the_series(tmp_path):
    frames = smooth_frames()
    for name in "ab":
        write_xa(tmp_path / name, frames)
    write_xa(tmp_path / "c", frames[::-1])
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    one, other = pydicom.dcmread(tmp_path / "a"), pydicom.dcmread(tmp_path / "c")
    assert one.SOPInstanceUID != other.SOPInstanceUID
    assert (one.StudyInstanceUID, one.SeriesInstanceUID) == (other.StudyInstanceUID, other.SeriesInstanceUID)


def test_lossless_compression_keeps_the_instance_uid_and_lossy_does_not(tmp_path):
    uids = {
        name: written(tmp_path, smooth_frames(), transfer_syntax=TRANSFER_SYNTAX_NAMES[name]).SOPInstanceUID
        for name in ("explicit", "jpeg-ls", "jpeg-ls-near-lossless")
    }
    assert uids["explicit"] == uids["jpeg-ls"] != uids["jpeg-ls-near-lossless"]


def test_uids_are_taken_over_where_given(tmp_path):
    dataset = written(tmp_path, smooth_frames(), XAFacts(study_uid="1.2.3", series_uid="1.2.4", instance_uid="1.2.5"))
    assert (dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.SOPInstanceUID) == ("1.2.3", "1.2.4", "1.2.5")


@pytest.mark.parametrize(
    "frames, facts, syntax, message",
    [
        (smooth_frames().astype(np.float32), XAFacts(), "explicit", "must be uint8, uint16 or int16 stored values"),
        (smooth_frames()[0, 0], XAFacts(), "explicit", r"must be \(frame, row, column\) or \(row, column\)"),
        (smooth_frames()[:0], XAFacts(), "explicit", "none empty"),
        (smooth_frames(np.uint16), XAFacts(bits_stored=8), "explicit", "must be 0 to 255 for 8 bits stored, got 0 to"),
        (smooth_frames(), XAFacts(bits_stored=12), "explicit", "must be 1 to 8 for uint8 frames, got 12"),
        (smooth_frames(np.uint16), XAFacts(bits_stored=12), "jpeg-baseline", "must be uint8, got uint16"),
        (smooth_frames()[:, :31], XAFacts(), "jpeg-2000", "from 32 rows and columns on"),
        (smooth_frames(), XAFacts(r_wave_frames=(3,)), "explicit", "`r_wave_frames` must be frames 0 to 2"),
        (smooth_frames(), XAFacts(positioner_motion="DYNAMIC"), "explicit", "a value for each of 3 frames, got 0"),
    ],
)
def test_what_cannot_be_written_is_named_and_leaves_no_file(tmp_path, frames, facts, syntax, message):
    with pytest.raises(ValueError, match=message):
        write_xa(tmp_path / "run.dcm", frames, facts, transfer_syntax=TRANSFER_SYNTAX_NAMES[syntax])
    assert list(tmp_path.iterdir()) == []


def test_jpeg_extended_names_the_tool_that_makes_it(tmp_path):
    with pytest.raises(ValueError, match=r"must be one of .* got 1\.2\.840\.10008\.1\.2\.4\.51; dcmtk's `dcmcjpeg"):
        write_xa(tmp_path / "run.dcm", smooth_frames(), transfer_syntax=EXTENDED)


def test_a_missing_encoder_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    with pytest.raises(ValueError, match="imagecodecs, which is not installed"):
        write_xa(tmp_path / "run.dcm", smooth_frames(), transfer_syntax=TRANSFER_SYNTAX_NAMES["jpeg-lossless"])
