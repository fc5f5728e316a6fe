"""What a compressed frame holds besides its picture: comments and application data, emptied in place."""

from dataclasses import dataclass

from cmunet_monai.xa.codecs import codestream
from cmunet_monai.xa.errors import DamagedDicomError, UnsupportedDicomError
from cmunet_monai.xa.file import JPEG_2000_SYNTAXES, JPEG_LS_SYNTAXES, JPEG_SYNTAXES, RLE
from cmunet_monai.xa.jpeg import read_jpeg

_EOI, _SOS, _COMMENT = 0xD9, 0xDA, 0xFE
_APPLICATION = range(0xE0, 0xF0)
_RESTARTS = range(0xD0, 0xD8)
_LS_FRAME, _LS_PARAMETERS = 0xF7, 0xF8
_FRAMES = tuple(code for code in range(0xC0, 0xD0) if code not in (0xC4, 0xC8, 0xCC))
_NEEDED = (*_FRAMES, 0xC4, 0xCC, 0xDB, 0xDC, 0xDD, _LS_FRAME, _LS_PARAMETERS)
"""Frame headers, Huffman, arithmetic and quantisation tables, number of lines, restart interval, JPEG-LS parameters."""
_J2K_SIZE, _J2K_COMMENT, _J2K_TILE, _J2K_DATA, _J2K_END = 0x51, 0x64, 0x90, 0x93, 0xD9
_J2K_NEEDED = (0x50, _J2K_SIZE, 0x52, 0x53, 0x55, 0x57, 0x58, 0x5C, 0x5D, 0x5E, 0x5F, 0x60, 0x61, 0x63)
"""CAP, SIZ, COD, COC, TLM, PLM, PLT, QCD, QCC, RGN, POC, PPM, PPT, CRG (ITU-T T.800 table A.2)."""


@dataclass(frozen=True)
class PlainFrame:
    """A compressed frame without text.

    Attributes:
        data: with the same picture, as a decoder takes it: bare, its scan header right, with its end.
        precision: bits of a value, or None for RLE, which does not say.
    """

    data: bytes
    precision: int | None


def without_comments(data: bytes, transfer_syntax: str) -> PlainFrame:
    """Overwrite with zeros what a decoder does not need, and cut off what stands around the image.

    In JPEG and JPEG-LS the payload of COM and of all APPn segments (ITU-T T.81 B.2.4) and whatever follows the end of
    the image; in JPEG 2000 the text of COM (ITU-T T.800 A.9.2), what follows the end, and the boxes of a JP2 file; RLE
    has none of these.

    Args:
        data: the joined fragments of a frame.
        transfer_syntax: UID of an encapsulated one.
    Raises:
        DamagedDicomError: the segments cannot be followed to the end of the image.
        UnsupportedDicomError: a segment of a kind that no picture of XA has, and that can hold anything.
    """
    if transfer_syntax == RLE:
        return PlainFrame(data, None)
    try:
        if transfer_syntax in JPEG_2000_SYNTAXES:
            return _without_comments_of_jpeg_2000(bytearray(codestream(data)))
        if transfer_syntax in (*JPEG_SYNTAXES, *JPEG_LS_SYNTAXES):
            return _without_comments_of_jpeg(bytearray(read_jpeg(data).data))
    except IndexError:
        raise DamagedDicomError("a compressed frame ends inside a segment") from None
    raise UnsupportedDicomError("is compressed in a way whose comments are not known")


def _without_comments_of_jpeg(data: bytearray) -> PlainFrame:
    position, precision = 2, None
    while True:
        if data[position] != 0xFF:
            raise DamagedDicomError("a compressed frame has no segment where one must be")
        code = data[position + 1]
        if code == 0xFF:
            position += 1
            continue
        if code == _EOI:
            break
        start, end = position + 4, position + 2 + _length(data, position + 2)
        if code == _COMMENT or code in _APPLICATION:
            data[start:end] = bytes(end - start)
        elif code == _SOS:
            end = _end_of_scan(data, end)
        elif code not in _NEEDED:
            raise UnsupportedDicomError("a compressed frame has a segment of an unknown kind")
        if code in _FRAMES or code == _LS_FRAME:
            precision = data[start]
        position = end
    del data[position + 2 :]
    return PlainFrame(bytes(data), precision)


def _end_of_scan(data: bytearray, position: int) -> int:
    """Where the segment after the coded data begins: in JPEG 0xFF in data is followed by 0, in JPEG-LS by a 0 bit."""
    while True:
        position = data.find(b"\xff", position)
        if position < 0:
            raise DamagedDicomError("a compressed frame is cut")
        code = data[position + 1]
        if code >= 0x80 and code not in _RESTARTS and code != 0xFF:
            return position
        position += 1 if code == 0xFF else 2


def _without_comments_of_jpeg_2000(data: bytearray) -> PlainFrame:
    precision = (data[42] & 0x7F) + 1
    position, part_end = 2, 0
    while True:
        if data[position] != 0xFF:
            raise DamagedDicomError("a compressed frame has no segment where one must be")
        code = data[position + 1]
        if code == _J2K_END:
            break
        if code == _J2K_DATA:
            if part_end <= position:
                raise DamagedDicomError("a tile of a compressed frame has no length")
            position = part_end
            continue
        end = position + 2 + _length(data, position + 2)
        if code == _J2K_TILE:
            length = int.from_bytes(data[position + 6 : position + 10], "big")
            # 0: up to the end of the image
            part_end = position + length if length else len(data) - 2
        elif code == _J2K_COMMENT:
            data[position + 6 : end] = bytes(end - position - 6)  # the kind of comment is kept
        elif code not in _J2K_NEEDED:
            raise UnsupportedDicomError("a compressed frame has a segment of an unknown kind")
        position = end
    del data[position + 2 :]
    return PlainFrame(bytes(data), precision)


def _length(data: bytearray, position: int) -> int:
    """Of a segment, its two bytes of length counted."""
    length = data[position] << 8 | data[position + 1]
    if length < 2 or position + length > len(data):
        raise DamagedDicomError("a compressed frame has a segment of an impossible length")
    return length
