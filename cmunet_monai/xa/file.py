"""Where the frames of a DICOM file lie: uncompressed, or in the fragments of encapsulated pixel data (PS3.5 A.4)."""

import io
import os
import struct
import zlib
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import BinaryIO

from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.tag import BaseTag
from pydicom.uid import UID

from cmunet_monai.xa.errors import DamagedDicomError, UnsupportedDicomError, typed_errors
from cmunet_monai.xa.fragments import UNDEFINED_LENGTH, Span, group_fragments, read_fragments
from cmunet_monai.xa.header import Header, quiet_pydicom, read_header

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
MAX_FRAMES = 10_000  # eleven minutes at 15 frames a second; more is a damaged header, or pixels that inflate for ever

Spans = tuple[Span, ...]
"""The parts that joined give one frame; none of a frame that the file does not hold."""


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
        damaged: number from 0 -> what is wrong, of frames that are cut or missing; others may prove damaged when they
            are decoded.
        flags: what the file says wrongly of them, see `XARun.flags`.
        swapped: whether bytes are the wrong way round in pairs: 8-bit values in big-endian words (PS3.5 8.1.1).
    """

    frames: tuple[Spans, ...]
    flags: tuple[str, ...]
    damaged: Mapping[int, str] = field(default_factory=dict)
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


def locate_frames(opened: XAFile, *, frame_bytes: int, rows: int, columns: int) -> FrameTable:
    """Find the frames without reading them.

    What is there counts, not what NumberOfFrames or an offset table say: where they differ, the flags name it. Only of
    a file that is cut NumberOfFrames says how many frames there were.

    Args:
        opened: the file.
        frame_bytes: size of an uncompressed frame.
        rows, columns: of a frame.
    Raises:
        DamagedDicomError: if no frame is whole, or the pixel data is in another form than the transfer syntax says.
        UnsupportedDicomError: if there are more frames than a run has, or they are floating-point numbers.
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
    if native != (length != UNDEFINED_LENGTH):
        form = "encapsulated" if native else "uncompressed"
        raise DamagedDicomError(f"its pixel data is {form}, against its transfer syntax")
    if native:
        if behind := _bytes_behind(length, frame_bytes, rows, columns, declared):
            length -= behind
        table = _native_frames(stream.tell(), length, end, frame_bytes, declared)
        if behind:
            table = replace(table, flags=(*table.flags, "bytes_behind_the_frames"))
        swapped = order == ">" and start[4:6] == b"OW" and opened.header.integer("BitsAllocated") == 8
        table = replace(table, swapped=swapped)
    else:
        table = _encapsulated_frames(opened, end, declared)
    if len(table.frames) > MAX_FRAMES:
        raise UnsupportedDicomError(f"holds {len(table.frames)} frames, expected {MAX_FRAMES} at most")
    return table


def _bytes_behind(length: int, frame_bytes: int, rows: int, columns: int, declared: int | None) -> int:
    """How many bytes of uncompressed pixel data lie behind the last frame and belong to none; a pad byte counts not.

    They are told from a wrong Rows or Columns by this: with another number of these, the data would be a whole number
    of frames.
    """
    if declared is None or length - declared * frame_bytes <= 1 or length % frame_bytes <= 1:
        return 0
    each = length // declared
    other_size = length % declared <= 1 and (each % (frame_bytes // rows) == 0 or each % (frame_bytes // columns) == 0)
    return 0 if other_size else length - declared * frame_bytes


def _native_frames(offset: int, length: int, end: int, frame_bytes: int, declared: int | None) -> FrameTable:
    whole = min(length, end - offset) // frame_bytes
    if length > end - offset:
        expected = declared or length // frame_bytes
        if not whole:
            raise DamagedDicomError(f"its pixel data is cut: the file ends inside the first of {expected} frames")
        missing = _missing(whole, expected, "the file ends before it does")
        frames = tuple(((offset + number * frame_bytes, frame_bytes),) for number in range(whole))
        return FrameTable(frames + ((),) * len(missing), _flags(whole + len(missing), declared, missing), missing)
    if not whole:
        raise DamagedDicomError(f"its pixel data has {length} bytes, less than one frame ({frame_bytes})")
    rest = length - whole * frame_bytes
    if rest > 1:  # one byte makes the length even
        raise DamagedDicomError(
            f"its pixel data ({length} bytes) is no whole number of frames ({frame_bytes} bytes each; {whole} fit): "
            "Rows, Columns or NumberOfFrames is wrong, or it is cut"
        )
    frames = tuple(((offset + number * frame_bytes, frame_bytes),) for number in range(whole))
    return FrameTable(frames, _flags(whole, declared))


def _encapsulated_frames(opened: XAFile, end: int, declared: int | None) -> FrameTable:
    fragments = read_fragments(opened.stream, end)
    segments = (opened.header.integer("BitsAllocated") or 0) // 8 if opened.transfer_syntax == RLE else None
    frames, tables_are_right = group_fragments(
        opened.stream,
        fragments,
        declared=declared,
        extended=_extended_offsets(opened.header),
        rle_segments=segments,
    )
    missing, cut = {}, {}
    if fragments.ending != "delimiter":
        missing = _missing(len(frames), declared or 0, "the pixel data ends before it")
    if fragments.ending == "inside a fragment" and frames:
        cut = {len(frames) - 1: "the file ends before it does"}
    if len(frames) == len(cut):
        raise DamagedDicomError("its pixel data holds no whole frame")
    frames += [()] * len(missing)
    damaged = cut | missing
    flags = [*_flags(len(frames), declared, damaged)]
    if not tables_are_right:
        flags.append("offset_table_wrong")
    if fragments.ending != "delimiter":
        flags.append("sequence_delimiter_missing")
    return FrameTable(tuple(frames), tuple(flags), damaged)


def _missing(found: int, expected: int, reason: str) -> dict[int, str]:
    """The frames behind those that were found, up to a number that can be meant."""
    return dict.fromkeys(range(found, expected if expected <= MAX_FRAMES else found), reason)


def _extended_offsets(header: Header) -> tuple[int, ...]:
    value = header.value("ExtendedOffsetTable")
    return struct.unpack(f"<{len(value) // 8}Q", value[: len(value) // 8 * 8]) if isinstance(value, bytes) else ()


def _flags(found: int, declared: int | None, damaged: Collection[int] = ()) -> tuple[str, ...]:
    flags = ["frames_cut"] if damaged else []
    if declared is None:
        flags += ["number_of_frames_missing"] if found > 1 else []
    elif found != declared:
        flags.append("number_of_frames_wrong")
    return tuple(flags)


def read_span(stream: BinaryIO, spans: Spans) -> bytes:
    """The bytes of one frame."""
    parts = []
    for offset, length in spans:
        stream.seek(offset)
        parts.append(stream.read(length))
    return parts[0] if len(parts) == 1 else b"".join(parts)
