"""The pixels of an XA object as its copy has them, and what they show over time."""

import struct
from dataclasses import dataclass
from itertools import chain
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from cmunet_monai.readers.xa_codecs import decode_frame
from cmunet_monai.readers.xa_errors import UnsupportedDicomError, typed_errors
from cmunet_monai.readers.xa_file import (
    EXPLICIT_BIG,
    IMPLICIT_LITTLE,
    NATIVE_SYNTAXES,
    FrameTable,
    XAFile,
    locate_frames,
    open_dicom,
    read_span,
)
from cmunet_monai.readers.xa_header import quiet_pydicom
from cmunet_monai.readers.xa_pixels import FloatFrame, PixelFormat, pixel_format, unpack_decoded
from data_prep.deidentification.codestream import without_comments
from data_prep.temporal_range import TemporalRange

_ITEM = b"\xfe\xff\x00\xe0"
_ITEM_HEADER_BYTES = 8


@dataclass(frozen=True)
class PlainPixels:
    """Pixels that hold nothing but the picture.

    Attributes:
        value: of Pixel Data; for an encapsulated transfer syntax its items, without the delimiter.
        representation: `OB` or `OW`.
        encapsulated: whether `value` is of undefined length.
        darkest, brightest: (row, column) least and greatest stored value of each pixel over time, as stored: look-up
            tables, windows and shutters, which can hide a text, are not applied.
    """

    value: bytes
    representation: str
    encapsulated: bool
    darkest: FloatFrame
    brightest: FloatFrame


def plain_pixels(stream: BinaryIO) -> PlainPixels:
    """Read the pixels of an XA object without what does not belong to the picture.

    Unused bits above and below those stored, where retired overlays lie (PS3.5 8.1.2), are cleared in uncompressed
    pixels; in compressed ones comments and application data are overwritten (see `codestream`), and the offset table
    is written anew (copies have no extended one). Values are unchanged.

    Args:
        stream: an open XA file, read from its start.
    Raises:
        UnsupportedDicomError: compressed values have something in the unused bits, which cannot be taken out.
        XAReadError: the pixels cannot be read.
    """
    with typed_errors("", "reading its pixels"), open_dicom(stream) as opened, quiet_pydicom():
        form = pixel_format(opened.header)
        table = locate_frames(opened, frame_bytes=form.frame_bytes)
        if opened.transfer_syntax in NATIVE_SYNTAXES:
            return _native(opened, form, table)
        return _encapsulated(opened, form, table)


def _native(opened: XAFile, form: PixelFormat, table: FrameTable) -> PlainPixels:
    order = ">" if opened.transfer_syntax == EXPLICIT_BIG else "<"
    seen, parts = TemporalRange(), []
    for spans in table.frames:
        data = read_span(opened.stream, spans)
        cells: NDArray[Any] = np.frombuffer(data, f"{order}u{form.bits_allocated // 8}")
        plain = _without_unused_bits(cells, form)
        parts.append(data if np.array_equal(plain, cells) else plain.astype(cells.dtype).tobytes())
        shown = plain.view(np.uint16).byteswap().view(np.uint8) if table.swapped else plain
        seen.add(shown.reshape(form.rows, form.columns).astype(np.float32))
    value = b"".join(parts)
    return PlainPixels(
        value + b"\0" * (len(value) % 2), _representation(opened, form), False, seen.darkest, seen.brightest
    )


def _encapsulated(opened: XAFile, form: PixelFormat, table: FrameTable) -> PlainPixels:
    fragments = list(chain.from_iterable(table.frames))
    start = fragments[0][0] - _ITEM_HEADER_BYTES
    opened.stream.seek(start)
    items = bytearray(opened.stream.read(sum(fragments[-1]) - start))
    seen = TemporalRange()
    for spans in table.frames:
        frame = without_comments(read_span(opened.stream, spans), opened.transfer_syntax)
        position = 0
        for offset, length in spans:
            items[offset - start : offset - start + length] = frame.data[position : position + length]
            position += length
        decoded = decode_frame(
            frame.data,
            opened.transfer_syntax,
            rows=form.rows,
            columns=form.columns,
            bits_allocated=form.bits_allocated,
        )
        if not decoded.lossy and decoded.precision > form.bits_stored:
            cells = (decoded.values.astype(np.int32) & 0xFFFF).astype(np.uint16)
            if not np.array_equal(_without_unused_bits(cells, form), cells):
                raise UnsupportedDicomError("has something in the unused bits of compressed pixels (an overlay?)")
        seen.add(unpack_decoded(decoded, form))
    offsets = [spans[0][0] - _ITEM_HEADER_BYTES - start for spans in table.frames]
    # an offset table is written anew: the one in the file can hold anything
    basic = struct.pack(f"<{len(offsets)}L", *offsets) if offsets[-1] < 2**32 else b""
    value = _ITEM + struct.pack("<L", len(basic)) + basic + bytes(items)
    return PlainPixels(value, "OB", True, seen.darkest, seen.brightest)


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
