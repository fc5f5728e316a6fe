"""Where the frames of a DICOM file lie: uncompressed, or in the fragments of encapsulated pixel data (PS3.5 A.4)."""

import io
import itertools
import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import BinaryIO

from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.tag import BaseTag
from pydicom.uid import UID

from cmunet_monai.readers.xa_errors import DamagedDicomError, UnsupportedDicomError, typed_errors
from cmunet_monai.readers.xa_header import Header, quiet_pydicom, read_header

IMPLICIT_LITTLE = "1.2.840.10008.1.2"
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
DEFLATED_LITTLE = "1.2.840.10008.1.2.1.99"
EXPLICIT_BIG = "1.2.840.10008.1.2.2"
JPEG_SYNTAXES = tuple(f"1.2.840.10008.1.2.4.{number}" for number in (50, 51, 57, 70))
JPEG_LS_SYNTAXES = JPEG_LS_LOSSLESS, _ = "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81"
JPEG_2000_SYNTAXES = JPEG_2000_LOSSLESS, _ = "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91"
RLE = "1.2.840.10008.1.2.5"
NATIVE_SYNTAXES = (IMPLICIT_LITTLE, EXPLICIT_LITTLE, DEFLATED_LITTLE, EXPLICIT_BIG)
SYNTAXES = (*NATIVE_SYNTAXES, *JPEG_SYNTAXES, *JPEG_LS_SYNTAXES, *JPEG_2000_SYNTAXES, RLE)

MAX_FRAME_PIXELS = 2**26  # 8192 x 8192: four times the largest detector; more is a damaged header
MAX_INFLATED_BYTES = 2**31
_UNDEFINED = 0xFFFFFFFF
_FRAME_MARKERS = (b"\xff\xd8\xff", b"\xff\x4f\xff")  # SOI of JPEG and JPEG-LS, SOC of JPEG 2000

Spans = tuple[tuple[int, int], ...]
"""Offset and length in bytes of the parts that joined give one frame."""


@dataclass(frozen=True)
class XAFile:
    """A DICOM file, opened: its header is read, its pixel data not."""

    header: Header
    stream: BinaryIO
    transfer_syntax: str
    sop_class_uid: str
    has_pixels: bool
    pixel_offset: int


@dataclass(frozen=True)
class FrameTable:
    """Where the frames lie.

    Attributes:
        frames: of each frame, where its bytes are.
        flags: what the file says wrongly of them, see `XARun.flags`.
        swapped: whether bytes are the wrong way round in pairs: 8-bit values in big-endian words (PS3.5 8.1.1).
    """

    frames: tuple[Spans, ...]
    flags: tuple[str, ...]
    swapped: bool = False


@contextmanager
def open_dicom(file: str | os.PathLike[str] | BinaryIO) -> Iterator[XAFile]:
    """Open a DICOM file and read its header.

    Args:
        file: its path, or an open file, which is read from its start and left open.
    Raises:
        DamagedDicomError: if it cannot be opened, or its header is damaged.
        UnsupportedDicomError: if it is no DICOM file, or in a transfer syntax that is not read here.
    """
    with ExitStack() as stack:
        with typed_errors(file, "reading its header"):
            if isinstance(file, str | os.PathLike):
                stream = stack.enter_context(_open(file))
            else:
                stream = file
                stream.seek(0)
            with quiet_pydicom():
                opened = _read_up_to_pixels(stream)
        yield opened


def _open(path: str | os.PathLike[str]) -> BinaryIO:
    try:
        return open(path, "rb")
    except OSError as error:
        raise DamagedDicomError(f"cannot be opened ({error.strerror})") from None


def _read_up_to_pixels(stream: BinaryIO) -> XAFile:
    if stream.read(132)[128:] != b"DICM":
        raise UnsupportedDicomError("is no DICOM file (no `DICM` after 128 bytes)")
    meta = read_dataset(stream, False, True, stop_when=_after_file_meta)
    syntax = str(meta.get("TransferSyntaxUID", "") or "")
    if not syntax:
        raise DamagedDicomError("names no transfer syntax (its header is cut or damaged)")
    if syntax not in SYNTAXES:
        raise UnsupportedDicomError(f"is in {known_name(syntax, 'transfer syntax')}, which is not read here")
    if syntax == DEFLATED_LITTLE:
        stream = io.BytesIO(_inflate(stream.read()))
    header, has_pixels = read_header(stream, implicit=syntax == IMPLICIT_LITTLE, little_endian=syntax != EXPLICIT_BIG)
    return XAFile(header, stream, syntax, _sop_class(header, meta), has_pixels, stream.tell())


def _after_file_meta(tag: BaseTag | int, vr: str | None, length: int) -> bool:
    return int(tag) >> 16 != 2


def _sop_class(header: Header, meta: Dataset) -> str:
    """The SOP class, or nothing where it is none that DICOM knows (a damaged one can hold any text)."""
    uid = str(header.value("SOPClassUID") or meta.get("MediaStorageSOPClassUID", "") or "").strip(" \0")
    return uid if UID(uid).name != uid else ""


def known_name(uid: str, kind: str) -> str:
    """The name of a UID for an error; a UID that DICOM does not know is not repeated, since it can be any text."""
    name = UID(uid).name
    return f"an unknown {kind}" if name == uid else f"the {kind} {name}"


def _inflate(data: bytes) -> bytes:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    inflated = inflater.decompress(data, MAX_INFLATED_BYTES)
    if inflater.unconsumed_tail:
        raise UnsupportedDicomError(f"inflates to more than {MAX_INFLATED_BYTES // 2**30} GiB")
    return inflated


def locate_frames(opened: XAFile, *, frame_bytes: int) -> FrameTable:
    """Find the frames without reading them.

    What is there counts, not what NumberOfFrames or an offset table say: where they differ, the flags name it.

    Args:
        opened: the file.
        frame_bytes: size of an uncompressed frame.
    Raises:
        DamagedDicomError: if the pixel data is cut (the text says how many frames are whole), empty, or in another
            form than the transfer syntax says.
    """
    stream = opened.stream
    stream.seek(0, os.SEEK_END)
    end = stream.tell()
    stream.seek(opened.pixel_offset)
    order = ">" if opened.transfer_syntax == EXPLICIT_BIG else "<"
    start = stream.read(8)
    if len(start) < 8:
        raise DamagedDicomError("ends before its pixel data")
    if start[:4] != struct.pack(f"{order}HH", 0x7FE0, 0x0010):
        raise UnsupportedDicomError("holds its pixels as floating-point numbers")
    # A length is even or 0xFFFFFFFF: it cannot be taken for one of these
    size = stream.read(4) if start[4:6] in (b"OB", b"OW", b"UN") else start[4:]
    if len(size) < 4:
        raise DamagedDicomError("ends before its pixel data")
    length = struct.unpack(f"{order}L", size)[0]
    declared = opened.header.integer("NumberOfFrames")
    declared = declared if declared is not None and declared > 0 else None
    native = opened.transfer_syntax in NATIVE_SYNTAXES
    if native != (length != _UNDEFINED):
        form = "encapsulated" if native else "uncompressed"
        raise DamagedDicomError(f"its pixel data is {form}, against its transfer syntax")
    if native:
        table = _native_frames(stream.tell(), length, end, frame_bytes, declared)
        return replace(
            table, swapped=order == ">" and start[4:6] == b"OW" and opened.header.integer("BitsAllocated") == 8
        )
    return _encapsulated_frames(opened, end, declared)


def _native_frames(offset: int, length: int, end: int, frame_bytes: int, declared: int | None) -> FrameTable:
    whole = min(length, end - offset) // frame_bytes
    if length > end - offset:
        raise _cut(whole, declared or length // frame_bytes)
    if not whole:
        raise DamagedDicomError(f"its pixel data has {length} bytes, less than one frame ({frame_bytes})")
    rest = length - whole * frame_bytes
    if rest > 1:  # one byte makes the length even
        raise DamagedDicomError(
            f"its pixel data ({length} bytes) is no whole number of frames ({frame_bytes} bytes each; {whole} fit)"
        )
    frames = tuple(((offset + number * frame_bytes, frame_bytes),) for number in range(whole))
    return FrameTable(frames, _number_flags(whole, declared))


def _encapsulated_frames(opened: XAFile, end: int, declared: int | None) -> FrameTable:
    items, ending = _items(opened.stream, end)
    if not items:
        raise DamagedDicomError("its pixel data has no items")
    (table_offset, table_length), fragments = items[0], items[1:]
    whole_fragments = fragments[:-1] if ending == "inside an item" else fragments
    opened.stream.seek(table_offset)
    table = opened.stream.read(min(table_length, end - table_offset))
    basic = list(struct.unpack(f"<{len(table) // 4}L", table[: len(table) // 4 * 4]))
    extended = _extended_offsets(opened.header)
    positions = [offset - 8 for offset, _ in fragments]
    starts, table_is_right = _frame_starts(opened, positions, fragments, extended or basic, declared)
    frames = tuple(
        tuple(fragments[first:last]) for first, last in zip(starts, [*starts[1:], len(fragments)], strict=True)
    )
    found = len(frames)
    if ending != "delimiter" and (ending == "inside an item" or (declared is not None and found < declared)):
        broken = len(whole_fragments) < len(fragments)
        raise _cut(found - broken if found else 0, declared)
    if not found:
        raise DamagedDicomError("its pixel data holds no frame")
    flags = list(_number_flags(found, declared))
    if not table_is_right:
        flags.append("offset_table_wrong")
    if ending != "delimiter":
        flags.append("sequence_delimiter_missing")
    return FrameTable(frames, tuple(flags))


def _items(stream: BinaryIO, end: int) -> tuple[list[tuple[int, int]], str]:
    """Offset and length of the value of each item, and how they end: `delimiter`, `end of file`, `inside an item`."""
    items: list[tuple[int, int]] = []
    while True:
        start = stream.read(8)
        if len(start) < 8:
            return items, "end of file"
        tag, length = start[:4], struct.unpack("<L", start[4:])[0]
        if tag == b"\xfe\xff\xdd\xe0":
            return items, "delimiter"
        if tag != b"\xfe\xff\x00\xe0" or length == _UNDEFINED:
            raise DamagedDicomError(f"its sequence of fragments is broken after {max(len(items) - 1, 0)} fragments")
        items.append((stream.tell(), length))
        if stream.tell() + length > end:
            return items, "inside an item"
        stream.seek(length, os.SEEK_CUR)


def _extended_offsets(header: Header) -> list[int]:
    value = header.value("ExtendedOffsetTable")
    return list(struct.unpack(f"<{len(value) // 8}Q", value[: len(value) // 8 * 8])) if isinstance(value, bytes) else []


def _frame_starts(
    opened: XAFile, positions: list[int], fragments: list[tuple[int, int]], table: list[int], declared: int | None
) -> tuple[list[int], bool]:
    """The fragments that frames begin with, and whether the offset table (if any) says the same.

    Three things tell: the offset table, markers at the start of fragments, and one fragment for each frame. The one
    that agrees with NumberOfFrames is taken; where none does, the markers, then the table.
    """
    if not fragments:
        return [], True
    number_of = {position - positions[0]: number for number, position in enumerate(positions)}
    by_table = [number_of.get(offset, -1) for offset in table]
    table_fits = bool(table) and by_table[0] == 0 and all(a < b for a, b in itertools.pairwise(by_table))
    one_each = list(range(len(fragments)))
    ways = [by_table] if table_fits else []
    if opened.transfer_syntax == RLE:  # PS3.5 A.4.2: a frame is one fragment
        ways = [one_each]
    elif by_marker := [number for number in one_each if _starts_a_frame(opened.stream, fragments[number])]:
        ways.insert(0, [0, *(number for number in by_marker if number)])
    ways.append(one_each)
    taken = next((way for way in ways if len(way) == declared), ways[0])
    return taken, not table or by_table == taken


def _starts_a_frame(stream: BinaryIO, fragment: tuple[int, int]) -> bool:
    stream.seek(fragment[0])
    return stream.read(min(3, fragment[1])) in _FRAME_MARKERS


def _number_flags(found: int, declared: int | None) -> tuple[str, ...]:
    if declared is None:
        return ("number_of_frames_missing",) if found > 1 else ()
    return ("number_of_frames_wrong",) if found != declared else ()


def _cut(whole: int, declared: int | None) -> DamagedDicomError:
    expected = "an unknown number" if declared is None else str(declared)
    return DamagedDicomError(f"its pixel data is cut: {whole} whole frames of {expected}")


def read_span(stream: BinaryIO, spans: Spans) -> bytes:
    """The bytes of one frame."""
    parts = []
    for offset, length in spans:
        stream.seek(offset)
        parts.append(stream.read(length))
    return parts[0] if len(parts) == 1 else b"".join(parts)
