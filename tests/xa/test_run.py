"""XA DICOM files: every transfer syntax, what the header says, damage."""

import hashlib
import os
import pickle
import random
import struct
import sys
import traceback
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate

from cmunet_monai.xa.errors import (
    DamagedDicomError,
    MissingDecoderError,
    NotAngiographyError,
    UnsupportedDicomError,
    XAReadError,
)
from cmunet_monai.xa.run import read_frames, read_run, read_sound_frames
from data_prep.synthetic.xa_file import NEAR_LOSSLESS_ERROR, CircularShutter, XAFacts, write_xa

REAL = Path(os.environ.get("CMUNET_REAL_DATA", "")) / "dicom_xa"
FIXTURES = Path(__file__).parent / "fixtures"
EXPLICIT, RLE, BASELINE, LOSSLESS = (
    "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2.5",
    *(f"1.2.840.10008.1.2.4.{number}" for number in (50, 70)),
)
EXACT = {
    "implicit": "1.2.840.10008.1.2",
    "explicit": EXPLICIT,
    "big_endian": "1.2.840.10008.1.2.2",
    "deflated": "1.2.840.10008.1.2.1.99",
    "rle": RLE,
    "jpeg_lossless": "1.2.840.10008.1.2.4.57",
    "jpeg_lossless_sv1": LOSSLESS,
    "jpeg_ls": "1.2.840.10008.1.2.4.80",
    "jpeg_2000": "1.2.840.10008.1.2.4.90",
}


def ramp(bits=8, frames=2, rows=34, columns=50):
    """Rising to the right and, faster, downwards and from frame to frame: no flip or transposition leaves it so."""
    frame, row, column = np.mgrid[:frames, :rows, :columns]
    values = (row * 7 + column * 3 + frame * 20) * (2**bits - 1) // (rows * 7 + columns * 3 + frames * 20)
    return values.astype(np.uint8 if bits == 8 else np.uint16)


def read_all(path, **options):
    return np.stack(list(read_frames(path, **options)))


def edit(path, change):
    dataset = pydicom.dcmread(path)
    change(dataset)
    dataset.save_as(path)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "run"

    def make(frames=None, syntax=EXPLICIT, **facts):
        write_xa(path, ramp() if frames is None else frames, XAFacts(**facts), transfer_syntax=syntax)
        return path

    return make


@pytest.mark.parametrize("bits", [8, 10, 12, 16])
@pytest.mark.parametrize("syntax", EXACT)
def test_lossless_files_read_back_equal(file, syntax, bits):
    frames = ramp(bits)
    path = file(frames, EXACT[syntax], bits_stored=bits)
    read = read_all(path)
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, frames)
    run = read_run(path)
    assert (run.frames, run.rows, run.columns, run.bits_stored) == (2, 34, 50, bits)
    assert (run.transfer_syntax, run.flags) == (EXACT[syntax], ())


@pytest.mark.parametrize("syntax", ["implicit", "explicit", "big_endian", "rle", "jpeg_ls", "jpeg_2000"])
def test_signed_values_keep_their_sign(file, syntax):
    frames = ramp(12).astype(np.int16) - 2048
    np.testing.assert_array_equal(read_all(file(frames, EXACT[syntax], bits_stored=12)), frames)


@pytest.mark.parametrize("count", [None, 1, 3])
@pytest.mark.parametrize("syntax", ["explicit", "big_endian", "rle", "jpeg_ls"])
def test_single_and_multi_frame_have_the_same_orientation(file, syntax, count):
    frames = ramp(8, count or 1, 33, 41)
    path = file(frames if count == 3 else frames[0], EXACT[syntax], extra={"NumberOfFrames": count})
    read = read_all(path)
    np.testing.assert_array_equal(read, frames)
    assert read[0, -1, 0] > read[0, 0, -1] > read[0, 0, 0]


@pytest.mark.parametrize("number, error", [(50, 4), (81, NEAR_LOSSLESS_ERROR), (91, 2)])
def test_lossy_files_read_back_within_their_error(file, number, error):
    path = file(ramp(), f"1.2.840.10008.1.2.4.{number}")
    assert np.abs(read_all(path) - ramp()).max() <= error


@pytest.mark.parametrize("bits", [8, 12])
def test_jpeg_extended_reads_back_within_its_error(bits):
    frame, row, column = np.mgrid[:2, :24, :40]
    expected = (7 * row + 3 * column + 20 * frame) * (2**bits - 1) // 320
    assert np.abs(read_all(FIXTURES / f"extended_{bits}.dcm") - expected).max() <= 2 ** (bits - 7)


@pytest.mark.parametrize("number", [51, 57, 70, 80, 90])
def test_a_missing_decoder_names_the_extra(file, monkeypatch, number):
    path = (
        FIXTURES / "extended_12.dcm"
        if number == 51
        else file(ramp(12), f"1.2.840.10008.1.2.4.{number}", bits_stored=12)
    )
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    with pytest.raises(MissingDecoderError, match=r"needs imagecodecs .* pip install 'cmunet_monai\[dicom\]'"):
        next(read_frames(path))
    with pytest.raises(MissingDecoderError):  # is no damage of a frame
        list(read_sound_frames(path, damaged={}))
    assert read_run(path).frames == 2


def test_jpeg_of_eight_bits_needs_no_extra(file, monkeypatch):
    path = file(syntax=BASELINE)
    # The transfer syntax of lossless JPEG does not bring it to another decoder either
    edit(path, lambda dataset: setattr(dataset.file_meta, "TransferSyntaxUID", LOSSLESS))
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    assert np.abs(read_all(path) - ramp()).max() <= 4


def test_eight_bits_in_big_endian_words_are_read_in_order(file):
    frames = ramp()
    path = file(frames, EXACT["big_endian"])
    data = path.read_bytes()
    swapped = frames.view(np.uint16).byteswap().tobytes()
    path.write_bytes(data.replace(frames.tobytes(), swapped).replace(b"\x7f\xe0\x00\x10OB", b"\x7f\xe0\x00\x10OW"))
    np.testing.assert_array_equal(read_all(path), frames)


@pytest.mark.parametrize("high_bit", [11, 13, 15])
def test_stored_bits_are_found_by_the_high_bit_beside_overlays(file, high_bit):
    frames = ramp(12)
    shift = high_bit - 11
    noise = np.uint16(~(0xFFF << shift) & 0xFFFF)
    path = file((frames << shift) | noise, bits_stored=16)

    def set_bits(dataset):
        dataset.BitsStored, dataset.HighBit = 12, high_bit

    edit(path, set_bits)
    np.testing.assert_array_equal(read_all(path), frames)


def encapsulated(path, items, frames, syntax=LOSSLESS, table=b"", delimiter=True):
    """Replace the pixel data of a file by these fragments."""
    dataset = pydicom.dcmread(path)
    parts = [struct.pack("<HHL", 0xFFFE, 0xE000, len(item)) + item for item in [table, *items]]
    dataset.PixelData = b"".join(parts)
    dataset["PixelData"].VR, dataset["PixelData"].is_undefined_length = "OB", True
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.NumberOfFrames = frames
    dataset.save_as(path)
    if not delimiter:
        path.write_bytes(path.read_bytes()[:-8])
    return path


@pytest.fixture
def codes(file):
    """Three lossless frames as compressed, and the file that they came from."""
    frames = ramp(12, 3)
    path = file(frames, LOSSLESS, bits_stored=12)
    dataset = pydicom.dcmread(path)
    pieces = list(pydicom.encaps.generate_pixel_data_frame(dataset.PixelData, 3))
    return path, frames, [piece + b"\0" * (len(piece) % 2) for piece in pieces]


def offsets(lengths, start=0):
    return [start + sum(lengths[:number]) for number in range(len(lengths))]


@pytest.mark.parametrize("table", ["none", "right", "wrong", "random"])
@pytest.mark.parametrize("declared", [3, 2, None, 7])
def test_fragments_make_frames_whatever_table_and_number_say(codes, table, declared):
    path, frames, pieces = codes
    items = [part for piece in pieces for part in (piece[:100], piece[100:300], piece[300:])]
    sizes = [len(piece) + 3 * 8 for piece in pieces]
    values = {"none": [], "right": offsets(sizes), "wrong": [0, 8, 16], "random": [2**31, 3, 5, 7]}[table]
    encapsulated(path, items, declared, table=struct.pack(f"<{len(values)}L", *values))
    np.testing.assert_array_equal(read_all(path), frames)
    flags = read_run(path).flags
    expected = {3: None, None: "number_of_frames_missing"}.get(declared, "number_of_frames_wrong")
    assert set(flags) == {expected} - {None} | ({"offset_table_wrong"} if table in ("wrong", "random") else set())


def test_extended_offset_table_is_used(codes):
    path, frames, pieces = codes
    encapsulated(path, [part for piece in pieces for part in (piece[:100], piece[100:])], 3)
    sizes = [len(piece) + 16 for piece in pieces]

    def set_table(dataset):
        dataset.ExtendedOffsetTable = struct.pack("<3Q", *offsets(sizes))
        dataset.ExtendedOffsetTableLengths = struct.pack("<3Q", *map(len, pieces))

    edit(path, set_table)
    np.testing.assert_array_equal(read_all(path), frames)
    assert read_run(path).flags == ()


def test_in_cut_fragments_the_whole_frames_are_read(codes):
    path, frames, pieces = codes
    encapsulated(path, pieces, 3)
    whole = path.read_bytes()
    for cut, reason in ((8 + len(pieces[2]) // 2, "the file ends"), (8 + len(pieces[2]) + 8, "the pixel data ends")):
        path.write_bytes(whole[:-cut])
        damaged = {}
        found = list(read_sound_frames(path, damaged=damaged))
        np.testing.assert_array_equal(found[:2], frames[:2])
        assert (found[2], damaged) == (None, {2: f"{reason} before it{' does' if 'file' in reason else ''}"})
        assert read_run(path).damaged_frames == (2,)
        assert "frames_cut" in read_run(path).flags


def test_missing_delimiter_behind_the_last_frame_is_flagged(codes):
    path, frames, pieces = codes
    encapsulated(path, pieces, 3, delimiter=False)
    np.testing.assert_array_equal(read_all(path), frames)
    assert read_run(path).flags == ("sequence_delimiter_missing",)


def test_in_a_cut_uncompressed_file_the_whole_frames_are_read(file):
    path = file(ramp(frames=5))
    path.write_bytes(path.read_bytes()[:-2000])  # frames have 1700 bytes
    damaged = {}
    found = list(read_sound_frames(path, damaged=damaged))
    np.testing.assert_array_equal(found[:3], ramp(frames=5)[:3])
    assert (found[3:], damaged) == ([None, None], dict.fromkeys((3, 4), "the file ends before it does"))
    assert (read_run(path).frames, read_run(path).damaged_frames) == (5, (3, 4))
    with pytest.raises(DamagedDicomError, match="frame 3: the file ends before it does"):
        list(read_frames(path))
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(DamagedDicomError, match="cut: the file ends inside the first of 5 frames"):
        read_run(path)


@pytest.mark.parametrize("declared, flag", [(3, "wrong"), (9, "wrong"), (None, "missing")])
def test_uncompressed_frames_are_counted(file, declared, flag):
    path = file(ramp(frames=5))
    edit(path, lambda dataset: setattr(dataset, "NumberOfFrames", declared))
    assert (read_run(path).frames, read_run(path).flags) == (5, (f"number_of_frames_{flag}",))


def test_contradicting_rows_are_damage(file):
    path = file()
    edit(path, lambda dataset: setattr(dataset, "Rows", 33))
    with pytest.raises(DamagedDicomError, match="no whole number of frames"):
        read_run(path)


def test_compressed_frame_of_another_size_is_not_decoded(file):
    path = file(syntax=RLE)
    edit(path, lambda dataset: setattr(dataset, "Rows", 35))
    with pytest.raises(DamagedDicomError):
        read_all(path)
    path = file(syntax=BASELINE)
    edit(path, lambda dataset: setattr(dataset, "Rows", 35))
    with pytest.raises(
        DamagedDicomError, match="frame 0: its compressed data has 34 rows and 50 columns, the file says 35"
    ):
        read_all(path)


def test_frames_are_read_by_number_in_any_order(file):
    path = file(ramp(frames=5))
    read = list(read_frames(path, [4, 0, 4]))
    np.testing.assert_array_equal(read, ramp(frames=5)[[4, 0, 4]])
    with pytest.raises(ValueError, match="no frame 5: frames are numbered from 0 to 4"):
        next(read_frames(path, [5]))
    with pytest.raises(ValueError, match="no frame -1"):
        next(read_frames(path, [-1]))


def test_facts_of_the_run_are_read(file):
    path = file(
        ramp(frames=5),
        image_type=("ORIGINAL", "PRIMARY", "BIPLANE B"),
        manufacturer="SIEMENS Healthineers",
        frame_time_ms=33.3,
        primary_angle_deg=-30.5,
        secondary_angle_deg=20.0,
        r_wave_frames=(1, 4),
        representative_frame=2,
        pixel_intensity_relationship="DISP",
        burned_in_annotation=None,
        imager_pixel_spacing_mm=0.3,
        source_to_detector_mm=1000.0,
        source_to_patient_mm=750.0,
        shutter=CircularShutter(17, 25, 15),
    )
    run = read_run(path)
    assert (run.plane, run.vendor, run.frame_time_ms) == ("B", "Siemens", 33.3)
    assert (run.primary_angle_deg, run.secondary_angle_deg) == (-30.5, 20.0)
    assert (run.r_wave_frames, run.representative_frame) == ((1, 4), 2)
    assert (run.intensity_relationship, run.burned_in_annotation, run.subtracted) == ("DISP", None, False)
    assert run.spacing.value_mm == pytest.approx(0.225)  # 0.3 / (1000 / 750)
    assert (run.shutter.circle, run.flags) == ((17, 25, 15), ())


@pytest.mark.parametrize(
    "extra, expected_ms",
    [
        ({"FrameTimeVector": ["0", "40", "60"], "FrameTime": None}, 50.0),  # the first is no interval
        ({"FrameTime": None, "CineRate": 20}, 50.0),
        ({"FrameTime": None, "RecommendedDisplayFrameRate": 10}, 100.0),
        ({"FrameTime": "0"}, None),
    ],
)
def test_frame_time_is_found_where_it_stands(file, extra, expected_ms):
    run = read_run(file(extra=extra))
    assert run.frame_time_ms == (pytest.approx(expected_ms) if expected_ms else None)
    from_rate = "CineRate" in extra or "RecommendedDisplayFrameRate" in extra
    assert ("frame_time_from_display_rate" in run.flags) == from_rate


def test_subtraction_is_flagged(file):
    assert not read_run(file()).subtracted
    mask = Dataset()
    mask.MaskOperation = "AVG_SUB"
    for extra, flag in (
        ({"RecommendedViewingMode": "SUB"}, "subtracted_view_recommended"),
        ({"MaskSubtractionSequence": [mask]}, "mask_subtraction_declared"),
        ({"ImageType": ["DERIVED", "PRIMARY", "SINGLE PLANE", "SUBTRACTED"]}, "image_type_subtracted"),
    ):
        run = read_run(file(extra=extra))
        assert (run.subtracted, run.flags) == (True, (flag,))


def enhanced(path, frames, per_frame, shared):
    """An Enhanced XA object with these functional groups (no more of the IOD than the reader looks at)."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = EXPLICIT
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.12.1.1"
    dataset.SOPInstanceUID = "2.25.1"
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME1"
    dataset.NumberOfFrames, dataset.Rows, dataset.Columns = frames.shape
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
    dataset.PerFrameFunctionalGroupsSequence = [groups(item) for item in per_frame]
    dataset.SharedFunctionalGroupsSequence = [groups(shared)]
    dataset.PixelData = frames.tobytes()
    dataset["PixelData"].VR = "OW"
    dataset.save_as(path, enforce_file_format=True)


def groups(macros):
    item = Dataset()
    for name, values in macros.items():
        macro = Dataset()
        for keyword, value in values.items():
            setattr(macro, keyword, value)
        setattr(item, name, [macro])
    return item


def test_enhanced_xa_gives_values_frame_by_frame(tmp_path):
    per_frame = [
        {
            "ProjectionPixelCalibrationSequence": {"ObjectPixelSpacingInCenterOfBeam": [mm, mm]},
            "PositionerPositionSequence": {"PositionerPrimaryAngle": 30.0, "PositionerSecondaryAngle": -20.0},
            "FrameVOILUTSequence": {"WindowCenter": center, "WindowWidth": 4096},
        }
        for mm, center in ((0.2, 2048), (0.25, 3048))
    ]
    shared = {"FramePixelDataPropertiesSequence": {"PixelIntensityRelationship": "LOG"}}
    path = tmp_path / "enhanced"
    enhanced(path, ramp(12), per_frame, shared)
    run = read_run(path)
    assert (run.primary_angle_deg, run.secondary_angle_deg, run.intensity_relationship) == (30.0, -20.0, "LOG")
    assert [spacing.value_mm for spacing in run.frame_spacing] == pytest.approx([0.2, 0.25])
    assert (run.spacing.value_mm, run.spacing.source) == (None, "object_pixel_spacing")
    assert run.spacing.notes == ("varies_between_frames",)
    # A window as wide as the stored values leaves them as they are; 1000 higher it lowers them by 1000; MONOCHROME1
    # turns 0 to 4095 round
    expected = 4095 - (ramp(12) - np.array([0, 1000])[:, None, None])
    np.testing.assert_allclose(read_all(path), expected, atol=0.01)


def test_other_sop_classes_are_refused_by_name_and_read_on_demand(file):
    path = file(extra={"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"})
    with pytest.raises(NotAngiographyError, match="Secondary Capture Image Storage"):
        read_run(path)
    with pytest.raises(NotAngiographyError):
        next(read_frames(path))
    np.testing.assert_array_equal(read_all(path, require_xa=False), ramp())


def test_retired_biplane_class_is_refused(file):
    with pytest.raises(NotAngiographyError, match=r"Bi-[Pp]lane"):
        read_run(file(extra={"SOPClassUID": "1.2.840.10008.5.1.4.1.1.12.3"}))


def test_what_is_no_dicom_is_named_so(tmp_path):
    (tmp_path / "a.png").write_bytes(b"\x89PNG" + bytes(300))
    with pytest.raises(UnsupportedDicomError, match="no DICOM file"):
        read_run(tmp_path / "a.png")
    (tmp_path / "empty").touch()
    with pytest.raises(UnsupportedDicomError, match="no DICOM file"):
        read_run(tmp_path / "empty")


def test_dicomdir_is_refused(file):
    path = file(extra={"SOPClassUID": "1.2.840.10008.1.3.10", "PixelData": None})
    with pytest.raises(UnsupportedDicomError, match="DICOMDIR"):
        read_run(path, require_xa=False)


@pytest.mark.parametrize(
    "change, error, words",
    [
        ({"PixelData": None}, DamagedDicomError, "no pixel data"),
        ({"Rows": None}, DamagedDicomError, "no Rows"),
        ({"Rows": 65535, "Columns": 65535}, DamagedDicomError, "65535 rows"),
        ({"BitsStored": 4, "HighBit": 3}, UnsupportedDicomError, "4 stored"),
        ({"HighBit": 30}, DamagedDicomError, "highest bit 30"),
        ({"SamplesPerPixel": 3}, UnsupportedDicomError, "no grey picture"),
        ({"PhotometricInterpretation": "RGB"}, UnsupportedDicomError, "no grey picture"),
    ],
)
def test_what_cannot_be_read_is_said(file, change, error, words):
    with pytest.raises(error, match=words):
        read_run(file(extra=change))


def test_video_is_named(file):
    path = file()
    edit(path, lambda dataset: setattr(dataset, "PixelData", encapsulate([dataset.PixelData])))
    data = path.read_bytes().replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.4.100\0")
    path.write_bytes(data)
    with pytest.raises(XAReadError):
        read_run(path)


def test_no_value_of_the_file_and_no_path_reaches_errors_logs_and_warnings(file, caplog, recwarn):
    canary = "DOE^JOHN"
    path = file(patient_name=canary, patient_id=canary)
    damages = (
        {"ImageType": [canary], "Manufacturer": canary, "PixelIntensityRelationship": canary, "ShutterShape": canary},
        {"PhotometricInterpretation": canary},
        {"SOPClassUID": canary},
        {"Rows": None},
    )
    folder = path.with_name(canary)
    folder.mkdir()
    for number, extra in enumerate(damages):
        write_xa(folder / str(number), ramp(), XAFacts(patient_name=canary, extra=extra))
    (folder / "4").write_bytes(path.read_bytes().replace(b"66.7", canary[:4].encode()))
    (folder / "5").write_bytes(path.read_bytes()[:700])
    caplog.clear()
    recwarn.clear()
    said = [repr(read_run(folder / "0")), repr(read_run(folder / "4"))]
    for name in ("1", "2", "3", "5", "lost"):
        with pytest.raises(XAReadError) as caught:
            read_run(folder / name)
        assert caught.value.path == str(folder / name)
        said.append("".join(traceback.format_exception(caught.value)).replace(str(Path(__file__).parents[2]), ""))
    assert not [text for text in said if "DOE" in text or "JOHN" in text]
    assert "DOE" not in caplog.text
    assert not list(recwarn)


def test_errors_pass_between_processes():
    error = pickle.loads(pickle.dumps(DamagedDicomError("cut", path="a")))
    assert (type(error), str(error), error.path) == (DamagedDicomError, "cut", "a")


def test_damaged_optional_tag_is_flagged_and_left_out(file):
    path = file(frame_time_ms=12.5)
    path.write_bytes(path.read_bytes().replace(b"12.5", b"1x.5"))
    run = read_run(path)
    assert (run.frame_time_ms, run.flags) == (None, ("unreadable_FrameTime",))


def test_header_is_read_without_the_pixels(file, monkeypatch):
    path = file(ramp(frames=40))
    read = []
    real_open = open

    class Counting:
        def __init__(self, stream):
            self.stream = stream

        def read(self, size=-1):
            data = self.stream.read(size)
            read.append(len(data))
            return data

        def __getattr__(self, name):
            return getattr(self.stream, name)

        def __enter__(self):
            return self

        def __exit__(self, *error):
            self.stream.close()

    monkeypatch.setattr("builtins.open", lambda *args, **kwargs: Counting(real_open(*args, **kwargs)))
    run = read_run(path)
    monkeypatch.undo()
    assert run.frames == 40
    assert sum(read) < path.stat().st_size - 39 * 1700


def mutate(data, rng):
    data = bytearray(data)
    kind = rng.randrange(4)
    if kind == 0:
        for _ in range(rng.randrange(1, 20)):
            data[rng.randrange(len(data))] = rng.randrange(256)
    elif kind == 1:
        del data[rng.randrange(len(data)) :]
    elif kind == 2:
        start = rng.randrange(len(data))
        del data[start : start + rng.randrange(1, 64)]
    else:
        start = rng.randrange(132, min(len(data), 1500))
        data[start : start + 4] = rng.randbytes(4)
    return bytes(data)


@pytest.mark.parametrize("syntax", [*EXACT, "baseline", "extended_12"])
def test_mutated_files_give_frames_or_a_typed_error(file, syntax):
    if syntax == "extended_12":
        path = file()
        whole = (FIXTURES / "extended_12.dcm").read_bytes()
    else:
        path = file(ramp(), EXACT.get(syntax, BASELINE))
        whole = path.read_bytes()
    rng = random.Random(int.from_bytes(hashlib.sha256(syntax.encode()).digest()[:4], "big"))
    for _ in range(50):
        path.write_bytes(mutate(whole, rng))
        try:
            run = read_run(path, require_xa=False)
            for frame in read_frames(path, require_xa=False):
                assert frame.shape == (run.rows, run.columns)
        except XAReadError:
            continue


@pytest.mark.skipif("CMUNET_REAL_DATA" not in os.environ or not REAL.is_dir(), reason="no real angiograms")
class TestRealFiles:
    @pytest.mark.parametrize(
        "name, frames, angles",
        [
            ("philips_cathsample_I_000000.dcm", 75, (40.1, 27.0)),
            ("rubo_demo_HasFragmentSequence.dcm", 96, (-32.0, 2.0)),
        ],
    )
    def test_cines_give_all_their_frames(self, name, frames, angles):
        run = read_run(REAL / name)
        assert (run.frames, run.rows, run.columns) == (frames, 512, 512)
        assert (run.primary_angle_deg, run.secondary_angle_deg) == angles
        assert (run.spacing.value_mm, run.spacing.source) == (None, "unknown")
        decoded = pydicom.dcmread(REAL / name).pixel_array[[0, frames - 1]].astype(np.float32)
        read = np.stack(list(read_frames(REAL / name, [0, frames - 1])))
        if name.startswith("philips"):  # its linear window has the center 127 and the width 255
            decoded = ((decoded - 126.5) / 254 + 0.5) * 255
        np.testing.assert_allclose(read, decoded, atol=0.01)

    def test_cathlab_facts_are_found(self):
        philips = read_run(REAL / "philips_cathsample_I_000000.dcm")
        assert (philips.vendor, philips.intensity_relationship) == ("Philips", "LOG")
        assert philips.flags == ("modality_lut_not_applied",)
        assert philips.representative_frame == 36
        assert philips.r_wave_frames is None  # its ECG curve is flat
        assert read_run(REAL / "rubo_demo_HasFragmentSequence.dcm").r_wave_frames == (19, 52, 76)

    def test_secondary_capture_is_refused_with_the_reason_and_read_on_demand(self):
        path = REAL / "wg04_XA1_UNC.dcm"
        with pytest.raises(NotAngiographyError, match="Secondary Capture"):
            read_run(path)
        (frame,) = read_frames(path, require_xa=False)
        np.testing.assert_array_equal(frame, pydicom.dcmread(path).pixel_array)


def test_grey_levels_are_stored_values_without_the_window(file):
    frames = ramp(12)
    windowed = {"WindowCenter": "100", "WindowWidth": "50", "RescaleSlope": "3", "RescaleIntercept": "-1000"}
    path = file(frames, bits_stored=12, extra=windowed)
    assert read_all(path).min() < 0
    assert np.array_equal(read_all(path, windowed=False), frames)


def test_grey_levels_of_monochrome1_are_turned_about_the_depth(file):
    path = file(
        ramp(12),
        bits_stored=12,
        photometric_interpretation="MONOCHROME1",
        extra={"WindowCenter": "100", "WindowWidth": "50"},
    )
    assert np.array_equal(read_all(path, windowed=False), 4095.0 - ramp(12))


def test_grey_levels_of_signed_values_start_at_zero(file):
    frames = ramp(12).astype(np.int16) - 2048
    assert np.array_equal(read_all(file(frames, bits_stored=12), windowed=False), ramp(12))


def test_grey_levels_keep_a_sigmoid_window(file):
    extra = {"WindowCenter": "128", "WindowWidth": "100", "VOILUTFunction": "SIGMOID"}
    values = read_all(file(np.full((1, 4, 4), 128, np.uint8), extra=extra), windowed=False)
    assert values == pytest.approx(255 / 2)


@pytest.mark.parametrize("behind", [2, 3, 40, 256, 5000])
@pytest.mark.parametrize("syntax", ["explicit", "implicit", "big_endian"])
def test_bytes_behind_the_last_uncompressed_frame_are_left_out(file, syntax, behind):
    path = file(ramp(frames=3, rows=31), EXACT[syntax])
    pad = bytes(range(1, 251)) * 20
    edit(path, lambda dataset: setattr(dataset, "PixelData", ramp(frames=3, rows=31).tobytes() + pad[:behind]))
    np.testing.assert_array_equal(read_all(path), ramp(frames=3, rows=31))
    assert read_run(path).flags == ("bytes_behind_the_frames",)


@pytest.mark.parametrize("change", [{"Rows": 33}, {"Columns": 49}, {"Rows": 30, "Columns": 50}, {"NumberOfFrames": 3}])
def test_a_size_that_the_data_contradicts_is_no_padding(file, change):
    path = file(ramp(frames=2))
    edit(path, lambda dataset: [setattr(dataset, keyword, value) for keyword, value in change.items()])
    if "NumberOfFrames" in change:
        assert read_run(path).frames == 2
    else:
        with pytest.raises(DamagedDicomError, match="Rows, Columns or NumberOfFrames is wrong"):
            read_run(path)


XRF = "1.2.840.10008.5.1.4.1.1.12.2"


@pytest.mark.parametrize(
    "extra, fluoroscopy",
    [
        ({"SOPClassUID": XRF, "Modality": "RF"}, True),
        ({"RadiationSetting": "SC"}, True),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "SINGLE PLANE", "FLUORO"]}, True),
        ({"RadiationSetting": "GR"}, False),
        ({}, False),
    ],
)
def test_fluoroscopy_is_taken_and_named(file, extra, fluoroscopy):
    path = file(extra=extra)
    assert read_run(path).fluoroscopy == fluoroscopy
    np.testing.assert_array_equal(read_all(path), ramp())


@pytest.mark.parametrize("sop_class", ["1.2.840.10008.5.1.4.1.1.12.1", "1.2.840.10008.5.1.4.1.1.12.1.1", XRF])
def test_the_rescale_of_angiography_is_left_out_and_that_of_other_classes_applied(file, sop_class):
    extra = {"RescaleSlope": "2", "RescaleIntercept": "-100", "SOPClassUID": sop_class}
    path = file(extra=extra)
    np.testing.assert_array_equal(read_all(path), ramp())
    assert read_run(path).flags == ("modality_lut_not_applied",)
    other = file(extra=extra | {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"})
    np.testing.assert_array_equal(read_all(other, require_xa=False), 2.0 * ramp() - 100)


@pytest.mark.parametrize("syntax", ["explicit", "deflated", "implicit"])
def test_more_frames_than_a_run_has_are_refused(file, syntax):
    path = file(np.zeros((10_001, 4, 4), np.uint8), EXACT[syntax])
    with pytest.raises(UnsupportedDicomError, match="holds 10001 frames, expected 10000 at most"):
        read_run(path)
