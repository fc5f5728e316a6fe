"""One X-Ray Angiographic Image Storage object: stored values and facts in, a DICOM file out.

For tests, demonstrations and the synthetic cines. Attributes by DICOM PS3.3 section A.14, the X-Ray Angiographic Image
IOD; `dciodvfy` finds no error in the default object.
"""

import hashlib
import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence as DicomSequence
from pydicom.tag import Tag
from pydicom.uid import (
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
    XRayAngiographicImageStorage,
)

from cmunet_monai.files.atomic import atomic_path

_NATIVE = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian)
NEAR_LOSSLESS_ERROR = 2
"""Largest error of a stored value in JPEG-LS near-lossless (1.2.840.10008.1.2.4.81)."""
# Options of pydicom's encoders. The plugins are named, since GDCM, which pydicom would take first, ends the whole
# process when it is to encode RLE of some sizes (33 rows of 41 columns). JPEG 2000: signal-to-noise in dB.
_PYDICOM_ENCODED: dict[UID, dict[str, Any]] = {
    RLELossless: {"encoding_plugin": "pydicom"},
    JPEGLSLossless: {"encoding_plugin": "pyjpegls"},
    JPEGLSNearLossless: {"encoding_plugin": "pyjpegls", "jls_error": NEAR_LOSSLESS_ERROR},
    JPEG2000Lossless: {"encoding_plugin": "pylibjpeg"},
    JPEG2000: {"encoding_plugin": "pylibjpeg", "j2k_psnr": [60]},
}
_LOSSY_METHODS = {
    JPEGBaseline8Bit: "ISO_10918_1",
    JPEGLSNearLossless: "ISO_14495_1",
    JPEG2000: "ISO_15444_1",
}
_PREDICTORS = {JPEGLossless: 4, JPEGLosslessSV1: 1}
"""Of lossless JPEG (ITU-T T.81 table H.1): process 14 knows seven, its selection value 1 the first alone."""
_MIN_JPEG_2000_PX = 32
TRANSFER_SYNTAX_NAMES: Mapping[str, str] = {
    "implicit": ImplicitVRLittleEndian,
    "explicit": ExplicitVRLittleEndian,
    "big-endian": ExplicitVRBigEndian,
    "deflated": DeflatedExplicitVRLittleEndian,
    "rle": RLELossless,
    "jpeg-ls": JPEGLSLossless,
    "jpeg-ls-near-lossless": JPEGLSNearLossless,
    "jpeg-2000": JPEG2000Lossless,
    "jpeg-2000-lossy": JPEG2000,
    "jpeg-baseline": JPEGBaseline8Bit,
    "jpeg-lossless": JPEGLossless,
    "jpeg-lossless-sv1": JPEGLosslessSV1,
}
"""Short name -> UID of what `write_xa` can write."""
TRANSFER_SYNTAXES: tuple[str, ...] = tuple(TRANSFER_SYNTAX_NAMES.values())
"""UIDs of what `write_xa` can write."""
LOG_RANGE = 100
"""Beam intensity at the highest stored value over that at the lowest, with Pixel Intensity Relationship LOG."""


@dataclass(frozen=True)
class RectangularShutter:
    """First and last column and row that are shown, counted from 1 (PS3.3 section C.7.6.11)."""

    left: int
    right: int
    upper: int
    lower: int


@dataclass(frozen=True)
class CircularShutter:
    """Centre (row, column), counted from 1, and radius in pixels (PS3.3 section C.7.6.11)."""

    row: int
    column: int
    radius_px: int


@dataclass(frozen=True)
class XAFacts:
    """What the header says. None leaves an attribute out (or empty where the standard wants it present)."""

    patient_name: str = "Synthetic^Patient"
    patient_id: str = "SYNTHETIC"
    patient_birth_date: str = ""
    patient_sex: str = ""
    study_date: str = "20200102"
    """Also of series, acquisition and content."""
    study_time: str = "120000"
    study_description: str | None = None
    series_description: str | None = None
    series_number: int = 1
    instance_number: int = 1
    uid_seed: str = ""
    """What study, series and instance UID are derived from where they are None, besides the facts themselves."""
    study_uid: str | None = None
    series_uid: str | None = None
    instance_uid: str | None = None
    """Derived from pixels and facts where None; the same in all lossless transfer syntaxes, another in a lossy one."""
    image_type: tuple[str, ...] = ("ORIGINAL", "PRIMARY", "SINGLE PLANE")
    manufacturer: str = "Synthetic"
    manufacturer_model_name: str | None = None
    bits_stored: int = 8
    photometric_interpretation: Literal["MONOCHROME1", "MONOCHROME2"] = "MONOCHROME2"
    pixel_intensity_relationship: Literal["LIN", "LOG", "DISP"] = "LIN"
    """With LOG a Modality LUT from stored values to beam intensity is written, as the standard wants it."""
    window: tuple[float, float] | None = None
    """Window centre and width."""
    frame_time_ms: float = 66.7
    """Multi-frame objects only."""
    representative_frame: int | None = None
    """0-based (written 1-based)."""
    r_wave_frames: tuple[int, ...] | None = None
    """0-based frames at R waves (written 1-based)."""
    ecg: tuple[int, ...] | None = None
    """Samples, 0 to 65535, written as a curve (retired group 5000, as cath labs still write it)."""
    ecg_rate_hz: int = 300
    primary_angle_deg: float | None = 0.0
    """Positive towards the patient's left (LAO)."""
    secondary_angle_deg: float | None = 0.0
    """Positive towards the head (cranial)."""
    positioner_motion: Literal["STATIC", "DYNAMIC"] = "STATIC"
    primary_angle_increments_deg: tuple[float, ...] = ()
    """One a frame; needed where `positioner_motion` is DYNAMIC."""
    secondary_angle_increments_deg: tuple[float, ...] = ()
    imager_pixel_spacing_mm: float | tuple[float, float] | None = None
    """At the detector; a pair is (between rows, between columns)."""
    pixel_spacing_mm: float | tuple[float, float] | None = None
    pixel_spacing_calibration: Literal["GEOMETRY", "FIDUCIAL"] | None = None
    source_to_detector_mm: float | None = None
    source_to_patient_mm: float | None = None
    estimated_magnification: float | None = None
    shutter: RectangularShutter | CircularShutter | None = None
    burned_in_annotation: bool | None = False
    contrast_agent: str | None = "Iodine"
    """None: no agent was given, and the module is left out."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Keyword -> value, set last; None removes the attribute. May contradict everything else: for tests."""


def write_xa(
    path: str | os.PathLike[str],
    frames: NDArray[Any],
    facts: XAFacts = XAFacts(),
    *,
    transfer_syntax: str = ExplicitVRLittleEndian,
) -> None:
    """Write stored values as an X-Ray Angiographic image, whole or not at all.

    Args:
        path: the file; its folder is made.
        frames: uint8, uint16 or int16 stored values, (frame, row, column): a multi-frame object, also where there is
            one frame; (row, column): an object without Number of Frames. Not modified.
        facts: the header.
        transfer_syntax: a UID of `TRANSFER_SYNTAXES`. JPEG baseline (8 bits only) and lossless are encoded by
            imagecodecs, the others by pydicom and its plugins.
    Raises:
        ValueError: pixels, facts or transfer syntax that cannot be written, or whose encoder is not installed.
    """
    syntax = UID(transfer_syntax)
    if syntax not in TRANSFER_SYNTAXES:
        hint = "; dcmtk's `dcmcjpeg +ee` makes JPEG Extended of 12 bits" if syntax.endswith(".1.2.4.51") else ""
        raise ValueError(
            f"`transfer_syntax` must be one of {', '.join(TRANSFER_SYNTAXES)}, got {transfer_syntax}{hint}"
        )
    _check_frames(frames, facts, syntax)
    dataset = _header(frames, facts, syntax)
    _set_pixels(dataset, frames, syntax)
    for keyword, value in facts.extra.items():
        if value is not None:
            setattr(dataset, keyword, value)
        elif keyword in dataset:
            delattr(dataset, keyword)
    with atomic_path(path) as temporary:
        dataset.save_as(temporary, enforce_file_format=True)


def _check_frames(frames: NDArray[Any], facts: XAFacts, syntax: UID) -> None:
    if frames.dtype not in (np.uint8, np.uint16, np.int16):
        raise ValueError(f"`frames` must be uint8, uint16 or int16 stored values, got {frames.dtype}")
    if frames.ndim not in (2, 3) or 0 in frames.shape:
        raise ValueError(f"`frames` must be (frame, row, column) or (row, column), none empty, got {frames.shape}")
    allocated = 8 * frames.dtype.itemsize
    if not 1 <= facts.bits_stored <= allocated:
        raise ValueError(f"`bits_stored` must be 1 to {allocated} for {frames.dtype} frames, got {facts.bits_stored}")
    signed = frames.dtype == np.int16
    low = -(2 ** (facts.bits_stored - 1)) if signed else 0
    high = low + 2**facts.bits_stored - 1
    if frames.min() < low or frames.max() > high:
        raise ValueError(
            f"`frames` must be {low} to {high} for {facts.bits_stored} bits stored, "
            f"got {frames.min()} to {frames.max()}"
        )
    if syntax == JPEGBaseline8Bit and frames.dtype != np.uint8:
        raise ValueError(f"JPEG baseline holds 8 bits: `frames` must be uint8, got {frames.dtype}")
    if syntax in (JPEG2000, JPEG2000Lossless) and min(frames.shape[-2:]) < _MIN_JPEG_2000_PX:
        raise ValueError(
            f"JPEG 2000 is encoded from {_MIN_JPEG_2000_PX} rows and columns on, got {frames.shape[-2:]} (row, column)"
        )
    count = frames.shape[0] if frames.ndim == 3 else 1
    if facts.positioner_motion == "DYNAMIC":
        for name in ("primary_angle_increments_deg", "secondary_angle_increments_deg"):
            if len(getattr(facts, name)) != count:
                raise ValueError(
                    f"`{name}` must have a value for each of {count} frames, got {len(getattr(facts, name))}"
                )
    for name in ("r_wave_frames", "representative_frame"):
        value = getattr(facts, name)
        indices = () if value is None else np.atleast_1d(value)
        if any(not 0 <= index < count for index in indices):
            raise ValueError(f"`{name}` must be frames 0 to {count - 1}, got {value}")


def _uid(*parts: object) -> str:
    """A UID of PS3.5 section B.2 that depends on the parts only."""
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, '/'.join(map(str, parts))).int}"


def _header(frames: NDArray[Any], facts: XAFacts, syntax: UID) -> Dataset:
    """Everything but pixel data and `extra`."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.SpecificCharacterSet = "ISO_IR 192"
    _set_identity(dataset, frames, facts, syntax)
    dataset.Modality = "XA"
    dataset.Manufacturer = facts.manufacturer
    _set_known(
        dataset,
        ManufacturerModelName=facts.manufacturer_model_name,
        StudyDescription=facts.study_description,
        SeriesDescription=facts.series_description,
        ContrastBolusAgent=facts.contrast_agent,
    )
    dataset.ImageType = list(facts.image_type)
    if facts.burned_in_annotation is not None:
        dataset.BurnedInAnnotation = "YES" if facts.burned_in_annotation else "NO"
    _set_image(dataset, frames, facts, syntax)
    _set_timing(dataset, frames, facts)
    _set_geometry(dataset, frames, facts)
    return dataset


def _set_identity(dataset: Dataset, frames: NDArray[Any], facts: XAFacts, syntax: UID) -> None:
    """Patient, study, series, SOP common, frame of time."""
    dataset.PatientName = facts.patient_name
    dataset.PatientID = facts.patient_id
    dataset.PatientBirthDate = facts.patient_birth_date
    dataset.PatientSex = facts.patient_sex
    study = (facts.uid_seed, facts.patient_id, facts.study_date, facts.study_time)
    plain = replace(facts, extra={})
    pixels = hashlib.sha256(frames.tobytes()).hexdigest()
    lossy = str(syntax) if syntax in _LOSSY_METHODS else ""
    dataset.StudyInstanceUID = facts.study_uid or _uid("study", *study)
    dataset.SeriesInstanceUID = facts.series_uid or _uid("series", *study, facts.series_number)
    dataset.SOPInstanceUID = facts.instance_uid or _uid("instance", plain, frames.shape, pixels, lossy)
    dataset.SOPClassUID = XRayAngiographicImageStorage
    dataset.StudyID = "1"
    dataset.AccessionNumber = ""
    dataset.ReferringPhysicianName = ""
    dataset.PatientOrientation = ""
    dataset.BodyPartExamined = "HEART"
    dataset.SeriesNumber = facts.series_number
    dataset.InstanceNumber = facts.instance_number
    for name in ("Study", "Series", "Acquisition", "Content"):
        setattr(dataset, f"{name}Date", facts.study_date)
        setattr(dataset, f"{name}Time", facts.study_time)


def _set_image(dataset: Dataset, frames: NDArray[Any], facts: XAFacts, syntax: UID) -> None:
    """Image pixel, modality and VOI LUT, display shutter."""
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = facts.photometric_interpretation
    dataset.Rows, dataset.Columns = frames.shape[-2:]
    dataset.BitsAllocated = 8 * frames.dtype.itemsize
    dataset.BitsStored = facts.bits_stored
    dataset.HighBit = facts.bits_stored - 1
    dataset.PixelRepresentation = int(frames.dtype == np.int16)
    dataset.PixelIntensityRelationship = facts.pixel_intensity_relationship
    if facts.pixel_intensity_relationship == "LOG":
        entries = 2**facts.bits_stored
        values = np.rint(65535 * LOG_RANGE ** (np.arange(entries) / (entries - 1) - 1.0))
        lut = Dataset()
        first = -(entries // 2) if frames.dtype == np.int16 else 0
        lut.add_new(Tag("LUTDescriptor"), "SS" if first else "US", [entries % 65536, first, 16])
        lut.ModalityLUTType = "US"
        lut.add_new(Tag("LUTData"), "OW", values.astype(_word_type("u2", syntax)).tobytes())
        dataset.ModalityLUTSequence = DicomSequence([lut])
    if facts.window is not None:
        dataset.WindowCenter, dataset.WindowWidth = facts.window
    if isinstance(facts.shutter, RectangularShutter):
        dataset.ShutterShape = "RECTANGULAR"
        dataset.ShutterLeftVerticalEdge = facts.shutter.left
        dataset.ShutterRightVerticalEdge = facts.shutter.right
        dataset.ShutterUpperHorizontalEdge = facts.shutter.upper
        dataset.ShutterLowerHorizontalEdge = facts.shutter.lower
    elif facts.shutter is not None:
        dataset.ShutterShape = "CIRCULAR"
        dataset.CenterOfCircularShutter = [facts.shutter.row, facts.shutter.column]
        dataset.RadiusOfCircularShutter = facts.shutter.radius_px


def _set_timing(dataset: Dataset, frames: NDArray[Any], facts: XAFacts) -> None:
    """Cine, multi-frame, frame pointers, ECG curve."""
    if frames.ndim == 3:
        dataset.NumberOfFrames = len(frames)
        dataset.FrameTime = _decimal(facts.frame_time_ms)
        dataset.FrameIncrementPointer = Tag("FrameTime")
    if facts.representative_frame is not None:
        dataset.RepresentativeFrameNumber = facts.representative_frame + 1
    if facts.r_wave_frames is not None:
        dataset.RWavePointer = [index + 1 for index in facts.r_wave_frames]
    if facts.ecg is not None:
        syntax = dataset.file_meta.TransferSyntaxUID
        curve: tuple[tuple[int, str, Any], ...] = (
            (0x0005, "US", 2),
            (0x0010, "US", len(facts.ecg)),
            (0x0020, "CS", "ECG"),
            (0x0030, "SH", ["DPPS", "NONE"]),
            (0x0103, "US", 0),
            (0x0110, "US", [0, 1]),
            (0x0112, "US", 0),
            (0x0114, "US", facts.ecg_rate_hz),
            (0x3000, "OW", np.asarray(facts.ecg).astype(_word_type("u2", syntax)).tobytes()),
        )
        for element, vr, value in curve:
            dataset.add_new((0x5000, element), vr, value)


def _set_geometry(dataset: Dataset, frames: NDArray[Any], facts: XAFacts) -> None:
    """X-ray acquisition, positioner, spacing."""
    dataset.KVP = ""
    dataset.RadiationSetting = "GR"
    dataset.XRayTubeCurrent = ""
    dataset.ExposureTime = ""
    if frames.ndim == 3:
        dataset.PositionerMotion = facts.positioner_motion
    for name in ("Primary", "Secondary"):
        angle = getattr(facts, f"{name.lower()}_angle_deg")
        setattr(dataset, f"Positioner{name}Angle", None if angle is None else _decimal(angle))
        if facts.positioner_motion == "DYNAMIC":
            increments = getattr(facts, f"{name.lower()}_angle_increments_deg")
            setattr(dataset, f"Positioner{name}AngleIncrement", [_decimal(value) for value in increments])
    _set_known(
        dataset,
        ImagerPixelSpacing=_pair(facts.imager_pixel_spacing_mm),
        PixelSpacing=_pair(facts.pixel_spacing_mm),
        PixelSpacingCalibrationType=facts.pixel_spacing_calibration,
        DistanceSourceToDetector=_decimal(facts.source_to_detector_mm),
        DistanceSourceToPatient=_decimal(facts.source_to_patient_mm),
        EstimatedRadiographicMagnificationFactor=_decimal(facts.estimated_magnification),
    )
    if facts.pixel_spacing_calibration is not None:
        dataset.PixelSpacingCalibrationDescription = "synthetic"


def _set_known(dataset: Dataset, **values: Any) -> None:
    for keyword, value in values.items():
        if value is not None:
            setattr(dataset, keyword, value)


def _decimal(value: float | None) -> str | None:
    """A decimal string of at most 16 characters."""
    return None if value is None else f"{value:.10g}"


def _pair(value: float | tuple[float, float] | None) -> list[str | None] | None:
    if value is None:
        return None
    return [_decimal(number) for number in (value if isinstance(value, tuple) else (value, value))]


def _word_type(name: str, syntax: UID) -> np.dtype[Any]:
    return np.dtype(name).newbyteorder(">" if syntax == ExplicitVRBigEndian else "<")


def _set_pixels(dataset: Dataset, frames: NDArray[Any], syntax: UID) -> None:
    if syntax in _NATIVE:
        values = np.ascontiguousarray(frames, dtype=_word_type(frames.dtype.str[1:], syntax)).tobytes()
        # Implicit little endian knows OW only (PS3.5 section A.1); bytes lie the same in both.
        vr = "OB" if frames.dtype == np.uint8 and syntax != ImplicitVRLittleEndian else "OW"
        dataset.add_new(Tag("PixelData"), vr, values + b"\0" * (len(values) % 2))
    elif syntax in _PYDICOM_ENCODED:
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        options = _PYDICOM_ENCODED[syntax]
        try:
            dataset.compress(syntax, np.ascontiguousarray(frames), generate_instance_uid=False, **options)
        except RuntimeError as error:
            raise ValueError(
                f"{syntax.name} could not be encoded; it needs pydicom's plugin {options['encoding_plugin']}: {error}"
            ) from error
    else:
        _set_pixels_by_imagecodecs(dataset, frames, syntax)
    if syntax in _LOSSY_METHODS:
        dataset.LossyImageCompression = "01"
        dataset.LossyImageCompressionRatio = _decimal(round(frames.nbytes / len(dataset.PixelData), 2))
        dataset.LossyImageCompressionMethod = _LOSSY_METHODS[syntax]


def _set_pixels_by_imagecodecs(dataset: Dataset, frames: NDArray[Any], syntax: UID) -> None:
    try:
        import imagecodecs
    except ImportError as error:
        raise ValueError(f"{syntax.name} is encoded by imagecodecs, which is not installed") from error
    bits = dataset.BitsStored if syntax in _PREDICTORS else 8
    options: dict[str, Any] = (
        {"lossless": True, "predictor": _PREDICTORS[syntax]} if syntax in _PREDICTORS else {"level": 95}
    )
    # two's complement of the bits stored, of which the frame holds no others
    cells = frames.view(f"u{frames.dtype.itemsize}") & (2**bits - 1)
    stack = cells if cells.ndim == 3 else cells[None]
    encoded = [bytes(imagecodecs.jpeg8_encode(frame, bitspersample=bits, **options)) for frame in stack]
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.add_new(Tag("PixelData"), "OB", encapsulate(encoded))
    dataset["PixelData"].is_undefined_length = True
