"""XA DICOM files without MONAI: what a run is, and its frames one by one."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import BinaryIO

import numpy as np

from cmunet_monai.xa.codecs import decode_frame
from cmunet_monai.xa.ecg import r_wave_frames
from cmunet_monai.xa.errors import (
    DamagedDicomError,
    MissingDecoderError,
    NotAngiographyError,
    UnsupportedDicomError,
    XAReadError,
    typed_errors,
)
from cmunet_monai.xa.file import (
    EXPLICIT_BIG,
    NATIVE_SYNTAXES,
    FrameTable,
    XAFile,
    known_name,
    locate_frames,
    open_dicom,
    read_span,
)
from cmunet_monai.xa.header import Header, quiet_pydicom
from cmunet_monai.xa.pixels import (
    FloatFrame,
    Intensities,
    PixelFormat,
    intensities,
    intensity_relationship,
    pixel_format,
    to_intensities,
    unpack_decoded,
    unpack_native,
)
from cmunet_monai.xa.shutter import Shutter, read_shutter
from cmunet_monai.xa.spacing import (
    Spacing,
    check_spacing,
    spacing_at_patient,
    spacing_of_run,
    spacing_tags,
)

XA_IMAGE = "1.2.840.10008.5.1.4.1.1.12.1"
ENHANCED_XA_IMAGE = "1.2.840.10008.5.1.4.1.1.12.1.1"
XRF_IMAGE = "1.2.840.10008.5.1.4.1.1.12.2"
ANGIOGRAPHY = (XA_IMAGE, ENHANCED_XA_IMAGE, XRF_IMAGE)
"""X-ray angiography: what is read without being asked for. XRF differs from XA in how the positioner moves alone."""
_DICOMDIR = "1.2.840.10008.1.3.10"
_VENDORS = {
    "PHILIPS": "Philips",
    "SIEMENS": "Siemens",
    "GE ": "GE",
    "GEMS": "GE",
    "GENERAL ELECTRIC": "GE",
    "TOSHIBA": "Toshiba",
    "CANON": "Canon",
    "SHIMADZU": "Shimadzu",
    "HITACHI": "Hitachi",
    "ZIEHM": "Ziehm",
}


@dataclass(frozen=True)
class XARun:
    """What the header of an XA file says of its run. Nothing in it names a patient: text of the file never gets here.

    Attributes:
        frames: how many there are, counted in the pixel data; in a file that is cut, with those that are missing.
        rows, columns: size of a frame in pixels.
        bits_stored: of a value.
        transfer_syntax: UID.
        sop_class_uid: UID, or an empty word where it is none that DICOM knows (with `require_xa=False`).
        photometric_interpretation: `MONOCHROME1` or `MONOCHROME2`.
        intensity_relationship: `LIN`, `LOG`, `DISP`, `SQRT` or `OTHER`, or None.
        spacing: of a pixel at the patient.
        frame_time_ms: from one frame to the next (the mean, where they differ), or None.
        primary_angle_deg, secondary_angle_deg: positioner angles of the first frame (PS3.3 C.8.7.5), or None: LAO and
            cranial are positive.
        vendor: a known maker of X-ray systems, `other`, or None.
        plane: `single`, or `A` (frontal) or `B` (lateral) of a biplane run.
        r_wave_frames: frames at R waves from 0, from R Wave Pointer or the ECG curve, or None.
        representative_frame: number from 0 of the frame that the maker chose, or None.
        subtracted: whether the run is, or is meant to be viewed as, the difference from a mask frame (DSA).
        burned_in_annotation: as declared, or None.
        fluoroscopy: whether it is said to be one: by the class X-Ray Radiofluoroscopic Image, Radiation Setting SC, or
            the word FLUORO in Image Type. Most show a catheter or wire, and no filled tree.
        flags: what is worth a look, of the words below.
        frame_spacing: the spacing of each frame, where the file gives them one by one (Enhanced XA), else empty.
        shutter: the display shutter of the first frame, or None.
        damaged_frames: numbers from 0 of frames that are cut or missing; others may prove damaged when they are read.

    Flags: `frames_cut` (some are cut or missing), `bytes_behind_the_frames` (left out), `number_of_frames_missing` and
    `number_of_frames_wrong` (counted instead), `offset_table_wrong` (not used), `sequence_delimiter_missing`,
    `modality_lut_not_applied` (it is not for display), `rescale_invalid` and `window_invalid` (not applied),
    `frame_time_from_display_rate`, `positioner_moves`, `subtracted_view_recommended`, `mask_subtraction_declared`,
    `image_type_subtracted`, `r_wave_pointer_wrong`, `representative_frame_wrong`, and `unreadable_` with the DICOM
    keyword of a tag whose value is damaged.
    """

    frames: int
    rows: int
    columns: int
    bits_stored: int
    transfer_syntax: str
    sop_class_uid: str
    photometric_interpretation: str
    intensity_relationship: str | None
    spacing: Spacing
    frame_time_ms: float | None
    primary_angle_deg: float | None
    secondary_angle_deg: float | None
    vendor: str | None
    plane: str
    r_wave_frames: tuple[int, ...] | None
    representative_frame: int | None
    subtracted: bool
    burned_in_annotation: bool | None
    flags: tuple[str, ...]
    frame_spacing: tuple[Spacing, ...] = ()
    shutter: Shutter | None = None
    damaged_frames: tuple[int, ...] = ()
    fluoroscopy: bool = False


def read_run(
    file: str | os.PathLike[str] | BinaryIO, *, require_xa: bool = True, spacing_mm: float | None = None
) -> XARun:
    """What the header of a file says; pixel data is located and counted, not read.

    Args:
        file: a DICOM file of any name, or one that is open (read from its start, left open).
        require_xa: refuse other SOP classes than X-Ray Angiographic Image, Enhanced XA Image and X-Ray
            Radiofluoroscopic Image (also the retired biplane class, which holds two planes in one file in a form that
            was never published).
        spacing_mm: size of a pixel at the patient, for files that do not know it.
    Raises:
        NotAngiographyError: if the file is of another SOP class.
        DamagedDicomError: if it is cut, cannot be opened, or contradicts itself.
        UnsupportedDicomError: if it is no DICOM file, or its pixels are in a form that is not read here.
        ValueError: if `spacing_mm` is no positive number.
    """
    check_spacing(spacing_mm)
    with open_dicom(file) as opened, typed_errors(file, "reading its header"), quiet_pydicom():
        form, table = _check(opened, require_xa=require_xa)
        return _run(opened, form, table, spacing_mm)


def read_frames(
    file: str | os.PathLike[str] | BinaryIO,
    indices: Iterable[int] | None = None,
    *,
    require_xa: bool = True,
    windowed: bool = True,
) -> Iterator[FloatFrame]:
    """The frames of a file one at a time, each decoded when it is asked for.

    Args:
        file: a DICOM file of any name, or one that is open (read from its start, left open).
        indices: frames by number from 0, in any order; None gives all.
        require_xa: as of `read_run`.
        windowed: False gives grey levels from 0 to 2^bits - 1 without a linear window, as frames are written and
            trained on.
    Yields:
        (row, column) float32, row 0 at the top, contrast dark; see `xa_pixels` on what the values are.
    Raises:
        MissingDecoderError: if the frames are compressed by a method whose decoder is not installed.
        ValueError: if a number is no frame of the file.
        NotAngiographyError, DamagedDicomError, UnsupportedDicomError: as by `read_run`; also when a frame is damaged,
            whose number the text then begins with (`read_sound_frames` goes on behind it).
    """
    for frame in _read(file, indices, require_xa=require_xa, windowed=windowed):
        if isinstance(frame, _Damage):
            raise frame.error
        yield frame


def read_sound_frames(
    file: str | os.PathLike[str] | BinaryIO,
    indices: Iterable[int] | None = None,
    *,
    damaged: dict[int, str],
    require_xa: bool = True,
    windowed: bool = True,
) -> Iterator[FloatFrame | None]:
    """As `read_frames`, but a damaged frame costs that frame alone: None stands in its place.

    Args:
        file, indices, require_xa, windowed: as of `read_frames`.
        damaged: gets number from 0 -> what is wrong, of the damaged frames.
    Raises:
        as `read_frames`; the error of the first damaged frame if none of them all is sound.
    """
    first: XAReadError | None = None
    sound = False
    for frame in _read(file, indices, require_xa=require_xa, windowed=windowed):
        if isinstance(frame, _Damage):
            damaged[frame.number] = frame.reason
            first = first or frame.error
            yield None
        else:
            sound = True
            yield frame
    if first is not None and not sound:
        raise first


@dataclass(frozen=True)
class _Damage:
    """What is wrong with one frame."""

    number: int
    reason: str
    error: XAReadError


def _read(
    file: str | os.PathLike[str] | BinaryIO, indices: Iterable[int] | None, *, require_xa: bool, windowed: bool
) -> Iterator[FloatFrame | _Damage]:
    with open_dicom(file) as opened:
        with typed_errors(file, "reading its header"), quiet_pydicom():
            form, table = _check(opened, require_xa=require_xa)
            how = _intensities(opened, form, len(table.frames), windowed=windowed)
        numbers = list(range(len(table.frames)) if indices is None else indices)
        for number in numbers:
            if not 0 <= number < len(table.frames):
                raise ValueError(f"there is no frame {number}: frames are numbered from 0 to {len(table.frames) - 1}")
        for number in numbers:
            try:
                with typed_errors(file, "decoding it"):
                    values = to_intensities(_stored_values(opened, form, table, number), how[number])
            except MissingDecoderError:
                raise
            except XAReadError as error:
                named = type(error)(f"frame {number}: {error}", path=error.path)
                yield _Damage(number, str(error), named)
            else:
                yield values


def _check(opened: XAFile, *, require_xa: bool) -> tuple[PixelFormat, FrameTable]:
    """Refuse what gives no frames, and find the frames of the rest."""
    if require_xa and opened.sop_class_uid not in ANGIOGRAPHY:
        raise NotAngiographyError(
            f"is of {known_name(opened.sop_class_uid, 'SOP class')}, expected X-Ray Angiographic Image Storage, "
            "Enhanced XA Image Storage or X-Ray Radiofluoroscopic Image Storage (--any-sop-class reads others)"
        )
    if opened.sop_class_uid == _DICOMDIR:
        raise UnsupportedDicomError("is a DICOMDIR: it lists files and holds no frames")
    if not opened.has_pixels:
        raise DamagedDicomError("holds no pixel data (is it cut?)")
    form = pixel_format(opened.header)
    return form, locate_frames(opened, frame_bytes=form.frame_bytes, rows=form.rows, columns=form.columns)


def _stored_values(opened: XAFile, form: PixelFormat, table: FrameTable, number: int) -> FloatFrame:
    if number in table.damaged:
        raise DamagedDicomError(table.damaged[number])
    data = read_span(opened.stream, table.frames[number])
    syntax = opened.transfer_syntax
    if syntax in NATIVE_SYNTAXES:
        if table.swapped:
            if len(data) % 2:
                raise UnsupportedDicomError("has 8-bit frames of an odd size in big-endian words")
            data = np.frombuffer(data, np.uint16).byteswap().tobytes()
        return unpack_native(data, form, big_endian=syntax == EXPLICIT_BIG)
    decoded = decode_frame(data, syntax, rows=form.rows, columns=form.columns, bits_allocated=form.bits_allocated)
    return unpack_decoded(decoded, form)


def _intensities(opened: XAFile, form: PixelFormat, frames: int, *, windowed: bool = True) -> list[Intensities]:
    """Of each frame; one and the same for all where the file does not give them frame by frame."""
    angiography = opened.sop_class_uid in ANGIOGRAPHY
    per_frame = range(frames) if opened.header.has_per_frame_groups else range(1)
    how = [intensities(opened.header, form, number, windowed=windowed, angiography=angiography) for number in per_frame]
    return how if opened.header.has_per_frame_groups else how * frames


def _run(opened: XAFile, form: PixelFormat, table: FrameTable, user_mm: float | None) -> XARun:
    header, frames = opened.header, len(table.frames)
    flags = [*table.flags]
    for how in _intensities(opened, form, frames):
        flags += how.flags
    per_frame = range(frames) if header.has_per_frame_groups else range(1)
    frame_spacing = [spacing_at_patient(spacing_tags(header, number), user_mm=user_mm) for number in per_frame]
    frame_time_ms = _frame_time_ms(header, flags)
    r_waves = r_wave_frames(header, frames, frame_time_ms)
    if any(not 1 <= number <= frames for number in header.numbers("RWavePointer")):
        flags.append("r_wave_pointer_wrong")
    if header.word("PositionerMotion", 0) == "DYNAMIC":
        flags.append("positioner_moves")
    representative = _representative_frame(header, frames, flags)
    subtracted = _subtraction_flags(header)
    shutter = read_shutter(header, 0)
    run = XARun(
        frames=frames,
        rows=form.rows,
        columns=form.columns,
        bits_stored=form.bits_stored,
        transfer_syntax=opened.transfer_syntax,
        sop_class_uid=opened.sop_class_uid,
        photometric_interpretation=form.photometric_interpretation,
        intensity_relationship=intensity_relationship(header, 0),
        spacing=spacing_of_run(frame_spacing),
        frame_time_ms=frame_time_ms,
        primary_angle_deg=header.number("PositionerPrimaryAngle", 0),
        secondary_angle_deg=header.number("PositionerSecondaryAngle", 0),
        vendor=_vendor(header),
        plane=_plane(header),
        r_wave_frames=r_waves,
        representative_frame=representative,
        subtracted=bool(subtracted),
        burned_in_annotation={"YES": True, "NO": False}.get(header.word("BurnedInAnnotation")),
        flags=(),
        frame_spacing=tuple(frame_spacing) if header.has_per_frame_groups else (),
        shutter=shutter,
        damaged_frames=tuple(sorted(table.damaged)),
        fluoroscopy=_is_fluoroscopy(opened),
    )
    unreadable = (f"unreadable_{keyword}" for keyword in sorted(header.unreadable))
    return replace(run, flags=tuple(dict.fromkeys([*flags, *subtracted, *unreadable])))


def _frame_time_ms(header: Header, flags: list[str]) -> float | None:
    """Frame Time, the mean of Frame Time Vector, or what the rates for display say (PS3.3 C.7.6.5)."""
    vector = header.numbers("FrameTimeVector")[1:]  # the first is the start of the run
    frame_time = header.number("FrameTime")
    if frame_time is not None and frame_time > 0:
        return frame_time
    if vector and (mean := sum(vector) / len(vector)) > 0:
        return mean
    for keyword in ("RecommendedDisplayFrameRateInFloat", "RecommendedDisplayFrameRate", "CineRate"):
        rate = header.number(keyword)
        if rate is not None and rate > 0:
            flags.append("frame_time_from_display_rate")
            return 1000 / rate
    return None


def _representative_frame(header: Header, frames: int, flags: list[str]) -> int | None:
    number = header.integer("RepresentativeFrameNumber")
    if number is not None and not 1 <= number <= frames:
        flags.append("representative_frame_wrong")
        return None
    return None if number is None else number - 1


def _subtraction_flags(header: Header) -> list[str]:
    flags = []
    if header.word("RecommendedViewingMode") == "SUB":
        flags.append("subtracted_view_recommended")
    operations = {
        str(item.get("MaskOperation", "")).strip().upper() for item in header.sequence("MaskSubtractionSequence")
    }
    if operations & {"AVG_SUB", "TID", "REV_TID"}:
        flags.append("mask_subtraction_declared")
    if is_subtracted(header.words("ImageType")):
        flags.append("image_type_subtracted")
    return flags


def _is_fluoroscopy(opened: XAFile) -> bool:
    header = opened.header
    said = any("FLUORO" in word for word in header.words("ImageType"))
    return said or opened.sop_class_uid == XRF_IMAGE or header.word("RadiationSetting") == "SC"


def is_subtracted(image_type: Sequence[str]) -> bool:
    """Whether the words of an Image Type, in upper case, say that a mask was subtracted."""
    return any("SUBTRACT" in word or word in ("DSA", "SUB") for word in image_type)


def _plane(header: Header) -> str:
    """From the third value of Image Type (PS3.3 C.8.7.1.1.1)."""
    words = header.words("ImageType")
    return {"BIPLANE A": "A", "BIPLANE B": "B"}.get(words[2] if len(words) > 2 else "", "single")


def _vendor(header: Header) -> str | None:
    maker = f"{header.word('Manufacturer')} "
    if maker == " ":
        return None
    return next((vendor for word, vendor in _VENDORS.items() if word in maker), "other")
