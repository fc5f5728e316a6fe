"""The pixels of an XA object as its copy has them, and what they show over time."""

import struct
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from cmunet_monai.xa.codecs import decode_frame
from cmunet_monai.xa.errors import DamagedDicomError, UnsupportedDicomError, XAReadError, typed_errors
from cmunet_monai.xa.file import (
    EXPLICIT_BIG,
    IMPLICIT_LITTLE,
    NATIVE_SYNTAXES,
    FrameTable,
    Spans,
    XAFile,
    locate_frames,
    open_dicom,
    read_span,
)
from cmunet_monai.xa.header import quiet_pydicom
from cmunet_monai.xa.pixels import FloatFrame, PixelFormat, pixel_format, unpack_decoded
from data_prep.deidentification.burned_in import TemporalRange
from data_prep.deidentification.codestream import without_comments

_ITEM = b"\xfe\xff\x00\xe0"


@dataclass(frozen=True)
class PlainPixels:
    """Pixels that hold nothing but the picture.

    Attributes:
        value: of Pixel Data; for an encapsulated transfer syntax its items, without the delimiter.
        representation: `OB` or `OW`.
        encapsulated: whether `value` is of undefined length.
        darkest, brightest: (row, column) least and greatest stored value of each pixel over time, as stored: look-up
            tables, windows and shutters, which can hide a text, are not applied.
        left_out: numbers from 0 of damaged frames that the pixels do not have.
    """

    value: bytes
    representation: str
    encapsulated: bool
    darkest: FloatFrame
    brightest: FloatFrame
    left_out: tuple[int, ...] = ()


def plain_pixels(stream: BinaryIO, *, without_damaged_frames: bool = False) -> PlainPixels:
    """Read the pixels of an XA object without what does not belong to the picture.

    Unused bits above and below those stored, where retired overlays lie (PS3.5 8.1.2), are cleared in uncompressed
    pixels; in compressed ones comments and application data are overwritten (see `codestream`), each frame becomes one
    fragment, and the offset table is written anew (copies have no extended one). Values are unchanged.

    Args:
        stream: an open XA file, read from its start.
        without_damaged_frames: leave damaged frames out, instead of raising the error of the first.
    Raises:
        UnsupportedDicomError: compressed values have something in the unused bits, which cannot be taken out.
        XAReadError: the pixels cannot be read, or a frame is damaged; the text begins with its number.
    """
    with typed_errors("", "reading its pixels"), open_dicom(stream) as opened, quiet_pydicom():
        form = pixel_format(opened.header)
        table = locate_frames(opened, frame_bytes=form.frame_bytes, rows=form.rows, columns=form.columns)
        native = opened.transfer_syntax in NATIVE_SYNTAXES
        seen, parts, errors = TemporalRange(), [], {}
        for number, spans in enumerate(table.frames):
            try:
                with typed_errors("", "decoding it"):
                    if number in table.damaged:
                        raise DamagedDicomError(table.damaged[number])
                    plain, shown = (_native if native else _encapsulated)(opened, form, table, spans)
            except XAReadError as error:
                errors[number] = type(error)(f"frame {number}: {error}")
                if not (without_damaged_frames and isinstance(error, DamagedDicomError)):
                    raise errors[number] from None
                continue
            seen.add(shown)
            parts.append(plain)
        if not parts:
            raise next(iter(errors.values()))
        value, representation = (
            (b"".join(parts), _representation(opened, form)) if native else (_fragments(parts), "OB")
        )
        pad = b"\0" * (len(value) % 2)
        return PlainPixels(value + pad, representation, not native, seen.darkest, seen.brightest, tuple(errors))


def _native(opened: XAFile, form: PixelFormat, table: FrameTable, spans: Spans) -> tuple[bytes, FloatFrame]:
    """A frame as the copy has it, and what it shows."""
    order = ">" if opened.transfer_syntax == EXPLICIT_BIG else "<"
    data = read_span(opened.stream, spans)
    cells: NDArray[Any] = np.frombuffer(data, f"{order}u{form.bits_allocated // 8}")
    plain = _without_unused_bits(cells, form)
    shown = plain.view(np.uint16).byteswap().view(np.uint8) if table.swapped else plain
    copied = data if np.array_equal(plain, cells) else plain.astype(cells.dtype).tobytes()
    return copied, shown.reshape(form.rows, form.columns).astype(np.float32)


def _encapsulated(opened: XAFile, form: PixelFormat, table: FrameTable, spans: Spans) -> tuple[bytes, FloatFrame]:
    """A frame as the copy has it, and what it shows."""
    syntax = opened.transfer_syntax
    data = without_comments(read_span(opened.stream, spans), syntax).data
    decoded = decode_frame(data, syntax, rows=form.rows, columns=form.columns, bits_allocated=form.bits_allocated)
    if not decoded.lossy and decoded.precision > form.bits_stored:
        cells = (decoded.values.astype(np.int32) & 0xFFFF).astype(np.uint16)
        if not np.array_equal(_without_unused_bits(cells, form), cells):
            raise UnsupportedDicomError("has something in the unused bits of compressed pixels (an overlay?)")
    return data + b"\0" * (len(data) % 2), unpack_decoded(decoded, form)


def _fragments(frames: list[bytes]) -> bytes:
    """One fragment for each frame, behind their offset table, where its 32 bits can hold them."""
    offsets = [0, *accumulate(len(frame) + 8 for frame in frames[:-1])]
    basic = struct.pack(f"<{len(offsets)}L", *offsets) if offsets[-1] < 2**32 else b""
    return b"".join(_ITEM + struct.pack("<L", len(item)) + item for item in (basic, *frames))


def _without_unused_bits(cells: NDArray[Any], form: PixelFormat) -> NDArray[Any]:
    """Cells with zeros outside the stored bits; those of signed values may repeat the sign above, then they do."""
    if form.bits_stored == form.bits_allocated:
        return cells
    shift = form.high_bit + 1 - form.bits_stored
    used = ((1 << form.bits_stored) - 1) << shift
    inside = cells & cells.dtype.type(used)
    if not form.signed or shift:
        return inside
    negative = (cells & cells.dtype.type(1 << form.high_bit)) != 0
    extended = np.where(negative, inside | cells.dtype.type(0xFFFF & ~used), inside)
    return np.where(cells == extended, extended, inside)


def _representation(opened: XAFile, form: PixelFormat) -> str:
    if opened.transfer_syntax == IMPLICIT_LITTLE:
        return "OW"
    opened.stream.seek(opened.pixel_offset + 4)
    named = opened.stream.read(2).decode("ascii", "replace")
    return named if named in ("OB", "OW") else ("OB" if form.bits_allocated == 8 else "OW")
