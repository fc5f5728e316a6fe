"""The fragments of encapsulated pixel data (PS3.5 A.4), and which of them make a frame."""

import itertools
import os
import struct
from dataclasses import dataclass
from typing import BinaryIO

from cmunet_monai.xa.errors import DamagedDicomError

Span = tuple[int, int]
"""Offset and length in bytes."""

UNDEFINED_LENGTH = 0xFFFFFFFF
_ITEM, _DELIMITER = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0"
JP2_SIGNATURE = b"\x00\x00\x00\x0cjP  \r\n\x87\n"  # ITU-T T.800 I.5.1
_FRAME_MARKERS = (b"\xff\xd8\xff", b"\xff\x4f\xff", JP2_SIGNATURE)  # JPEG and JPEG-LS, JPEG 2000 bare and in JP2
_LONGEST_MARKER = max(map(len, _FRAME_MARKERS))
_ENDS = (b"\xff\xd9", b"\xff\xd9\0")  # of an image, in JPEG, JPEG-LS and JPEG 2000 alike, and its pad byte


@dataclass(frozen=True)
class Fragments:
    """The items of encapsulated pixel data.

    Attributes:
        spans: where the value of each fragment is.
        table: the basic offset table, empty where there is none.
        ending: what follows the last fragment: `delimiter`, `end of file`, `inside a fragment` (the file ends there) or
            `something else`.
    """

    spans: tuple[Span, ...]
    table: tuple[int, ...]
    ending: str


def read_fragments(stream: BinaryIO, end: int) -> Fragments:
    """Find the fragments from the place where the stream stands; their values are not read.

    Args:
        stream: stands at the first item, which is the offset table.
        end: size of the file.
    Raises:
        DamagedDicomError: if there is no item at all.
    """
    items: list[Span] = []
    while True:
        tag, length = _next_item(stream)
        if tag == _ITEM and length != UNDEFINED_LENGTH:
            items.append((stream.tell(), length))
            if stream.tell() + length > end:
                ending = "inside a fragment"
                break
            stream.seek(length, os.SEEK_CUR)
            continue
        ending = "delimiter" if tag == _DELIMITER else "something else" if len(tag) == 4 else "end of file"
        break
    if not items:
        raise DamagedDicomError("its pixel data has no fragments")
    stream.seek(items[0][0])
    table = stream.read(min(items[0][1], end - items[0][0]))
    return Fragments(tuple(items[1:]), struct.unpack(f"<{len(table) // 4}L", table[: len(table) // 4 * 4]), ending)


def _next_item(stream: BinaryIO) -> tuple[bytes, int]:
    start = stream.read(8)
    if start[:1] == b"\0" and start[1:5] in (_ITEM, _DELIMITER):  # a pad byte that the length does not count
        start = start[1:] + stream.read(1)
    if len(start) < 8:
        return b"", 0
    return start[:4], struct.unpack("<L", start[4:])[0]


def group_fragments(
    stream: BinaryIO,
    fragments: Fragments,
    *,
    declared: int | None,
    extended: tuple[int, ...] = (),
    rle_segments: int | None = None,
) -> tuple[list[tuple[Span, ...]], bool]:
    """Join fragments to frames, whatever NumberOfFrames and the offset tables say.

    Five things tell where frames begin: markers at the start of fragments, markers at the end of those before, the
    two offset tables, and one fragment for each frame. The one that agrees with NumberOfFrames is taken; where none
    does, the first of these that says anything. Empty fragments belong to no frame.

    Args:
        stream: the file.
        fragments: as found by `read_fragments`.
        declared: NumberOfFrames, or None.
        extended: the Extended Offset Table, empty where there is none.
        rle_segments: for RLE, of which a frame has this many segments (PS3.5 G.5); None for other codecs.
    Returns:
        of each frame its fragments, and whether the offset tables (if any) say the same.
    """
    filled = [span for span in fragments.spans if span[1]]
    if not filled:
        return [], not fragments.table
    markers: tuple[bytes, ...] = _FRAME_MARKERS if rle_segments is None else (struct.pack("<2L", rle_segments, 64),)
    first = next((marker for marker in markers if _start(stream, filled[0]).startswith(marker)), None)
    markers = markers if first is None else (first,)  # in a JP2 file a bare codestream follows
    begins = [number for number, span in enumerate(filled) if _start(stream, span).startswith(markers)]
    follows = [] if rle_segments else [number for number in range(1, len(filled)) if _ends(stream, filled[number - 1])]
    tables = [way for table in (extended, fragments.table) if table and (way := _by_table(table, fragments, filled))]
    ways = [sorted({0, *begins}), sorted({0, *begins, *follows})] if begins else []
    ways += [*tables, list(range(len(filled)))]
    taken = next((way for way in ways if len(way) == declared), ways[0])
    frames = [tuple(filled[first:last]) for first, last in itertools.pairwise([*taken, len(filled)])]
    given = sum(bool(table) for table in (extended, fragments.table))
    return frames, len(tables) == given and all(table == taken for table in tables)


def _by_table(table: tuple[int, ...], fragments: Fragments, filled: list[Span]) -> list[int]:
    """The fragments at which the frames of an offset table begin; nothing if it does not fit the fragments.

    An empty fragment at the start of a frame stands for the one behind it.
    """
    first, number = fragments.spans[0][0], len(filled)
    number_at = {}
    for offset, length in reversed(fragments.spans):
        number -= bool(length)
        if number < len(filled):
            number_at[offset - first] = number
    found = [number_at.get(offset, -1) for offset in table]
    rising = all(before < after for before, after in itertools.pairwise(found))
    return found if found[0] == 0 and rising else []


def _start(stream: BinaryIO, span: Span) -> bytes:
    stream.seek(span[0])
    return stream.read(min(_LONGEST_MARKER, span[1]))


def _ends(stream: BinaryIO, span: Span) -> bool:
    stream.seek(span[0] + max(span[1] - 3, 0))
    return stream.read(min(3, span[1])).endswith(_ENDS)
