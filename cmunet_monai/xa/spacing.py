"""The size of a pixel at the patient, and how it is known.

An XA file can give the pixel at the detector, at the patient, or at neither, under two tags that vendors fill in
differently (PS3.3 10.7.1.3, C.8.7.10.1.1): the detector's pixel shows less of the patient, by the magnification.
`Spacing.source` is one of, in the order in which they are tried:

| source | what it is |
| --- | --- |
| `object_pixel_spacing` | Enhanced XA: Object Pixel Spacing in Center of Beam, of the frame |
| `pixel_spacing_fiducial` | Pixel Spacing, calibrated with an object of known size (a catheter, a sphere) |
| `pixel_spacing_geometry` | Pixel Spacing, calibrated from the geometry of the system |
| `pixel_spacing_calibrated` | Pixel Spacing that is less than the detector's, without a word on how |
| `imager_over_estimated_magnification` | Imager Pixel Spacing over Estimated Radiographic Magnification Factor |
| `imager_over_isocentre_magnification` | Imager Pixel Spacing over (source to detector / source to patient) |
| `user` | the value given by the user |
| `detector_only` | no mm: the detector's pixel is known, the magnification is not |
| `unverified` | no mm: Pixel Spacing alone, of which nobody says in which plane it holds |
| `unknown` | no mm: nothing is given |

Notes: `anisotropic` (rows and columns differ by more than 1%, by a spacing or, without one, by Pixel Aspect Ratio: no
mm, also not the user's, since one number cannot be right),
`varies_between_frames` (by more than 1%: no mm for the run; each frame has its own), `pixel_spacing_is_detectors`
(Pixel Spacing repeats Imager Pixel Spacing), `calibration_contradicted` (and yet claims to be calibrated),
`pixel_spacing_above_detectors` (a magnification below 1), `differs_from_isocentre_estimate` (by more than 15%),
`magnifications_differ` (the two by more than 5%), `magnification_implausible` (not above 1 and up to 5; not used),
`user_value_not_used` (the file knows better) and, after the tag, `pixel_spacing_invalid`,
`imager_pixel_spacing_invalid`, `object_pixel_spacing_invalid`, `pixel_aspect_ratio_invalid` (not two positive
numbers).
"""

import math
from dataclasses import dataclass

from cmunet_monai.xa.header import Header

_SAME = 0.01
_MAX_MAGNIFICATION = 5.0


@dataclass(frozen=True)
class Spacing:
    """The size of a pixel at the patient.

    Attributes:
        value_mm: mm between the centres of neighbouring pixels, or None where it is not known.
        source: how it is known, see the table above.
        notes: what contradicts it, see above.
        aspect: height over width of a pixel, where the two differ by more than 1%.
    """

    value_mm: float | None
    source: str
    notes: tuple[str, ...] = ()
    aspect: float = 1.0


@dataclass(frozen=True)
class SpacingTags:
    """What a file says of one frame; pairs are (between rows, between columns) in mm.

    Attributes:
        object_mm: Object Pixel Spacing in Center of Beam (0018,9404).
        pixel_mm: Pixel Spacing (0028,0030).
        calibration: Pixel Spacing Calibration Type (0028,0A02), or an empty word.
        imager_mm: Imager Pixel Spacing (0018,1164).
        estimated_magnification: Estimated Radiographic Magnification Factor (0018,1114).
        source_to_detector_mm: Distance Source to Detector (0018,1110).
        source_to_patient_mm: Distance Source to Patient (0018,1111); in Enhanced XA to Isocenter (0018,9402).
        aspect: Pixel Aspect Ratio (0028,0034): heights and widths of a pixel (PS3.3 C.7.6.3.1.7), where no spacing is.
    """

    object_mm: tuple[float, ...] = ()
    pixel_mm: tuple[float, ...] = ()
    calibration: str = ""
    imager_mm: tuple[float, ...] = ()
    estimated_magnification: float | None = None
    source_to_detector_mm: float | None = None
    source_to_patient_mm: float | None = None
    aspect: tuple[float, ...] = ()


def spacing_tags(header: Header, frame: int | None = None) -> SpacingTags:
    """What the file says of a frame (numbered from 0; None for a file without functional groups)."""
    to_patient = header.number("DistanceSourceToPatient", frame)
    return SpacingTags(
        object_mm=header.numbers("ObjectPixelSpacingInCenterOfBeam", frame),
        pixel_mm=header.numbers("PixelSpacing", frame),
        calibration=header.word("PixelSpacingCalibrationType", frame),
        imager_mm=header.numbers("ImagerPixelSpacing", frame),
        estimated_magnification=header.number("EstimatedRadiographicMagnificationFactor", frame),
        source_to_detector_mm=header.number("DistanceSourceToDetector", frame),
        source_to_patient_mm=header.number("DistanceSourceToIsocenter", frame) if to_patient is None else to_patient,
        aspect=header.numbers("PixelAspectRatio", frame),
    )


def spacing_at_patient(tags: SpacingTags, *, user_mm: float | None = None) -> Spacing:
    """The spacing of a frame, from the first source that gives one.

    Args:
        tags: what the file says.
        user_mm: what the user says, for files that do not know.
    Raises:
        ValueError: if `user_mm` is no positive number.
    """
    check_spacing(user_mm)
    notes: list[str] = []
    from_object = _pair(tags.object_mm, "object_pixel_spacing", notes)
    pixel = _pair(tags.pixel_mm, "pixel_spacing", notes)
    imager = _pair(tags.imager_mm, "imager_pixel_spacing", notes)
    factor, factor_source = _magnification(tags, notes)
    estimate = (imager[0] / factor, imager[1] / factor) if imager and factor else None

    pair, source = None, "unknown"
    if pixel and (calibrated := _calibrated(pixel, imager, tags.calibration, notes)):
        pair, source = pixel, calibrated
        if estimate and not _close(_mean(pair), _mean(estimate), 0.15):
            notes.append("differs_from_isocentre_estimate")
    if from_object:
        pair, source = from_object, "object_pixel_spacing"
    elif pair is None and estimate:
        pair, source = estimate, factor_source

    shape = pair or imager or pixel or _aspect(tags.aspect, notes)
    aspect = 1.0
    if shape is not None and is_oblong(*shape):
        notes.append("anisotropic")
        aspect = round(shape[0] / shape[1], 6)
    elif pair is not None:
        value_mm = round(_mean(pair), 6)  # to the nanometre: some tags are single floats
        if user_mm is not None and not _close(value_mm, user_mm, _SAME):
            notes.append("user_value_not_used")
        return Spacing(value_mm, source, tuple(notes))
    if user_mm is not None and pair is None and aspect == 1:
        return Spacing(user_mm, "user", tuple(notes))
    if pair is None and imager:
        source = "detector_only"
    elif pair is None and pixel:
        source = "unverified"
    return Spacing(None, source, tuple(notes), aspect)


def spacing_of_run(frames: list[Spacing]) -> Spacing:
    """One spacing for all frames; without a value where they differ by more than 1%, in mm or in source."""
    first = frames[0]
    notes = tuple(dict.fromkeys(note for frame in frames for note in frame.notes))
    values = [frame.value_mm for frame in frames if frame.value_mm is not None]
    if len({frame.source for frame in frames}) > 1 or (values and not _close(min(values), max(values), _SAME)):
        return Spacing(None, first.source, (*notes, "varies_between_frames"))
    return Spacing(first.value_mm, first.source, notes, first.aspect)


def is_oblong(height: float, width: float) -> bool:
    """Whether a pixel's sides differ by more than 1%: no single number says then how long anything is."""
    return not _close(height, width, _SAME)


def is_spacing_mm(value: object) -> bool:
    """Whether this is a positive, finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf


def check_spacing(spacing_mm: float | None) -> None:
    """Raise a ValueError unless this is None or a size that a pixel at the patient can have, 0.01 to 5 mm."""
    if spacing_mm is not None and not (is_spacing_mm(spacing_mm) and 0.01 <= spacing_mm <= 5):
        raise ValueError(f"`spacing_mm`, the size of a pixel, must be between 0.01 and 5 mm or None, got {spacing_mm}")


def _calibrated(
    pixel: tuple[float, float], imager: tuple[float, float] | None, calibration: str, notes: list[str]
) -> str | None:
    """The source that Pixel Spacing is, or None if it does not hold at the patient."""
    stated = calibration in ("FIDUCIAL", "GEOMETRY")
    if imager and all(_close(a, b, _SAME) for a, b in zip(pixel, imager, strict=True)):
        # The patient is nearer to the source than the detector: no calibration can give the detector's own pixel
        notes.append("pixel_spacing_is_detectors")
        if stated:
            notes.append("calibration_contradicted")
        return None
    above = imager is not None and _mean(pixel) > _mean(imager)
    if above:
        notes.append("pixel_spacing_above_detectors")
    if stated:  # also above the detector's: that may be of another zoom, the calibrated object was in this picture
        return f"pixel_spacing_{calibration.lower()}"
    return "pixel_spacing_calibrated" if imager and not above else None


def _magnification(tags: SpacingTags, notes: list[str]) -> tuple[float | None, str]:
    estimated = tags.estimated_magnification
    to_detector, to_patient = tags.source_to_detector_mm, tags.source_to_patient_mm
    isocentre = to_detector / to_patient if to_detector and to_patient else None
    plausible = {
        source: factor
        for source, factor in (
            ("imager_over_estimated_magnification", estimated),
            ("imager_over_isocentre_magnification", isocentre),
        )
        if factor is not None and 1 < factor <= _MAX_MAGNIFICATION
    }
    if len(plausible) < (estimated is not None) + (isocentre is not None):
        notes.append("magnification_implausible")
    if len(plausible) == 2 and estimated and isocentre and not _close(estimated, isocentre, 0.05):
        notes.append("magnifications_differ")
    for source, factor in plausible.items():
        return factor, source
    return None, ""


def _pair(values: tuple[float, ...], name: str, notes: list[str]) -> tuple[float, float] | None:
    if not values:
        return None
    if len(values) != 2 or min(values) <= 0 or max(values) > 100:
        notes.append(f"{name}_invalid")
        return None
    return values[0], values[1]


def _aspect(values: tuple[float, ...], notes: list[str]) -> tuple[float, float] | None:
    """Height and width of a pixel in its widths."""
    if not values:
        return None
    if len(values) != 2 or min(values) <= 0:
        notes.append("pixel_aspect_ratio_invalid")
        return None
    return values[0] / values[1], 1.0


def _mean(pair: tuple[float, float]) -> float:
    return (pair[0] + pair[1]) / 2


def _close(first: float, second: float, tolerance: float) -> bool:
    return abs(first - second) <= tolerance * max(first, second)
