"""DICOM Segmentation: the masks come back, the references fit the source, and nothing identifies as a pseudonym."""

import logging
import re
import shutil
import subprocess
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import cv2
import numpy as np
import pydicom
import pytest
import torch
from pydicom.datadict import DicomDictionary, keyword_for_tag
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.sr.coding import Code
from skimage.color import lab2rgb

from cmunet_monai.pseudonyms import Pseudonyms
from cmunet_monai.writers import draw_outline
from cmunet_monai.writers.dicom_seg import write_dicom_seg
from cmunet_monai.writers.overlay import OUTLINE
from cmunet_monai.xa.errors import DamagedDicomError, NotAngiographyError, UnsupportedDicomError, XAReadError
from cmunet_monai.xa.identity import read_identity
from cmunet_monai.xa.run import ENHANCED_XA_IMAGE, XA_IMAGE
from data_prep.__main__ import main
from data_prep.synthetic.xa_file import TRANSFER_SYNTAX_NAMES, XAFacts, write_xa

NAMES = Pseudonyms(bytes(range(32)), Path("key"))
FACTS = XAFacts(
    patient_name="Doe^Jane",
    patient_id="4711",
    patient_birth_date="19500102",
    patient_sex="F",
    study_date="20210304",
    study_time="091011",
    study_description="Coronary angiography",
    series_number=3,
    instance_number=5,
    study_uid="1.2.3.10",
    series_uid="1.2.3.20",
    instance_uid="1.2.3.30",
)
ROWS, COLUMNS, FRAMES = 33, 41, 6


def cine(path, facts=FACTS, frames=FRAMES, rows=ROWS, columns=COLUMNS, syntax="explicit"):
    """A source of noise; without frames an object without Number of Frames."""
    shape = (frames, rows, columns) if frames else (rows, columns)
    pixels = np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)
    write_xa(path, pixels, facts, transfer_syntax=TRANSFER_SYNTAX_NAMES[syntax])
    return path


def masks_of(count, rows=ROWS, columns=COLUMNS, seed=1):
    return np.random.default_rng(seed).random((count, rows, columns)) < 0.3


def write(source, path, masks, numbers, **options):
    """Without `identity`: as a pseudonym."""
    if options.get("identity", "pseudonym") == "pseudonym":
        options.setdefault("pseudonyms", NAMES)
    write_dicom_seg(
        masks, numbers, source, path, **{"algorithm_name": "CM-UNet", "algorithm_version": "1.2.3"} | options
    )
    return pydicom.dcmread(path)


@pytest.fixture
def source(tmp_path):
    return cine(tmp_path / "in" / "xa.dcm")


def deidentified(source, tmp_path):
    """The copy of the one object in the folder of `source`, by the key `tmp_path / "key"`."""
    output = tmp_path / "out"
    folders = ["--source", str(source.parent), "--output", str(output)]
    assert main(["deidentify", *folders, "--key", str(tmp_path / "key"), "--workers", "1"]) == 0
    (copy,) = output.glob("P*/*.dcm")
    return copy


def source_images(dataset):
    return [item.DerivationImageSequence[0].SourceImageSequence[0] for item in dataset.PerFrameFunctionalGroupsSequence]


# What a reader gets


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 3, 3), (3, 5, 7), (2, 16, 16), (6, 33, 41)])
def test_masks_come_back_whatever_their_number_of_bits(tmp_path, shape):
    source = cine(tmp_path / "xa.dcm", frames=shape[0], rows=shape[1], columns=shape[2])
    masks = masks_of(*shape)
    dataset = write(source, tmp_path / "seg.dcm", masks, range(shape[0]))
    np.testing.assert_array_equal(dataset.pixel_array.reshape(shape), masks)
    assert len(dataset.PixelData) == -(-np.prod(shape) // 16) * 2  # whole bytes, an even number of them


def test_the_first_pixel_is_the_lowest_bit_and_bits_run_on_from_frame_to_frame(tmp_path):
    source = cine(tmp_path / "xa.dcm", frames=2, rows=1, columns=5)
    masks = [[[1, 0, 0, 0, 1]], [[1, 0, 0, 0, 0]]]
    dataset = write(source, tmp_path / "seg.dcm", np.array(masks), [0, 1])
    assert dataset.PixelData == bytes([0b0011_0001, 0])


@pytest.mark.parametrize("identity", ["pseudonym", "source"])
def test_highdicom_finds_the_mask_of_each_frame_of_the_source(tmp_path, source, identity):
    seg = pytest.importorskip("highdicom.seg")
    masks, numbers = masks_of(3), [4, 0, 2]
    write(source, tmp_path / "seg.dcm", masks, numbers, identity=identity)
    read = seg.segread(tmp_path / "seg.dcm")
    ((study, series, instance),) = read.get_source_image_uids()
    uid = NAMES.uid if identity == "pseudonym" else str
    assert (study, series, instance) == (uid("1.2.3.10"), uid("1.2.3.20"), uid("1.2.3.30"))
    found = read.get_pixels_by_source_frame(instance, [number + 1 for number in numbers])
    np.testing.assert_array_equal(found[..., 0], masks)


def test_highdicom_finds_the_mask_of_an_image_without_frames(tmp_path):
    seg = pytest.importorskip("highdicom.seg")
    mask = masks_of(1)
    write(cine(tmp_path / "xa.dcm", frames=0), tmp_path / "seg.dcm", mask, [0], identity="source")
    found = seg.segread(tmp_path / "seg.dcm").get_pixels_by_source_instance(["1.2.3.30"])
    np.testing.assert_array_equal(found[..., 0], mask)


def test_highdicom_reads_what_the_segment_is(tmp_path, source):
    seg = pytest.importorskip("highdicom.seg")
    write(source, tmp_path / "seg.dcm", masks_of(1), [0], label="coronary tree")
    segment = seg.segread(tmp_path / "seg.dcm").get_segment_description(1)
    assert segment.segment_label == "coronary tree"
    assert segment.algorithm_type.value == "AUTOMATIC"
    assert segment.segmented_property_category == Code("91723000", "SCT", "Anatomical Structure")
    assert segment.segmented_property_type == Code("41801008", "SCT", "Coronary artery")
    algorithm = segment.algorithm_identification
    assert (algorithm.name, algorithm.version) == ("CM-UNet", "1.2.3")


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dicom3tools is not installed")
@pytest.mark.parametrize("identity", ["pseudonym", "source"])
@pytest.mark.parametrize("frames, syntax", [(0, "explicit"), (1, "implicit"), (FRAMES, "rle"), (2, "jpeg-baseline")])
def test_dciodvfy_finds_no_error(tmp_path, frames, syntax, identity):
    count = max(frames, 1)
    source = cine(tmp_path / "xa.dcm", frames=frames, syntax=syntax)
    write(source, tmp_path / "seg.dcm", masks_of(count), range(count), identity=identity)
    for options in ([], ["-new"]):
        command = ["dciodvfy", *options, str(tmp_path / "seg.dcm")]
        found = subprocess.run(command, capture_output=True, text=True, check=False)
        assert "Error" not in found.stdout + found.stderr
        assert "Segmentation" in found.stdout + found.stderr


def test_overlay_and_segmentation_agree_pixel_by_pixel(tmp_path):
    """The outline of the overlay is filled from outside: what stays is the segmentation's vessel."""
    size = 64
    mask = np.zeros((1, size, size), np.uint8)
    mask[0, 10:40, 20:28] = mask[0, 33:40, 20:60] = 1
    mask[0, 50, 5] = 1
    source = cine(tmp_path / "xa.dcm", frames=1, rows=size, columns=size)
    segmentation = write(source, tmp_path / "seg.dcm", mask, [0]).pixel_array.reshape(size, size)
    picture = draw_outline(np.zeros((1, size, size), np.float32), mask.transpose(0, 2, 1))
    outside = np.pad((picture.astype(int).sum(axis=2) > 0).astype(np.uint8), 1)
    cv2.floodFill(outside, None, (0, 0), 2)
    scale = picture.shape[1] // size
    inside = outside[1:-1, 1:-1][scale // 2 :: scale, scale // 2 :: scale] != 2
    np.testing.assert_array_equal(inside[:size], segmentation)  # a strip with a line of text is below


def test_display_colour_is_that_of_the_overlay(tmp_path, source):
    lightness, a, b = (
        write(source, tmp_path / "seg.dcm", masks_of(1), [0]).SegmentSequence[0].RecommendedDisplayCIELabValue
    )
    lab = (lightness / 65535 * 100, a / 65535 * 255 - 128, b / 65535 * 255 - 128)
    np.testing.assert_allclose(lab2rgb(lab) * 255, OUTLINE, atol=0.6)


# How it refers to its source


def test_each_frame_refers_to_its_frame_of_the_source_counted_from_1(tmp_path, source):
    dataset = write(source, tmp_path / "seg.dcm", masks_of(3), [1, 2, 5], identity="source")
    images = source_images(dataset)
    assert [image.ReferencedFrameNumber for image in images] == [2, 3, 6]
    for image in images:
        assert (image.ReferencedSOPClassUID, image.ReferencedSOPInstanceUID) == (XA_IMAGE, "1.2.3.30")
        assert image.SpatialLocationsPreserved == "YES"
        assert image.PurposeOfReferenceCodeSequence[0].CodeValue == "121322"
    for groups in dataset.PerFrameFunctionalGroupsSequence:
        assert groups.DerivationImageSequence[0].DerivationCodeSequence[0].CodeValue == "113076"
        assert groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber == 1
    (series,) = dataset.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == "1.2.3.20"
    (instance,) = series.ReferencedInstanceSequence
    assert (instance.ReferencedSOPClassUID, instance.ReferencedSOPInstanceUID) == (XA_IMAGE, "1.2.3.30")


@pytest.mark.parametrize("frames", [0, 1])
def test_a_source_of_one_frame_is_referred_to_as_a_whole(tmp_path, frames):
    dataset = write(cine(tmp_path / "xa.dcm", frames=frames), tmp_path / "seg.dcm", masks_of(1), [0])
    assert "ReferencedFrameNumber" not in source_images(dataset)[0]


def test_frames_are_in_the_order_of_the_cine(tmp_path, source):
    masks = masks_of(3)
    dataset = write(source, tmp_path / "seg.dcm", masks, [5, 0, 3])
    np.testing.assert_array_equal(dataset.pixel_array, masks[[1, 2, 0]])
    assert [image.ReferencedFrameNumber for image in source_images(dataset)] == [1, 4, 6]
    contents = [groups.FrameContentSequence[0] for groups in dataset.PerFrameFunctionalGroupsSequence]
    assert [list(content.DimensionIndexValues) for content in contents] == [[1, 1], [1, 2], [1, 3]]
    assert [content.TemporalPositionIndex for content in contents] == [1, 2, 3]
    pointers = [keyword_for_tag(item.DimensionIndexPointer) for item in dataset.DimensionIndexSequence]
    assert pointers == ["ReferencedSegmentNumber", "TemporalPositionIndex"]


def test_a_frame_without_vessel_is_kept(tmp_path, source):
    masks = masks_of(2)
    masks[1] = 0
    dataset = write(source, tmp_path / "seg.dcm", masks, [0, 1])
    assert dataset.NumberOfFrames == 2
    assert [image.ReferencedFrameNumber for image in source_images(dataset)] == [1, 2]
    assert not dataset.pixel_array[1].any()


def test_size_is_the_sources_and_pixels_are_one_bit(tmp_path, source):
    dataset = write(source, tmp_path / "seg.dcm", masks_of(1), [0])
    assert (dataset.Rows, dataset.Columns) == (ROWS, COLUMNS)
    assert (dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit) == (1, 1, 0)
    assert (dataset.SegmentationType, dataset.SegmentsOverlap) == ("BINARY", "NO")
    assert dataset.SOPClassUID == dataset.file_meta.MediaStorageSOPClassUID == "1.2.840.10008.5.1.4.1.1.66.4"


@pytest.mark.parametrize("identity", ["pseudonym", "source"])
def test_nothing_says_where_in_space_the_pixels_are(tmp_path, identity):
    facts = replace(FACTS, pixel_spacing_mm=0.2, extra={"FrameOfReferenceUID": "1.2.3.40"})
    dataset = write(cine(tmp_path / "xa.dcm", facts), tmp_path / "seg.dcm", masks_of(1), [0], identity=identity)
    keywords = {element.keyword for element in dataset.iterall()}
    geometry = {"FrameOfReferenceUID", "PixelMeasuresSequence", "PixelSpacing"}
    assert not keywords & (geometry | {"PlanePositionSequence", "PlaneOrientationSequence"})


@pytest.mark.parametrize("syntax", sorted(TRANSFER_SYNTAX_NAMES))
def test_a_source_of_any_transfer_syntax_is_read(tmp_path, syntax):
    pytest.importorskip("imagecodecs")
    source = cine(tmp_path / "xa.dcm", syntax=syntax)
    dataset = write(source, tmp_path / "seg.dcm", masks_of(2), [0, 3], identity="source")
    assert source_images(dataset)[1].ReferencedSOPInstanceUID == "1.2.3.30"
    assert dataset.PatientName == "Doe^Jane"
    assert dataset.file_meta.TransferSyntaxUID == TRANSFER_SYNTAX_NAMES["explicit"]
    lossy = syntax in ("jpeg-baseline", "jpeg-ls-near-lossless", "jpeg-2000-lossy")
    assert dataset.LossyImageCompression == ("01" if lossy else "00")


def test_loss_of_the_source_is_told_with_its_method_and_ratio(tmp_path):
    facts = replace(
        FACTS,
        extra={
            "LossyImageCompression": "01",
            "LossyImageCompressionMethod": "ISO_10918_1",
            "LossyImageCompressionRatio": 12.5,
        },
    )
    dataset = write(cine(tmp_path / "xa.dcm", facts), tmp_path / "seg.dcm", masks_of(1), [0])
    assert (dataset.LossyImageCompression, dataset.LossyImageCompressionMethod) == ("01", "ISO_10918_1")
    assert dataset.LossyImageCompressionRatio == 12.5


def test_jpeg_baseline_is_lossy_even_where_the_source_does_not_say_so(tmp_path):
    pytest.importorskip("imagecodecs")
    facts = replace(FACTS, extra=dict.fromkeys(("LossyImageCompression", "LossyImageCompressionMethod")))
    source = cine(tmp_path / "xa.dcm", facts, syntax="jpeg-baseline")
    assert "LossyImageCompression" not in pydicom.dcmread(source)
    dataset = write(source, tmp_path / "seg.dcm", masks_of(1), [0])
    assert (dataset.LossyImageCompression, dataset.LossyImageCompressionMethod) == ("01", "ISO_10918_1")


def test_enhanced_xa_is_a_source(tmp_path, source):
    dataset = pydicom.dcmread(source)
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = ENHANCED_XA_IMAGE
    dataset.save_as(source)
    written = write(source, tmp_path / "seg.dcm", masks_of(1), [1])
    assert source_images(written)[0].ReferencedSOPClassUID == ENHANCED_XA_IMAGE


# Same input, same bytes


@pytest.mark.parametrize("identity", ["pseudonym", "source"])
def test_same_input_gives_the_same_bytes_in_whatever_order_and_type(tmp_path, source, identity):
    masks = masks_of(2)
    write(source, tmp_path / "a.dcm", masks, [3, 1], identity=identity)
    write(source, tmp_path / "b" / "c.dcm", torch.from_numpy(masks[::-1].copy()).float(), [1, 3], identity=identity)
    assert (tmp_path / "a.dcm").read_bytes() == (tmp_path / "b" / "c.dcm").read_bytes()


def test_whatever_differs_makes_another_object_in_another_series(tmp_path, source):
    masks = masks_of(2)
    other = masks.copy()
    other[0, 0, 0] ^= True
    made = [
        write(source, tmp_path / "seg.dcm", masks, [0, 1]),
        write(source, tmp_path / "seg.dcm", other, [0, 1]),
        write(source, tmp_path / "seg.dcm", masks, [0, 2]),
        write(source, tmp_path / "seg.dcm", masks, [0, 1], algorithm_version="1.2.4"),
        write(source, tmp_path / "seg.dcm", masks, [0, 1], label="artery"),
        write(source, tmp_path / "seg.dcm", masks, [0, 1], identity="source"),
    ]
    for keyword in ("SOPInstanceUID", "SeriesInstanceUID"):
        uids = {dataset[keyword].value for dataset in made}
        assert len(uids) == len(made)
        assert all(re.fullmatch(r"2\.25\.[1-9]\d{0,38}", uid) for uid in uids)


def test_arguments_are_not_modified(tmp_path, source):
    masks, numbers = masks_of(2), [3, 1]
    before, content = masks.copy(), source.read_bytes()
    write(source, tmp_path / "seg.dcm", masks, numbers)
    np.testing.assert_array_equal(masks, before)
    assert numbers == [3, 1]
    assert source.read_bytes() == content


# Whose it is


def test_with_source_it_is_of_the_sources_patient_and_study(tmp_path, source):
    original = pydicom.dcmread(source)
    original.AccessionNumber, original.ReferringPhysicianName = "A1", "Roe^R"
    original.IssuerOfPatientID = "CLINIC"
    original.save_as(source)
    dataset = write(source, tmp_path / "seg.dcm", masks_of(1), [0], identity="source")
    same = ("PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID")
    same += ("StudyDate", "StudyTime", "StudyID", "AccessionNumber", "StudyDescription", "ReferringPhysicianName")
    same += ("ContentDate", "ContentTime")
    assert {keyword: dataset[keyword].value for keyword in same} == {
        keyword: original[keyword].value for keyword in same
    }
    assert (dataset.SeriesNumber, dataset.InstanceNumber) == (1003, 5)
    assert dataset.SeriesInstanceUID != original.SeriesInstanceUID
    assert "PatientIdentityRemoved" not in dataset


@pytest.mark.parametrize(
    "character_set, name",
    [
        (None, "M\u00fcller^J\u00fcrgen"),  # Latin-1 without a word on it, as some systems write it
        ("ISO_IR 100", "M\u00fcller^J\u00fcrgen"),
        ("ISO_IR 192", "\u0141uk\u00e1cs^Ren\u00e9e"),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=\u5c71\u7530^\u592a\u90ce"),
    ],
)
def test_with_source_the_name_has_the_sources_bytes(tmp_path, source, character_set, name):
    original = pydicom.dcmread(source)
    if character_set is None:
        del original.SpecificCharacterSet
    else:
        original.SpecificCharacterSet = character_set
    original.PatientName = name
    original.save_as(source)
    dataset = write(source, tmp_path / "seg.dcm", masks_of(1), [0], identity="source")
    assert dataset.get("SpecificCharacterSet") == original.get("SpecificCharacterSet")
    assert dataset.get_item("PatientName").value == pydicom.dcmread(source).get_item("PatientName").value


def test_with_source_a_deidentified_copy_stays_declared_as_one(tmp_path, source):
    copy = deidentified(source, tmp_path)
    dataset, original = write(copy, tmp_path / "seg.dcm", masks_of(1), [0], identity="source"), pydicom.dcmread(copy)
    for keyword in ("PatientID", "StudyInstanceUID", "PatientIdentityRemoved", "DeidentificationMethod"):
        assert dataset[keyword].value == original[keyword].value
    methods = [item.CodeValue for item in dataset.DeidentificationMethodCodeSequence]
    assert methods == [item.CodeValue for item in original.DeidentificationMethodCodeSequence]


@pytest.mark.parametrize("patient_id", ["4711", ""])
def test_as_pseudonym_it_fits_the_copy_that_deidentify_makes(tmp_path, patient_id):
    source = cine(tmp_path / "in" / "xa.dcm", replace(FACTS, patient_id=patient_id, extra={"IssuerOfPatientID": "X"}))
    path = deidentified(source, tmp_path)
    copy = pydicom.dcmread(path)
    names = Pseudonyms.open(tmp_path / "key", output=tmp_path / "out")
    dataset = write(source, tmp_path / "seg.dcm", masks_of(1), [2], pseudonyms=names)
    same = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyDate", "StudyTime")
    same += ("StudyID", "AccessionNumber", "ReferringPhysicianName", "ContentDate", "PatientIdentityRemoved")
    same += ("LongitudinalTemporalInformationModified",)
    assert {keyword: dataset[keyword].value for keyword in same} == {keyword: copy[keyword].value for keyword in same}
    assert dataset.ReferencedSeriesSequence[0].SeriesInstanceUID == copy.SeriesInstanceUID
    (image,) = source_images(dataset)
    assert (image.ReferencedSOPInstanceUID, image.ReferencedFrameNumber) == (copy.SOPInstanceUID, 3)
    with source.open("rb") as stream:
        assert path.stem == names.run(read_identity(stream).sop_instance_uid)


def test_as_pseudonym_dates_are_shifted_and_times_are_gone(tmp_path, source):
    dataset = write(source, tmp_path / "seg.dcm", masks_of(1), [0])
    shifted = date(2021, 3, 4) + timedelta(days=NAMES.date_shift_days("4711"))
    assert dataset.StudyDate == dataset.ContentDate == shifted.strftime("%Y%m%d")
    assert (dataset.StudyTime, dataset.ContentTime) == ("", "000000")


@pytest.mark.parametrize("identity", ["pseudonym", "source"])
def test_a_source_without_any_date_gets_a_fixed_content_date(tmp_path, source, identity):
    dataset = pydicom.dcmread(source)
    for name in ("Study", "Series", "Acquisition", "Content"):
        dataset[f"{name}Date"].value = dataset[f"{name}Time"].value = ""
    dataset.save_as(source)
    written = write(source, tmp_path / "seg.dcm", masks_of(1), [0], identity=identity)
    assert (written.ContentDate, written.ContentTime, written.StudyDate) == ("19000101", "000000", "")


TEXT = {"AE", "AS", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"}
DATE, TIME, NUMBER = "19710523", "134657", "71828182"


def with_canaries(path):
    """CANARY with a number in every attribute of text, a date or a number in every other one that holds such."""
    dataset = pydicom.dcmread(path)
    kept = {"SOPClassUID", "SpecificCharacterSet", "PhotometricInterpretation", "NumberOfFrames", "PixelAspectRatio"}
    item = Dataset()
    item.PatientName, item.ImageComments, item.ReferencedSOPInstanceUID = "CANARY^I", "CANARY J", "1.2.999.718281"
    for tag, (representation, _, _, _, keyword) in DicomDictionary.items():
        if tag >> 16 in (0, 2, 0x7FE0) or not keyword or keyword in kept:
            continue
        value = {"DA": DATE, "TM": TIME, "DT": DATE + TIME, "IS": NUMBER, "DS": NUMBER}.get(representation)
        if representation in TEXT:
            value = f"CANARY{tag:08X}"
        elif representation == "UI":
            value = f"1.2.999.{tag}.718281"
        elif representation == "SQ" and keyword not in ("ModalityLUTSequence", "VOILUTSequence"):
            value = Sequence([item])
        if value is not None and "FunctionalGroups" not in keyword:
            dataset.add_new(tag, representation, value)
    dataset.LossyImageCompression = "01"
    dataset.add_new(0x00090010, "LO", "CANARY P")
    dataset.add_new(0x00091001, "UN", b"CANARY Q")
    dataset.preamble = b"CANARY R".ljust(128, b"\0")
    dataset.file_meta.SourceApplicationEntityTitle = "CANARY"
    dataset.save_as(path, enforce_file_format=True)


def test_as_pseudonym_no_word_date_or_number_of_the_source_is_in_the_file(tmp_path, caplog, recwarn):
    caplog.set_level(logging.DEBUG)
    source = cine(tmp_path / "CANARY_folder" / "CANARY_file.dcm")
    with pydicom.config.disable_value_validation():
        with_canaries(source)
    recwarn.clear()
    caplog.clear()
    dataset = write(source, tmp_path / "seg.dcm", masks_of(2), [0, 1])
    written = (tmp_path / "seg.dcm").read_bytes()
    words = [b"CANARY", DATE.encode(), TIME.encode(), NUMBER.encode(), b"718281", b"999."]
    assert [word for word in words if word in written] == []
    assert all(word in source.read_bytes() for word in words)
    assert "CANARY" not in caplog.text
    assert not any("CANARY" in str(warning.message) for warning in recwarn)
    assert dataset.PatientIdentityRemoved == "YES"
    uids = [element.value for element in dataset.iterall() if element.VR == "UI"]
    assert all(uid.startswith("2.25.") or pydicom.uid.UID(uid).type for uid in uids)


def test_as_pseudonym_there_are_exactly_these_attributes(tmp_path, source):
    """What identifies could come with a new attribute: each is to be thought of."""
    dataset = write(source, tmp_path / "seg.dcm", masks_of(1), [0])
    with_words = {
        element.keyword: element.value for element in dataset if element.VR not in ("SQ", "US", "OB") and element.value
    }
    assert set(with_words) == {
        *("ImageType", "SOPClassUID", "SOPInstanceUID", "StudyDate", "ContentDate", "ContentTime", "Modality"),
        *("Manufacturer", "SeriesDescription", "ManufacturerModelName", "PatientName", "PatientID"),
        *("PatientIdentityRemoved", "DeidentificationMethod", "DeviceSerialNumber", "SoftwareVersions"),
        *("StudyInstanceUID", "SeriesInstanceUID", "SeriesNumber", "InstanceNumber", "NumberOfFrames"),
        *("LongitudinalTemporalInformationModified", "LossyImageCompression", "PhotometricInterpretation"),
        *("SegmentationType", "SegmentsOverlap", "ContentLabel", "ContentDescription"),
    }


# What it says


@pytest.mark.parametrize("identity", ["pseudonym", "source"])
def test_it_says_research_use_only_within_the_length_of_each_attribute(tmp_path, source, identity):
    longest = "x" * 64
    dataset = write(
        source,
        tmp_path / "seg.dcm",
        masks_of(1),
        [0],
        identity=identity,
        algorithm_name=longest,
        algorithm_version=longest,
        label=longest,
    )
    descriptions = (
        dataset.SeriesDescription,
        dataset.ContentDescription,
        dataset.SegmentSequence[0].SegmentDescription,
    )
    assert all("research use only" in text.lower() for text in descriptions)
    limits = {"LO": 64, "SH": 16, "CS": 16, "ST": 1024, "UI": 64, "PN": 64, "DS": 16, "IS": 12}
    for element in dataset.iterall():
        values = element.value if isinstance(element.value, list | pydicom.multival.MultiValue) else [element.value]
        assert all(len(str(value)) <= limits.get(element.VR, 10**9) for value in values), element.keyword


# What is refused


@pytest.mark.parametrize(
    "change, expected",
    [
        ({"masks": masks_of(1)[0]}, r"`masks` must be \(N, H, W\), none of them 0, got \(33, 41\)"),
        ({"masks": masks_of(1)[:0], "numbers": []}, r"`masks` must be \(N, H, W\), none of them 0, got \(0, 33, 41\)"),
        ({"masks": masks_of(1) * 255}, r"`masks` must be bool or 0 and 1, got other values \(int64\)"),
        ({"masks": np.full((1, ROWS, COLUMNS), np.nan)}, "bool or 0 and 1, got other values"),
        (
            {"masks": masks_of(1, COLUMNS, ROWS)},
            r"`masks` must be \(N, 33, 41\) as the source's frames, got \(1, 41, 33\)",
        ),
        ({"numbers": [0, 1]}, "`frame_numbers` must be 1, one for each mask, got 2"),
        ({"numbers": [6]}, r"`frame_numbers` must be from 0 to 5, the frames of the source, got \[6\]"),
        ({"numbers": [-1]}, r"must be from 0 to 5, the frames of the source, got \[-1\]"),
        ({"numbers": [0.5]}, r"`frame_numbers` must be whole numbers, got \[0\.5\]"),
        ({"masks": masks_of(3), "numbers": [2, 0, 2]}, r"must name each frame once, got \[2\] more often"),
        ({"identity": "nobody"}, "`identity` must be 'pseudonym' or 'source', got 'nobody'"),
        ({"pseudonyms": None}, "`identity` 'pseudonym' needs `pseudonyms`, got None"),
        ({"label": ""}, "`label` must be 1 to 64 ASCII characters without backslash, got ''"),
        ({"label": "a\\b"}, "`label` must be 1 to 64 ASCII"),
        ({"algorithm_name": "x" * 65}, "`algorithm_name` must be 1 to 64 ASCII"),
        ({"algorithm_version": "1\n2"}, "`algorithm_version` must be 1 to 64 ASCII"),
        ({"algorithm_version": "\u00fc"}, "`algorithm_version` must be 1 to 64 ASCII"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_written(tmp_path, source, change, expected):
    arguments = {"masks": masks_of(1), "numbers": [0]} | change
    with pytest.raises(ValueError, match=expected):
        write(source, tmp_path / "out" / "seg.dcm", **arguments)
    assert not (tmp_path / "out").exists()


def test_the_source_is_never_overwritten(source):
    content = source.read_bytes()
    with pytest.raises(ValueError, match="`path` is the source itself"):
        write(source, source, masks_of(1), [0])
    assert source.read_bytes() == content


@pytest.mark.parametrize("identity", ["pseudonym", "source"])
@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"])
def test_a_source_without_uids_is_refused(tmp_path, source, keyword, identity):
    dataset = pydicom.dcmread(source)
    dataset[keyword].value = ""
    dataset.save_as(source)
    with pytest.raises(DamagedDicomError, match=f"^has no {keyword}$") as caught:
        write(source, tmp_path / "seg.dcm", masks_of(1), [0], identity=identity)
    assert caught.value.path == str(source)


@pytest.mark.parametrize(
    "content, error",
    [(b"", UnsupportedDicomError), (b"CANARY" * 100, UnsupportedDicomError), (None, DamagedDicomError)],
)
def test_an_unreadable_source_is_named_by_its_kind_and_not_by_its_path(tmp_path, content, error):
    source = tmp_path / "CANARY.dcm"
    if content is not None:
        source.write_bytes(content)
    with pytest.raises(error) as caught:
        write(source, tmp_path / "out" / "seg.dcm", masks_of(1), [0])
    assert isinstance(caught.value, XAReadError)
    assert "CANARY" not in str(caught.value)
    assert str(tmp_path) not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_another_kind_of_image_is_refused(tmp_path):
    facts = replace(FACTS, extra={"SOPClassUID": "1.2.840.10008.5.1.4.1.1.2"})
    with pytest.raises(NotAngiographyError):
        write(cine(tmp_path / "xa.dcm", facts), tmp_path / "seg.dcm", masks_of(1), [0])


def test_damaged_numbers_and_dates_of_the_source_do_not_hinder(tmp_path, source):
    with pydicom.config.disable_value_validation():
        dataset = pydicom.dcmread(source)
        for keyword, text in (("SeriesNumber", b"CANARY"), ("InstanceNumber", b"1.5 "), ("ContentDate", b"CANARY")):
            element = dataset.get_item(keyword)
            dataset[keyword] = element._replace(value=text, length=len(text))
        dataset.save_as(source)
    written = write(source, tmp_path / "seg.dcm", masks_of(1), [0], identity="source")
    assert (written.SeriesNumber, written.InstanceNumber) == (1000, 1)
    assert written.ContentDate == "20210304"
