"""From stored values to intensities in which contrast is dark.

The order is DICOM's (PS3.3 C.11.1, C.11.2; PS3.4 N.2), with one exception: the Modality LUT and the Rescale of XA, XRF
and Enhanced XA objects are left out, and flagged. C.11.1, which describes the module, makes no exception. But PS3.3
C.8.7.1.1.2 gives it another purpose in XA: it leads back to values proportional to the intensity of the beam, which
Pixel Intensity Relationship LOG and DISP say that the stored ones are not; PS3.17 FFF.2.3.1.3.4 says of the same tables
in Enhanced XA that the display does not use them. So nothing that a display would apply is lost whatever the
relationship is. DCMTK (dimomod.cc) and fo-dicom (issue 1442) leave it out for XA and XRF whatever it says, dcm4che
(issue 688) for LOG and DISP. Other classes, which are read on request, are shown with it, but for LOG and DISP.

What is given is what the display would show, but as float32 and without its limits: a linear window is the straight
line of PS3.3 C.11.2.1.2 continued on both sides (0 at the lower edge of the window, 2^bits - 1 at the upper), where
the display would cut it off. A window is chosen for an eye at a monitor; lungs and collimator that it saturates are
still there for the network, and a window that is set wrongly costs nothing. A sigmoid and a VOI LUT are taken as they
are. Without window or LUT, values are as stored.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from cmunet_monai.xa.codecs import DecodedFrame
from cmunet_monai.xa.errors import DamagedDicomError, UnsupportedDicomError
from cmunet_monai.xa.file import MAX_FRAME_PIXELS
from cmunet_monai.xa.header import Header

_RELATIONSHIPS = ("LIN", "LOG", "DISP", "SQRT", "OTHER")
_NOT_FOR_DISPLAY = ("LOG", "DISP")
_WINDOW_FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")

FloatFrame = NDArray[np.float32]


@dataclass(frozen=True)
class PixelFormat:
    """How a value is stored (PS3.3 C.7.6.3)."""

    rows: int
    columns: int
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool
    photometric_interpretation: str

    @property
    def frame_bytes(self) -> int:
        """Size of an uncompressed frame."""
        return self.rows * self.columns * self.bits_allocated // 8

    @property
    def limits(self) -> tuple[float, float]:
        """The lowest and the highest value that the stored bits can hold."""
        full = 2.0**self.bits_stored
        return (-full / 2, full / 2 - 1) if self.signed else (0.0, full - 1)


@dataclass(frozen=True)
class Line:
    """`slope` x value + `intercept`."""

    slope: float
    intercept: float

    def apply(self, values: FloatFrame) -> FloatFrame:
        return values * np.float32(self.slope) + np.float32(self.intercept)


@dataclass(frozen=True)
class Sigmoid:
    """PS3.3 C.11.2.1.3.1."""

    center: float
    width: float
    height: float

    def apply(self, values: FloatFrame) -> FloatFrame:
        exponent = np.clip(-4 * (values - np.float32(self.center)) / np.float32(self.width), -80, 80)
        return (np.float32(self.height) / (1 + np.exp(exponent))).astype(np.float32)


@dataclass(frozen=True)
class LookupTable:
    """PS3.3 C.11.1.1.1: values below the first mapped one give the first entry, values above the last the last."""

    first: int
    entries: FloatFrame
    bits: int

    def apply(self, values: FloatFrame) -> FloatFrame:
        index = np.clip(np.rint(values) - self.first, 0, len(self.entries) - 1)
        return self.entries[index.astype(np.intp)]


Step = Line | Sigmoid | LookupTable


@dataclass(frozen=True)
class Intensities:
    """How the stored values of a frame become intensities.

    Attributes:
        steps: modality transform and VOI transform, of those that there are.
        inverted_about: the sum of the darkest and the brightest possible value, for MONOCHROME1, else None.
        limits: what values are cut to, or None.
        flags: what is worth knowing of them, see `XARun.flags`.
    """

    steps: tuple[Step, ...]
    inverted_about: float | None
    limits: tuple[float, float] | None
    flags: tuple[str, ...]


def pixel_format(header: Header) -> PixelFormat:
    """Read and check how values are stored.

    Raises:
        DamagedDicomError: if a tag is missing or they contradict each other.
        UnsupportedDicomError: if the pixels are in colour, or not of 8 or 16 bits allocated and 8 to 16 stored.
    """
    rows, columns = _needed(header, "Rows"), _needed(header, "Columns")
    if rows < 1 or columns < 1 or rows * columns > MAX_FRAME_PIXELS:
        raise DamagedDicomError(f"has {rows} rows and {columns} columns, expected 1 to {MAX_FRAME_PIXELS} pixels")
    samples = header.integer("SamplesPerPixel")
    photometric = header.word("PhotometricInterpretation")
    if samples not in (None, 1) or photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise UnsupportedDicomError("is no grey picture (one sample per pixel, MONOCHROME1 or MONOCHROME2)")
    allocated, stored = _needed(header, "BitsAllocated"), _needed(header, "BitsStored")
    if allocated not in (8, 16) or not 8 <= stored <= 16:
        raise UnsupportedDicomError(
            f"has {allocated} bits allocated and {stored} stored, expected 8 or 16 allocated and 8 to 16 stored"
        )
    high = header.integer("HighBit")
    high = stored - 1 if high is None else high
    if not stored - 1 <= high < allocated:
        raise DamagedDicomError(f"has {allocated} bits allocated, {stored} stored and the highest bit {high}")
    signed = header.integer("PixelRepresentation") or 0
    if signed not in (0, 1):
        raise DamagedDicomError(f"has the pixel representation {signed}, expected 0 or 1")
    return PixelFormat(rows, columns, allocated, stored, high, signed == 1, photometric)


def _needed(header: Header, keyword: str) -> int:
    value = header.integer(keyword)
    if value is None:
        raise DamagedDicomError(f"has no {keyword}")
    return value


def unpack_native(data: bytes, form: PixelFormat, *, big_endian: bool) -> FloatFrame:
    """The stored values of an uncompressed frame.

    Raises:
        DamagedDicomError: if there are not as many bytes as a frame has.
    """
    if len(data) != form.frame_bytes:
        raise DamagedDicomError(f"a frame has {len(data)} bytes, expected {form.frame_bytes}")
    order = ">" if big_endian else "<"
    values = np.frombuffer(data, f"{order}u{form.bits_allocated // 8}").reshape(form.rows, form.columns)
    return _stored_values(values, form)


def unpack_decoded(frame: DecodedFrame, form: PixelFormat) -> FloatFrame:
    """The stored values of a decoded frame.

    A compressed frame holds either the stored bits alone or the whole allocated cell: its precision tells. Lossy values
    that leave the range of the stored bits are kept: cut to those bits, a white that is a little too bright is black.
    """
    cells = frame.values.astype(np.int32)
    if frame.values.dtype.kind == "i":  # JPEG 2000 keeps the sign, where it was told of it
        if form.signed:
            return cells.astype(np.float32)
        cells &= 2**form.bits_allocated - 1
    if frame.lossy and not form.signed:
        return cells.astype(np.float32)
    if frame.precision > form.bits_stored:
        return _stored_values(cells, form)
    return _with_sign(cells, frame.precision) if form.signed else cells.astype(np.float32)


def _stored_values(cells: NDArray[np.integer], form: PixelFormat) -> FloatFrame:
    shift = form.high_bit + 1 - form.bits_stored
    if shift or form.bits_stored < form.bits_allocated:  # overlays of old files lie in the other bits
        cells = (cells.astype(np.int32) >> shift) & (2**form.bits_stored - 1)
    return _with_sign(cells.astype(np.int32), form.bits_stored) if form.signed else cells.astype(np.float32)


def _with_sign(values: NDArray[np.int32], bits: int) -> FloatFrame:
    """Two's complement of `bits` bits."""
    return np.where(values >= 2 ** (bits - 1), values - 2**bits, values).astype(np.float32)


def intensity_relationship(header: Header, frame: int | None = None) -> str | None:
    """Pixel Intensity Relationship (PS3.3 C.8.7.1.1.2); `OTHER` for a word that DICOM does not know, None for none."""
    word = header.word("PixelIntensityRelationship", frame)
    if not word:
        return None
    return word if word in _RELATIONSHIPS else "OTHER"


def intensities(
    header: Header,
    form: PixelFormat,
    frame: int | None = None,
    *,
    windowed: bool = True,
    angiography: bool = True,
) -> Intensities:
    """How the stored values of a frame become intensities.

    Args:
        header: of the file.
        form: how its values are stored.
        frame: number of the frame from 0, for files with functional groups.
        windowed: False leaves out the straight lines (window, rescale) that nothing but a line follows: what is then
            given are grey levels from 0 to the largest that the bits can hold, and values that lossy compression led
            beyond are cut to these.
        angiography: whether the object is of an X-ray angiography class, whose Modality LUT is not for display.
    Raises:
        DamagedDicomError: if a table that must be applied is damaged.
    """
    flags: list[str] = []
    steps: list[Step] = []
    low, high = form.limits
    if modality := _modality_step(header, form, frame, flags, angiography=angiography):
        steps.append(modality)
        low, high = _range(modality, low, high)
    if voi := _voi_step(header, form, frame, flags):
        steps.append(voi)
        low, high = (0.0, 2.0**voi.bits - 1) if isinstance(voi, LookupTable) else (0.0, form.limits[1] - form.limits[0])
    if not windowed:
        while steps and isinstance(steps[-1], Line):
            steps.pop()
        if not steps:
            low, high = form.limits
        if low:  # signed values
            steps.append(Line(1.0, -low))
            low, high = 0.0, high - low
    inverted = form.photometric_interpretation == "MONOCHROME1"
    limits = None if windowed else (low, high)
    return Intensities(tuple(steps), low + high if inverted else None, limits, tuple(flags))


def _range(step: Step, low: float, high: float) -> tuple[float, float]:
    if isinstance(step, LookupTable):
        return 0.0, 2.0**step.bits - 1
    ends = step.apply(np.asarray([low, high], np.float32))
    return float(ends.min()), float(ends.max())


def _modality_step(
    header: Header, form: PixelFormat, frame: int | None, flags: list[str], *, angiography: bool
) -> Step | None:
    tables = header.sequence("ModalityLUTSequence", frame)
    slope, intercept = header.number("RescaleSlope", frame), header.number("RescaleIntercept", frame)
    if not tables and slope is None and intercept is None:
        return None
    if angiography or intensity_relationship(header, frame) in _NOT_FOR_DISPLAY:
        changes = bool(tables) or (slope not in (None, 1)) or intercept not in (None, 0)
        flags += ["modality_lut_not_applied"] if changes else []
        return None
    if tables:
        return _table(tables[0], header, form)
    if slope == 0:
        flags.append("rescale_invalid")
        return None
    return Line(1.0 if slope is None else slope, intercept or 0.0)


def _voi_step(header: Header, form: PixelFormat, frame: int | None, flags: list[str]) -> Step | None:
    """The first VOI LUT, else the first window: several are alternatives for the viewer to choose from."""
    if tables := header.sequence("VOILUTSequence", frame):
        return _table(tables[0], header, form)
    center, width = header.number("WindowCenter", frame), header.number("WindowWidth", frame)
    if center is None or width is None:
        return None
    function = header.word("VOILUTFunction", frame) or "LINEAR"
    narrowest = 2.0 if function == "LINEAR" else 1e-6  # a linear window of width 1 is a threshold, no line
    if function not in _WINDOW_FUNCTIONS or width < narrowest or max(abs(center), width) > 1e9:
        flags.append("window_invalid")
        return None
    height = form.limits[1] - form.limits[0]
    if function == "SIGMOID":
        return Sigmoid(center, width, height)
    if function == "LINEAR":
        center, width = center - 0.5, width - 1
    return Line(height / width, height * (0.5 - center / width))


def _table(item: Dataset, header: Header, form: PixelFormat) -> LookupTable:
    try:
        length, first, bits = _integers(item["LUTDescriptor"].value, header.little_endian)
        entries = _integers(item["LUTData"].value, header.little_endian)
        packed = item["LUTData"].value
    except (KeyError, TypeError, ValueError):
        raise DamagedDicomError("has a lookup table without a whole descriptor or data") from None
    length, bits = length % 2**16 or 2**16, bits % 2**16  # 0 stands for 65,536
    first = (first % 2**16 ^ 2**15) - 2**15 if form.signed else first % 2**16
    if isinstance(packed, bytes) and len(packed) in (length, length + 1) and bits <= 8 and length > 1:
        entries = list(packed)  # entries of 8 bits, one in a byte
    if not 1 <= bits <= 16 or len(entries) < length:
        raise DamagedDicomError(f"has a lookup table of {len(entries)} entries of {bits} bits, expected {length}")
    values = np.asarray(entries[:length], np.int64) % 2**16
    return LookupTable(first, values.astype(np.float32), bits)


def _integers(value: object, little_endian: bool) -> list[int]:
    if isinstance(value, bytes):
        count = len(value) // 2
        return np.frombuffer(value, f"{'<' if little_endian else '>'}u2", count).tolist()
    return [int(item) for item in value] if isinstance(value, Iterable) else [int(value)]  # type: ignore[call-overload]


def to_intensities(stored: FloatFrame, how: Intensities) -> FloatFrame:
    """Apply the steps; contrast, dark on a display, is dark in the result. The input is not modified.

    Args:
        stored: (row, column) stored values.
    Returns:
        (row, column) float32.
    """
    values = stored
    for step in how.steps:
        values = step.apply(values)
    if how.inverted_about is not None:
        values = np.float32(how.inverted_about) - values
    if how.limits is not None:
        values = np.clip(values, np.float32(how.limits[0]), np.float32(how.limits[1]))
    return values
