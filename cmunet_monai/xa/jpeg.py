"""The segments of a JPEG or JPEG-LS frame: what they say, and the fields that can have one value only put right.

A frame of XA has one component. The scan header of a sequential frame then leaves no choice (ITU-T T.81 B.2.3 and
table B.3, T.87 C.2.3): the component is that of the frame header, the spectrum is 0 to 63 (lossless: 0 behind the
predictor), nothing is approximated and nothing interleaved. Scanners write other values there, and decoders refuse
them or decode nonsense.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmunet_monai.xa.errors import DamagedDicomError

BASELINE, EXTENDED, LOSSLESS, JPEG_LS = 0xC0, 0xC1, 0xC3, 0xF7
SEQUENTIAL = (BASELINE, EXTENDED)
_START_OF_FRAME = (*(code for code in range(0xC0, 0xD0) if code not in (0xC4, 0xC8, 0xCC)), JPEG_LS)
_START_OF_SCAN, _END_OF_IMAGE = 0xDA, 0xD9
_STANDALONE = (0x01, *range(0xD0, 0xD9))
END = b"\xff\xd9"
_CONTINUATION = bytes(range(1, 255))  # no marker, and long enough to be missed by no decoder that still wants data


@dataclass(frozen=True)
class JpegFrame:
    """A frame whose scan header is right.

    Attributes:
        data: from the start of the image on; ends with the end of the image.
        form: code of the start-of-frame segment, such as `BASELINE`.
        precision: bits of a value.
        rows, columns, components: of the picture.
    """

    data: bytes
    form: int
    precision: int
    rows: int
    columns: int
    components: int


def read_jpeg(data: bytes) -> JpegFrame:
    """Read the segments up to the coded data (ITU-T T.81 B.2.2).

    Args:
        data: of a frame; what stands before the image is left out, a missing end of the image is put there.
    Raises:
        DamagedDicomError: if there is no image, no frame header, or no coded data.
    """
    start = data.find(b"\xff\xd8\xff")
    if start < 0:
        kind = "zeros" if not any(data) else "other data"
        raise DamagedDicomError(f"its {len(data)} bytes hold {kind}, where a JPEG image must begin")
    whole = bytearray(data[start:])
    position, frame = 2, None
    while position + 4 <= len(whole) and whole[position] == 0xFF:
        code = whole[position + 1]
        if code == 0xFF:  # a fill byte
            position += 1
            continue
        if code in _STANDALONE:
            position += 2
            continue
        if code == _END_OF_IMAGE:
            break
        first, end = position + 4, position + 2 + int.from_bytes(whole[position + 2 : position + 4], "big")
        if end < first or end > len(whole):
            break
        if code in _START_OF_FRAME and end >= first + 6:
            frame = code, bytes(whole[first:end])
        if code == _START_OF_SCAN:
            if frame is None:
                break
            _put_scan_right(whole, first, end, *frame)
            return _frame(whole, *frame)
        position = end
    raise DamagedDicomError("its JPEG header is damaged or cut: it does not lead to coded data")


def _put_scan_right(whole: bytearray, first: int, end: int, form: int, header: bytes) -> None:
    if header[5] != 1 or len(header) < 9 or end - first != 6 or whole[first] != 1:
        return  # several components: refused later
    whole[first + 1] = header[6]
    if form in SEQUENTIAL:
        whole[first + 3 : end] = bytes((0, 63, 0))
    elif form == LOSSLESS:
        whole[first + 4 : end] = bytes((0, whole[end - 1] & 0x0F))
    elif form == JPEG_LS:
        whole[first + 4] = 0


def _frame(whole: bytearray, form: int, header: bytes) -> JpegFrame:
    precision, rows, columns, components = struct.unpack(">BHHB", header[:6])
    if not 2 <= precision <= 16:
        raise DamagedDicomError(f"its JPEG header says {precision} bits in a value, expected 2 to 16")
    end = whole.rfind(END)
    data = bytes(whole[:end] if end > 0 else whole.removesuffix(END[:1]))
    if end < 0 and form == JPEG_LS:  # a decoder of JPEG-LS takes pad bytes for data, one of JPEG passes over them
        data = data.rstrip(b"\0")
    return JpegFrame(data + END, form, precision, rows, columns, components)


def decode_whole(frame: JpegFrame, decode: Callable[[bytes], NDArray[Any]]) -> NDArray[Any]:
    """Decode a frame of Huffman-coded JPEG, if its coded data reaches to the last pixel.

    libjpeg fills what is missing with grey and says nothing. So the frame is decoded twice, once with other data behind
    it: what is whole is the same both times.

    Raises:
        DamagedDicomError: if the coded data ends before the picture does.
    """
    values = decode(frame.data)
    continued = decode(frame.data[: -len(END)] + _CONTINUATION + END)
    if not np.array_equal(values, continued):
        first = int(np.flatnonzero((values != continued).any(axis=1))[0])
        raise DamagedDicomError(f"its compressed data ends early: row {first} of {len(values)} is not whole")
    return values
