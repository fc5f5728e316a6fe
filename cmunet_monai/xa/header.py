"""The technical part of an XA DICOM header, one tag at a time; what identifies a patient is never read."""

import logging
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO

from pydicom.config import disable_value_validation
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.tag import BaseTag

PIXEL_DATA_TAGS = (0x7FE00008, 0x7FE00009, 0x7FE00010)
CURVE_GROUPS = range(0x5000, 0x5020, 2)
_CURVE_ELEMENTS = (0x0005, 0x0010, 0x0020, 0x0030, 0x0103, 0x0110, 0x0112, 0x0114, 0x3000)
_DEFER_BYTES = 4 * 2**20  # nothing that is wanted is larger: the largest table has 65,536 entries of two bytes

_KEYWORDS = (
    *("SOPClassUID", "ImageType", "Manufacturer", "BurnedInAnnotation", "RecommendedViewingMode"),
    "RadiationSetting",
    *("SamplesPerPixel", "PhotometricInterpretation", "NumberOfFrames", "Rows", "Columns", "PixelAspectRatio"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelIntensityRelationship"),
    *("FrameTime", "FrameTimeVector", "FrameIncrementPointer", "CineRate", "RecommendedDisplayFrameRate"),
    *("RecommendedDisplayFrameRateInFloat", "RepresentativeFrameNumber", "RWavePointer"),
    *("PositionerPrimaryAngle", "PositionerSecondaryAngle", "PositionerMotion"),
    *("PixelSpacing", "PixelSpacingCalibrationType", "ImagerPixelSpacing", "EstimatedRadiographicMagnificationFactor"),
    *("DistanceSourceToDetector", "DistanceSourceToPatient", "DistanceSourceToIsocenter"),
    *("ModalityLUTSequence", "RescaleSlope", "RescaleIntercept", "VOILUTSequence"),
    *("WindowCenter", "WindowWidth", "VOILUTFunction", "MaskSubtractionSequence"),
    *("ShutterShape", "ShutterLeftVerticalEdge", "ShutterRightVerticalEdge", "ShutterUpperHorizontalEdge"),
    *("ShutterLowerHorizontalEdge", "CenterOfCircularShutter", "RadiusOfCircularShutter"),
    "VerticesOfThePolygonalShutter",
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
    *("ExtendedOffsetTable", "ExtendedOffsetTableLengths"),
)


@contextmanager
def quiet_pydicom() -> Iterator[None]:
    """Keep pydicom's warnings and log lines in: they quote values and paths, which can name a patient."""
    logger = logging.getLogger("pydicom")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings(), disable_value_validation():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


class Header:
    """The values of a file by DICOM keyword, as numbers and words, or None where they are absent or unreadable.

    With a frame, a value is looked for in the functional groups of that frame, then in the shared ones, then in the
    file itself (PS3.3 C.7.6.16): each group is a sequence of one item, and an attribute of XA stands in one group only.
    """

    def __init__(self, dataset: Dataset, *, little_endian: bool = True) -> None:
        self.dataset = dataset
        self.little_endian = little_endian
        self.unreadable: set[str] = set()
        self._shared = _groups(self.sequence("SharedFunctionalGroupsSequence")[:1])
        self._per_frame = [_groups([item]) for item in self.sequence("PerFrameFunctionalGroupsSequence")]

    @property
    def has_per_frame_groups(self) -> bool:
        return bool(self._per_frame)

    def value(self, keyword: str, frame: int | None = None) -> Any:
        """The value as pydicom gives it; None if it is absent, empty or unreadable (then named in `unreadable`)."""
        for dataset in self._places(frame):
            if keyword in dataset:
                try:
                    value = dataset[keyword].value
                except Exception:  # pydicom raises many kinds on a damaged value
                    self.unreadable.add(keyword)
                    return None
                if value is not None and value != "" and value != b"":
                    return value
        return None

    def numbers(self, keyword: str, frame: int | None = None) -> tuple[float, ...]:
        """All values as finite numbers; empty if there is none or one of them is no number."""
        value = self.value(keyword, frame)
        if value is None:
            return ()
        values = value if isinstance(value, Sequence) and not isinstance(value, str | bytes) else (value,)
        try:
            numbers = tuple(float(item) for item in values)
        except (TypeError, ValueError, OverflowError):
            numbers = (math.nan,)
        if not all(math.isfinite(number) for number in numbers):
            self.unreadable.add(keyword)
            return ()
        return numbers

    def number(self, keyword: str, frame: int | None = None) -> float | None:
        """The first value as a finite number."""
        numbers = self.numbers(keyword, frame)
        return numbers[0] if numbers else None

    def integer(self, keyword: str, frame: int | None = None) -> int | None:
        number = self.number(keyword, frame)
        return None if number is None else int(number)

    def words(self, keyword: str, frame: int | None = None) -> tuple[str, ...]:
        """All values as upper-case words."""
        value = self.value(keyword, frame)
        if value is None:
            return ()
        values = value if isinstance(value, Sequence) and not isinstance(value, str | bytes) else (value,)
        return tuple(str(item).strip(" \0").upper() for item in values)

    def word(self, keyword: str, frame: int | None = None) -> str:
        """The first value as an upper-case word, or an empty one."""
        words = self.words(keyword, frame)
        return words[0] if words else ""

    def sequence(self, keyword: str, frame: int | None = None) -> list[Dataset]:
        """The items of a sequence; empty if there is none."""
        value = self.value(keyword, frame)
        return [item for item in value if isinstance(item, Dataset)] if isinstance(value, Sequence) else []

    def _places(self, frame: int | None) -> Iterator[Dataset]:
        if frame is not None:
            if frame < len(self._per_frame):
                yield from self._per_frame[frame]
            yield from self._shared
        yield self.dataset


def read_header(stream: BinaryIO, *, implicit: bool, little_endian: bool) -> tuple[Header, bool]:
    """Read the wanted tags up to the pixel data, which the stream then stands at.

    Returns:
        the header, and whether there is pixel data.
    """
    found = False

    def at_pixel_data(tag: BaseTag | int, vr: str | None, length: int) -> bool:
        nonlocal found
        found = tag in PIXEL_DATA_TAGS
        return found

    tags: list[BaseTag | int] = [group << 16 | element for group in CURVE_GROUPS for element in _CURVE_ELEMENTS]
    tags += [tag for keyword in _KEYWORDS if (tag := tag_for_keyword(keyword)) is not None]
    dataset = read_dataset(
        stream, implicit, little_endian, stop_when=at_pixel_data, defer_size=_DEFER_BYTES, specific_tags=tags
    )
    return Header(dataset, little_endian=little_endian), found


def _groups(items: list[Dataset]) -> list[Dataset]:
    """The items of all functional group macros in the item of a frame."""
    found = []
    for item in items:
        for element in item:
            if element.VR == "SQ" and element.value:
                found.append(element.value[0])
    return found
