"""Decode one compressed frame.

| form | decoder |
| --- | --- |
| RLE | this file |
| JPEG baseline, extended with 8 bits | Pillow |
| JPEG extended with 12 bits, JPEG lossless, JPEG-LS, JPEG 2000 | imagecodecs, of the extra `cmunet_monai[dicom]` |

imagecodecs (BSD) brings libjpeg-turbo, CharLS and OpenJPEG in one wheel. Measured beside what was used before, on
frames of 512 x 512 with 8 to 16 bits: equal values for lossless JPEG of all seven predictors, JPEG-LS and JPEG 2000;
lossless JPEG in a third of pylibjpeg-libjpeg's time and half of GDCM's, 12-bit JPEG in half of pylibjpeg-libjpeg's
(each decoded twice, see `decode_whole`), JPEG-LS and JPEG 2000 in the same. 9,000 mutated frames ended no process, as
damaged JPEG does with GDCM.

The decoders are called directly, since pydicom 2.4 and 3 drive them by different interfaces, and both choose among them
by what is installed. The size in the compressed frame is compared with Rows and Columns before anything is decoded:
a decoder would make an array of whatever size a damaged frame names.
"""

import importlib
import io
import struct
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cmunet_monai.xa.errors import DamagedDicomError, MissingDecoderError, UnsupportedDicomError
from cmunet_monai.xa.file import JPEG_2000_LOSSLESS, JPEG_2000_SYNTAXES, JPEG_LS_LOSSLESS, JPEG_LS_SYNTAXES, RLE
from cmunet_monai.xa.jpeg import EXTENDED, JPEG_LS, LOSSLESS, SEQUENTIAL, JpegFrame, decode_whole, read_jpeg

_PROCESSES = {0xC2: "progressive", 0xC9: "arithmetic", 0xCA: "arithmetic and progressive", 0xCB: "arithmetic lossless"}
_START_OF_CODESTREAM = b"\xff\x4f\xff\x51"  # SOC and SIZ (ITU-T T.800 A.4.1, A.5.1)
_END_OF_CODESTREAM, _TILE = b"\xff\xd9", 0x90


@dataclass(frozen=True)
class DecodedFrame:
    """Values as the decoder gives them.

    Attributes:
        values: (row, column) of an integer type.
        precision: bits of a value in the compressed frame.
        lossy: whether values can leave the range of the stored bits.
    """

    values: NDArray[Any]
    precision: int
    lossy: bool


def decode_frame(data: bytes, transfer_syntax: str, *, rows: int, columns: int, bits_allocated: int) -> DecodedFrame:
    """Decode a frame of an encapsulated transfer syntax.

    Args:
        data: the joined fragments of the frame.
        transfer_syntax: UID.
        rows, columns: what the frame must measure.
        bits_allocated: 8 or 16; used by RLE, whose frames do not say it.
    Raises:
        DamagedDicomError: if the frame has another size, or no frame can be decoded.
        MissingDecoderError: if the decoder is not installed; the text names the extra.
        UnsupportedDicomError: if the frame is in colour or a form of JPEG that DICOM does not use for XA.
    """
    if transfer_syntax == RLE:
        return DecodedFrame(_decode_rle(data, rows, columns, bits_allocated), bits_allocated, lossy=False)
    if transfer_syntax in JPEG_2000_SYNTAXES:
        decoded = _decode_jpeg_2000(data, transfer_syntax, rows, columns)
    else:
        decoded = _decode_jpeg(data, transfer_syntax, rows, columns)
    if decoded.values.shape != (rows, columns):
        raise DamagedDicomError(f"it decodes to {decoded.values.shape}, expected {(rows, columns)}")
    return decoded


def _decode_rle(data: bytes, rows: int, columns: int, bits_allocated: int) -> NDArray[np.integer]:
    """PS3.5 annex G: one segment of bytes for each byte of a value, the highest first, each packed by PackBits."""
    expected = bits_allocated // 8
    if len(data) < 64:
        raise DamagedDicomError(f"its {len(data)} bytes are less than the header of an RLE frame (64)")
    count, *offsets = struct.unpack("<16L", data[:64])
    if count != expected:
        raise DamagedDicomError(f"its RLE header says {count} segments, expected {expected}")
    values = np.empty((rows * columns, expected), np.uint8)
    for number in range(count):
        last = offsets[number + 1] if number + 1 < count else len(data)
        values[:, number] = _unpack_bits(data[offsets[number] : last], rows * columns)
    return values.view(f">u{expected}")[:, 0].astype(f"u{expected}").reshape(rows, columns)


def _unpack_bits(data: bytes, length: int) -> NDArray[np.uint8]:
    unpacked = bytearray()
    position, end = 0, len(data)
    while position < end and len(unpacked) < length:
        code = data[position]
        if code < 128:
            unpacked += data[position + 1 : position + 2 + code]
            position += code + 2
        elif code > 128:
            unpacked += data[position + 1 : position + 2] * (257 - code)
            position += 2
        else:
            position += 1
    if len(unpacked) < length:
        raise DamagedDicomError(f"its RLE data ends early: {len(unpacked)} bytes, expected {length}")
    return np.frombuffer(unpacked, np.uint8, length)


def _decode_jpeg(data: bytes, transfer_syntax: str, rows: int, columns: int) -> DecodedFrame:
    frame = read_jpeg(data)
    _check_size(frame.rows, frame.columns, frame.components, rows, columns)
    if (frame.form == JPEG_LS) != (transfer_syntax in JPEG_LS_SYNTAXES):
        raise DamagedDicomError("it is in another form of JPEG than its transfer syntax says")
    if frame.form == JPEG_LS:
        values = _damage_named(_imagecodecs().jpegls_decode, frame.data)
        return DecodedFrame(values, frame.precision, lossy=transfer_syntax != JPEG_LS_LOSSLESS)
    if frame.form in SEQUENTIAL and frame.precision == 8:
        return DecodedFrame(decode_whole(frame, _decode_by_pillow), frame.precision, lossy=True)
    if frame.form in (EXTENDED, LOSSLESS):
        return DecodedFrame(_decode_by_turbo(frame), frame.precision, lossy=frame.form == EXTENDED)
    process = _PROCESSES.get(frame.form, f"of process {frame.form - 0xC0}")
    raise UnsupportedDicomError(f"it is {process} JPEG with {frame.precision} bits, which is not read")


def _decode_by_pillow(data: bytes) -> NDArray[Any]:
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
            return np.asarray(image)
    except (OSError, ValueError, SyntaxError):
        raise _undecodable() from None


def _decode_by_turbo(frame: JpegFrame) -> NDArray[Any]:
    decode = _imagecodecs().jpeg8_decode
    return decode_whole(frame, lambda data: _damage_named(decode, data))


def _damage_named(decode: Any, data: bytes) -> NDArray[Any]:
    try:
        return decode(data)
    except MemoryError:
        raise
    except Exception:  # each codec raises its own kind, whose texts are for programmers
        raise _undecodable() from None


def _undecodable() -> DamagedDicomError:
    return DamagedDicomError("its compressed data is damaged and cannot be decoded")


def _check_size(height: int, width: int, components: int, rows: int, columns: int) -> None:
    if (height, width) != (rows, columns):
        raise DamagedDicomError(
            f"its compressed data has {height} rows and {width} columns, the file says {rows} and {columns}"
        )
    if components != 1:
        raise UnsupportedDicomError(f"its compressed data has {components} colour components, expected one")


def _decode_jpeg_2000(data: bytes, transfer_syntax: str, rows: int, columns: int) -> DecodedFrame:
    """The SIZ segment (ITU-T T.800 A.5.1) and the lengths of tiles are looked at first, the rest is OpenJPEG's."""
    data = codestream(data)
    width, height, x, y, tile_width, tile_height, _, _, components, depth = struct.unpack(">8LHB", data[8:43])
    _check_size(height - y, width - x, components, rows, columns)
    if tile_width == 0 or tile_height == 0 or (width // tile_width + 1) * (height // tile_height + 1) > 65535:
        raise DamagedDicomError("its JPEG 2000 header names tiles of no possible size")
    precision = (depth & 0x7F) + 1
    if precision > 16:
        raise DamagedDicomError(f"its JPEG 2000 header says {precision} bits in a value, expected 2 to 16")
    values = _damage_named(_imagecodecs().jpeg2k_decode, data)
    return DecodedFrame(values, precision, lossy=transfer_syntax != JPEG_2000_LOSSLESS)


def codestream(data: bytes) -> bytes:
    """The bare codestream of a JPEG 2000 frame with its end, which some writers wrap in a JP2 file or leave unmarked.

    Raises:
        DamagedDicomError: if there is none, or it ends before its last tile does.
    """
    start = data.find(_START_OF_CODESTREAM)
    if start < 0 or len(data) < start + 43:
        kind = "zeros" if not any(data) else "other data"
        raise DamagedDicomError(f"its {len(data)} bytes hold {kind}, where a JPEG 2000 codestream must begin")
    data = data[start:]
    return data[: _end_of_tiles(data)] + _END_OF_CODESTREAM


def _end_of_tiles(data: bytes) -> int:
    """Where the last tile ends (ITU-T T.800 A.4.2). OpenJPEG fills what is missing of them and says nothing."""
    position, tiles = 2, 0
    while data[position : position + 1] == b"\xff" and position + 4 <= len(data):
        code, length = data[position + 1], int.from_bytes(data[position + 2 : position + 4], "big")
        if code == _END_OF_CODESTREAM[1]:
            break
        if code == _TILE:
            length = int.from_bytes(data[position + 6 : position + 10], "big")
            end = data.rfind(_END_OF_CODESTREAM)
            position, tiles = position + length if length else end if end > 0 else len(data), tiles + 1
        else:
            position += 2 + length
        if position > len(data) or length == 1:
            raise DamagedDicomError("its JPEG 2000 data ends early, or a length in it is damaged")
    if not tiles:
        raise DamagedDicomError("its JPEG 2000 header is damaged or cut: it does not lead to coded data")
    return position


def _imagecodecs() -> ModuleType:
    try:
        return importlib.import_module("imagecodecs")
    except ImportError:
        raise MissingDecoderError(
            "needs imagecodecs to be decoded, which is not installed: pip install 'cmunet_monai[dicom]'"
        ) from None
