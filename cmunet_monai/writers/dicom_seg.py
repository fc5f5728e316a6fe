"""Masks of a cine as one DICOM Segmentation object that refers to the frames of its source.

An X-ray projection has no place in space, so a pixel of the segmentation is a pixel of the source's frame, and the
Derivation Image of each frame says of which (PS3.3 A.51.5.1: no Frame of Reference UID). Written with pydicom:
highdicom reads such an object but makes none of more than one frame.

As tried: highdicom 0.28 reads it and finds each mask by its frame of the source, `dciodvfy` has no error to tell. What
puts segmentations into space refuses it for want of a plane orientation: dcmqi 1.5.7, which 3D Slicer reads with, and
the adapters 5.14 of Cornerstone3D, which OHIF reads with. For people there are the overlays.

What the standard leaves open:

- No Frame of Reference UID even where the source has one: with it the pixels would have to be placed by plane position
  and orientation, which a projection lacks, and the references would no longer mean pixel for pixel.
- No pixel size: Pixel Measures are for images in a patient's coordinate system (table A.51-2). The size of a pixel
  is the source's, as `readers.xa_spacing` gives it.
- A frame whose mask is empty is there: it says that it was looked at and no vessel was found; a frame that is missing
  was not looked at.
- Same input, same bytes: UIDs are made from the content, and the content date and time are the source's, not the
  clock's. Each object is a series of its own, so that no two of a series differ in what they say of it.
"""

import io
import operator
import os
import re
import uuid
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Any, Literal

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.sr.coding import Code
from pydicom.tag import Tag
from pydicom.uid import (
    PYDICOM_IMPLEMENTATION_UID,
    ExplicitVRLittleEndian,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    SegmentationStorage,
)
from torch import Tensor

from cmunet_monai.files.atomic import atomic_path
from cmunet_monai.files.own_results import RESEARCH_USE
from cmunet_monai.pseudonyms import Pseudonyms, shifted_date
from cmunet_monai.xa.errors import DamagedDicomError, typed_errors
from cmunet_monai.xa.header import quiet_pydicom
from cmunet_monai.xa.run import XARun, read_run

Identity = Literal["pseudonym", "source"]

MANUFACTURER = "CM-UNet"
SERIES_DESCRIPTION = f"{RESEARCH_USE.capitalize()}: coronary artery segmentation"
CONTENT_DESCRIPTION = f"{RESEARCH_USE.capitalize()}, not for diagnosis"
DISPLAY_CIELAB = (49252, 27158, 23009)
"""sRGB (0, 200, 255), the colour of `overlay.OUTLINE`, as PS3.3 C.10.7.1.1 scales L*, a* and b* to 16 bits."""

_ANATOMICAL_STRUCTURE = Code("91723000", "SCT", "Anatomical Structure")
_CORONARY_ARTERY = Code("41801008", "SCT", "Coronary artery")
_SEGMENTATION = Code("113076", "DCM", "Segmentation")
_SOURCE_IMAGE = Code("121322", "DCM", "Source image for image processing operation")
_ARTIFICIAL_INTELLIGENCE = Code("123110", "DCM", "Artificial Intelligence")
_BASIC_PROFILE = Code("113100", "DCM", "Basic Application Confidentiality Profile")
_MODIFIED_DATES = Code("113107", "DCM", "Retain Longitudinal Temporal Information Modified Dates Option")
_NO_DATE, _NO_TIME = "19000101", "000000"
_MAX_TEXT = 64  # of the value representation LO
_TEXT = rf"(?=.*[!-~])[ -\[\]-~]{{1,{_MAX_TEXT}}}"
_MAX_NUMBER = 9999
_SERIES_NUMBER_OFFSET = 1000
_PATIENT = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex")
_STUDY = ("StudyDate", "StudyTime", "ReferringPhysicianName", "StudyID", "AccessionNumber")
_OPTIONAL = (
    *("IssuerOfPatientID", "StudyDescription", "PatientIdentityRemoved", "DeidentificationMethod"),
    "LongitudinalTemporalInformationModified",
)
_UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
_DATES = ("Content", "Acquisition", "Series", "Study")
_LOSSY_METHODS = frozenset({"ISO_10918_1", "ISO_14495_1", "ISO_15444_1", "ISO_13818_2", "ISO_14496_10", "ISO_23008_2"})
_TAGS = (
    *("SpecificCharacterSet", *_PATIENT, *_STUDY, *_OPTIONAL, *_UIDS, "DeidentificationMethodCodeSequence"),
    *(f"{name}{part}" for name in _DATES for part in ("Date", "Time")),
    *("SeriesNumber", "InstanceNumber", "PatientOrientation"),
    *("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod"),
)


def write_dicom_seg(
    masks: Tensor | NDArray[Any],
    frame_numbers: Sequence[int],
    source: str | os.PathLike[str],
    path: str | os.PathLike[str],
    *,
    identity: Identity = "pseudonym",
    pseudonyms: Pseudonyms | None = None,
    algorithm_name: str,
    algorithm_version: str,
    label: str = "coronary artery",
) -> None:
    """Write masks as a DICOM Segmentation of one segment, 1 bit a pixel, whole or not at all.

    Its frames are in the order of the source's, whatever order they are given in. The texts say "research use only".
    Neither errors nor the file hold anything of the source's path.

    Args:
        masks: (N, H, W) bool or 0 and 1, row 0 at the top, of the size of the source's frames. Not modified.
        frame_numbers: the frames of the source that they belong to, from 0, each once.
        source: X-Ray Angiographic or Enhanced XA object; its header is read, its pixels are counted.
        path: the file; its folder is made. Its name is the caller's to choose without a patient's name.
        identity: `source` keeps the source's patient and study, so that an archive files the two together.
            `pseudonym` makes it fit the copy that `data_prep deidentify` makes of the source with the same key: the
            same patient, study, references and shifted study date, no time of day, no other word of the source.
            For a source that is such a copy, take `source`.
        pseudonyms: needed for `pseudonym`, not used for `source`.
        algorithm_name, algorithm_version, label: of the model and of the segment: ASCII, 1 to 64 characters.
    Raises:
        ValueError: masks, numbers or texts of another form, a size or number that the source does not have, no
            pseudonyms for `pseudonym`, or `path` is the source.
        NotAngiographyError, DamagedDicomError, UnsupportedDicomError: as by `read_run`; damaged is also a source
            without study, series or SOP instance UID.
        OSError: the file cannot be written.
    Source: DICOM PS3.3 A.51 (IOD), C.8.20 (segmentation), C.7.6.16 and C.7.6.17 (frames).
    """
    if identity not in ("pseudonym", "source"):
        raise ValueError(f"`identity` must be 'pseudonym' or 'source', got {identity!r}")
    names = None if identity == "source" else pseudonyms
    if identity == "pseudonym" and names is None:
        raise ValueError("`identity` 'pseudonym' needs `pseudonyms`, got None")
    for name, text in (("algorithm_name", algorithm_name), ("algorithm_version", algorithm_version), ("label", label)):
        _check_text(name, text)
    if os.path.exists(path) and os.path.exists(source) and os.path.samefile(path, source):
        raise ValueError("`path` is the source itself: name another file")
    vessel, numbers = _checked_masks(masks), _checked_numbers(frame_numbers)
    run = read_run(source)
    _check_fit(vessel, numbers, run)
    order = np.argsort(numbers)
    with typed_errors(source, "writing its segmentation"), quiet_pydicom():
        header = pydicom.dcmread(source, stop_before_pixels=True, specific_tags=list(_TAGS))
        _check_uids(header)
        dataset = _identity_of_source(header) if names is None else _pseudonymous_identity(header, names)
        mapped = str if names is None else names.uid
        _add_series_and_equipment(dataset, header, algorithm_version)
        _add_image(dataset, header, run, vessel[order])
        _add_segment(dataset, label, algorithm_name, algorithm_version)
        _add_frames(dataset, header, run, [numbers[index] for index in order], mapped)
        encoded = _finished(dataset)
    with atomic_path(path) as temporary:
        temporary.write_bytes(encoded)


def _check_text(name: str, text: str) -> None:
    """ASCII, since the character set of the file is the source's; a backslash would separate two values."""
    if not re.fullmatch(_TEXT, text):
        raise ValueError(f"`{name}` must be 1 to {_MAX_TEXT} ASCII characters without backslash, got {text!r}")


def _checked_masks(masks: Tensor | NDArray[Any]) -> NDArray[np.bool_]:
    array = np.asarray(masks)
    if array.ndim != 3 or 0 in array.shape:
        raise ValueError(f"`masks` must be (N, H, W), none of them 0, got {array.shape}")
    if not ((array == 0) | (array == 1)).all():
        raise ValueError(f"`masks` must be bool or 0 and 1, got other values ({array.dtype})")
    return array == 1


def _checked_numbers(frame_numbers: Sequence[int]) -> list[int]:
    try:
        numbers = [operator.index(number) for number in frame_numbers]
    except TypeError:
        raise ValueError(f"`frame_numbers` must be whole numbers, got {list(frame_numbers)}") from None
    if len(set(numbers)) < len(numbers):
        twice = sorted(number for number in set(numbers) if numbers.count(number) > 1)
        raise ValueError(f"`frame_numbers` must name each frame once, got {twice} more often")
    return numbers


def _check_fit(vessel: NDArray[np.bool_], numbers: list[int], run: XARun) -> None:
    if len(numbers) != len(vessel):
        raise ValueError(f"`frame_numbers` must be {len(vessel)}, one for each mask, got {len(numbers)}")
    wrong = [number for number in numbers if not 0 <= number < run.frames]
    if wrong:
        raise ValueError(f"`frame_numbers` must be from 0 to {run.frames - 1}, the frames of the source, got {wrong}")
    if vessel.shape[1:] != (run.rows, run.columns):
        raise ValueError(f"`masks` must be (N, {run.rows}, {run.columns}) as the source's frames, got {vessel.shape}")


def _check_uids(header: Dataset) -> None:
    for keyword in _UIDS:
        uid = _value(header, keyword)
        if not isinstance(uid, str) or not uid.strip(" \0"):
            raise DamagedDicomError(f"has no {keyword}")


def _identity_of_source(header: Dataset) -> Dataset:
    """Patient, study and content date of the source, in its character set."""
    dataset = Dataset()
    for keyword in (*_PATIENT, *_STUDY, "PatientOrientation"):
        value = _value(header, keyword)
        setattr(dataset, keyword, "" if value is None else value)
    for keyword in ("SpecificCharacterSet", *_OPTIONAL):
        if _value(header, keyword):
            setattr(dataset, keyword, _value(header, keyword))
    methods = [
        _code((item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning))
        for item in _value(header, "DeidentificationMethodCodeSequence") or []
    ]
    if methods:
        dataset.DeidentificationMethodCodeSequence = methods
    dataset.StudyInstanceUID = header.StudyInstanceUID
    dataset.ContentDate, dataset.ContentTime = _content_date(header) or (_NO_DATE, _NO_TIME)
    return dataset


def _pseudonymous_identity(header: Dataset, pseudonyms: Pseudonyms) -> Dataset:
    """What `data_prep deidentify` writes of patient and study; the content date is shifted with them."""
    patient_id, issuer = (_word(header, keyword) for keyword in ("PatientID", "IssuerOfPatientID"))
    if not patient_id:
        # objects without a Patient ID belong together by study, as far as is known
        patient_id, issuer = str(header.StudyInstanceUID).strip(" \0"), ""
    days = pseudonyms.date_shift_days(patient_id, issuer)
    dataset = Dataset()
    for keyword in (*_PATIENT, *_STUDY, "PatientOrientation"):
        setattr(dataset, keyword, "")
    dataset.PatientName = dataset.PatientID = pseudonyms.patient(patient_id, issuer)
    dataset.StudyInstanceUID = pseudonyms.uid(header.StudyInstanceUID)
    dataset.StudyDate = shifted_date(_word(header, "StudyDate"), days) or ""
    content = _content_date(header)
    # a fixed date that is shifted would tell by how much
    dataset.ContentDate = _NO_DATE if content is None else shifted_date(content[0], days) or _NO_DATE
    dataset.ContentTime = _NO_TIME
    dataset.PatientIdentityRemoved = "YES"
    dataset.DeidentificationMethod = f"{MANUFACTURER} write_dicom_seg: pseudonyms by key, dates shifted"
    dataset.DeidentificationMethodCodeSequence = [
        _code(_BASIC_PROFILE),
        _code(_MODIFIED_DATES),
    ]
    dataset.LongitudinalTemporalInformationModified = "MODIFIED"
    return dataset


def _content_date(header: Dataset) -> tuple[str, str] | None:
    """The first date of content, acquisition, series and study, and its time; None where there is none.

    The object needs both, and the time at which it was made would make each file another one.
    """
    for name in _DATES:
        date, time = (_word(header, f"{name}{part}") for part in ("Date", "Time"))
        if shifted_date(date, 0) == date:
            return date, time if re.fullmatch(r"\d{6}(\.\d{1,6})?", time) else _NO_TIME
    return None


def _add_series_and_equipment(dataset: Dataset, header: Dataset, algorithm_version: str) -> None:
    dataset.Modality = "SEG"
    dataset.SeriesNumber = _SERIES_NUMBER_OFFSET + _small_number(header, "SeriesNumber", 0)
    dataset.SeriesDescription = SERIES_DESCRIPTION
    dataset.Manufacturer = MANUFACTURER
    dataset.ManufacturerModelName = "cmunet_monai"
    dataset.DeviceSerialNumber = "none"
    dataset.SoftwareVersions = algorithm_version


def _small_number(header: Dataset, keyword: str, default: int) -> int:
    """The number that tells runs apart; a large or damaged one is none, and may be somebody's."""
    try:
        number = int(_value(header, keyword))
    except (TypeError, ValueError):
        return default
    return number if 0 <= number <= _MAX_NUMBER else default


def _add_image(dataset: Dataset, header: Dataset, run: XARun, vessel: NDArray[np.bool_]) -> None:
    """Image and pixels; bits run on from frame to frame, the first in the lowest bit of a byte (PS3.5 8.1.1)."""
    dataset.SOPClassUID = SegmentationStorage
    dataset.ImageType = ["DERIVED", "PRIMARY"]
    dataset.InstanceNumber = _small_number(header, "InstanceNumber", 1)
    dataset.ContentLabel = "SEGMENTATION"
    dataset.ContentDescription = CONTENT_DESCRIPTION
    dataset.ContentCreatorName = ""
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.NumberOfFrames, dataset.Rows, dataset.Columns = vessel.shape
    dataset.BitsAllocated = dataset.BitsStored = 1
    dataset.HighBit = dataset.PixelRepresentation = 0
    _add_compression(dataset, header, run)
    packed = np.packbits(vessel, bitorder="little").tobytes()
    dataset.add_new(Tag("PixelData"), "OB", packed + b"\0" * (len(packed) % 2))


def _add_compression(dataset: Dataset, header: Dataset, run: XARun) -> None:
    """Lossy once, lossy for ever (C.8.20.2.2): as the source says, or its transfer syntax where it says nothing."""
    always_lossy = run.transfer_syntax in (JPEGBaseline8Bit, JPEGExtended12Bit)
    if _word(header, "LossyImageCompression") != "01" and not always_lossy:
        dataset.LossyImageCompression = "00"
        return
    dataset.LossyImageCompression = "01"
    methods = [word for word in _values(header, "LossyImageCompressionMethod") if word in _LOSSY_METHODS]
    if not methods and always_lossy:
        methods = ["ISO_10918_1"]
    ratios = [float(number) for number in _values(header, "LossyImageCompressionRatio")]
    if methods:
        dataset.LossyImageCompressionMethod = methods
    if ratios and all(1 <= ratio <= _MAX_NUMBER for ratio in ratios):
        dataset.LossyImageCompressionRatio = [f"{ratio:.6g}" for ratio in ratios]


def _value(header: Dataset, keyword: str) -> Any:
    """None where it is absent or damaged."""
    try:
        return header.get(keyword)
    except Exception:  # pydicom raises many kinds on a damaged value
        return None


def _values(header: Dataset, keyword: str) -> list[Any]:
    value = _value(header, keyword)
    if value is None or value == "":
        return []
    return [value] if isinstance(value, str | float) else list(value)


def _word(header: Dataset, keyword: str) -> str:
    return str(_value(header, keyword) or "").strip(" \0")


def _add_segment(dataset: Dataset, label: str, algorithm_name: str, algorithm_version: str) -> None:
    algorithm = Dataset()
    algorithm.AlgorithmFamilyCodeSequence = [_code(_ARTIFICIAL_INTELLIGENCE)]
    algorithm.AlgorithmName = algorithm_name
    algorithm.AlgorithmVersion = algorithm_version
    segment = Dataset()
    segment.SegmentNumber = 1
    segment.SegmentLabel = label
    segment.SegmentDescription = f"{CONTENT_DESCRIPTION}. Made by {algorithm_name} {algorithm_version}."
    segment.SegmentAlgorithmType = "AUTOMATIC"
    segment.SegmentAlgorithmName = algorithm_name
    segment.SegmentationAlgorithmIdentificationSequence = [algorithm]
    segment.SegmentedPropertyCategoryCodeSequence = [_code(_ANATOMICAL_STRUCTURE)]
    segment.SegmentedPropertyTypeCodeSequence = [_code(_CORONARY_ARTERY)]
    segment.RecommendedDisplayCIELabValue = list(DISPLAY_CIELAB)
    dataset.SegmentationType = "BINARY"
    dataset.SegmentsOverlap = "NO"
    dataset.SegmentSequence = [segment]


def _add_frames(
    dataset: Dataset, header: Dataset, run: XARun, numbers: list[int], mapped: Callable[[str], str]
) -> None:
    """Of each frame: which frame of the source it was made from, and its place in the order of time."""
    dataset.DimensionIndexSequence = [
        _dimension("ReferencedSegmentNumber", "SegmentIdentificationSequence"),
        _dimension("TemporalPositionIndex", "FrameContentSequence"),
    ]
    dataset.SharedFunctionalGroupsSequence = [Dataset()]
    dataset.PerFrameFunctionalGroupsSequence = [
        _frame_groups(_source_image(header, run, number, mapped), position)
        for position, number in enumerate(numbers, start=1)
    ]
    series = Dataset()
    series.SeriesInstanceUID = mapped(header.SeriesInstanceUID)
    series.ReferencedInstanceSequence = [_reference(header, run, mapped)]
    dataset.ReferencedSeriesSequence = [series]


def _dimension(keyword: str, group: str) -> Dataset:
    item = Dataset()
    item.DimensionIndexPointer = Tag(keyword)
    item.FunctionalGroupPointer = Tag(group)
    item.DimensionDescriptionLabel = keyword
    return item


def _reference(header: Dataset, run: XARun, mapped: Callable[[str], str]) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = run.sop_class_uid
    item.ReferencedSOPInstanceUID = mapped(header.SOPInstanceUID)
    return item


def _source_image(header: Dataset, run: XARun, number: int, mapped: Callable[[str], str]) -> Dataset:
    item = _reference(header, run, mapped)
    if run.frames > 1:  # of type 1C: not where the reference is to all frames
        item.ReferencedFrameNumber = number + 1
    item.SpatialLocationsPreserved = "YES"
    item.PurposeOfReferenceCodeSequence = [_code(_SOURCE_IMAGE)]
    return item


def _frame_groups(source_image: Dataset, position: int) -> Dataset:
    content = Dataset()
    content.TemporalPositionIndex = position
    content.DimensionIndexValues = [1, position]
    derivation = Dataset()
    derivation.DerivationCodeSequence = [_code(_SEGMENTATION)]
    derivation.SourceImageSequence = [source_image]
    segment = Dataset()
    segment.ReferencedSegmentNumber = 1
    groups = Dataset()
    groups.FrameContentSequence = [content]
    groups.DerivationImageSequence = [derivation]
    groups.SegmentIdentificationSequence = [segment]
    return groups


def _code(code: Any) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code[:3]
    return item


def _finished(dataset: Dataset) -> bytes:
    """Give the UIDs that its content leads to, and encode. They tell nothing that is not in the file."""
    buffer = DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = False, True
    write_dataset(buffer, dataset)
    content = sha256(buffer.getvalue()).hexdigest()
    dataset.SOPInstanceUID = _uid("instance", content)
    dataset.SeriesInstanceUID = _uid("series", content)
    organization = Dataset()
    organization.DimensionOrganizationUID = _uid("dimensions", content)
    dataset.DimensionOrganizationSequence = [organization]
    for item in dataset.DimensionIndexSequence:
        item.DimensionOrganizationUID = organization.DimensionOrganizationUID
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.ImplementationClassUID = PYDICOM_IMPLEMENTATION_UID
    dataset.file_meta.ImplementationVersionName = "CMUNET_MONAI"  # pydicom's own would change with its version
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


def _uid(purpose: str, content: str) -> str:
    """A UID of PS3.5 B.2 that depends on its arguments only."""
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, f'cmunet_monai segmentation {purpose} {content}').int}"
