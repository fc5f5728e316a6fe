"""Decode one compressed frame, each form by a decoder named here.

| form | decoder | extra |
| --- | --- | --- |
| RLE | this file | |
| JPEG baseline, extended 8 bit | Pillow | |
| JPEG extended 12 bit | pylibjpeg-libjpeg (GPLv3) | `cmunet_monai[dicom-gpl]` |
| JPEG lossless | pylibjpeg-libjpeg where it is installed, else GDCM (`xa_gdcm`) | `cmunet_monai[dicom]` |
| JPEG-LS | pyjpegls | `cmunet_monai[dicom]` |
| JPEG 2000 | pylibjpeg-openjpeg | `cmunet_monai[dicom]` |

The plugins are called directly, since pydicom 2.4 and 3 drive them by different interfaces, and both choose among them
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

from cmunet_monai.readers.xa_errors import DamagedDicomError, MissingDecoderError, UnsupportedDicomError
from cmunet_monai.readers.xa_file import JPEG_2000_LOSSLESS, JPEG_2000_SYNTAXES, JPEG_LS_LOSSLESS, JPEG_LS_SYNTAXES, RLE
from cmunet_monai.readers.xa_gdcm import decode_lossless

_BASELINE, _EXTENDED, _LOSSLESS, _JPEG_LS = 0xC0, 0xC1, 0xC3, 0xF7
_START_OF_FRAME = (*(code for code in range(0xC0, 0xD0) if code not in (0xC4, 0xC8, 0xCC)), _JPEG_LS)
_START_OF_SCAN, _END_OF_IMAGE = 0xDA, 0xD9


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
        raise DamagedDicomError(f"a frame decodes to {decoded.values.shape}, expected {(rows, columns)}")
    return decoded


def _decode_rle(data: bytes, rows: int, columns: int, bits_allocated: int) -> NDArray[np.integer]:
    """PS3.5 annex G: one segment of bytes for each byte of a value, the highest first, each packed by PackBits."""
    expected = bits_allocated // 8
    if len(data) < 64:
        raise DamagedDicomError("an RLE frame is shorter than its header")
    count, *offsets = struct.unpack("<16L", data[:64])
    if count != expected:
        raise DamagedDicomError(f"an RLE frame has {count} segments, expected {expected}")
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
        raise DamagedDicomError(f"an RLE segment gives {len(unpacked)} bytes, expected {length}")
    return np.frombuffer(unpacked, np.uint8, length)


def _decode_jpeg(data: bytes, transfer_syntax: str, rows: int, columns: int) -> DecodedFrame:
    form, precision = _jpeg_header(data, rows, columns)
    if (form == _JPEG_LS) != (transfer_syntax in JPEG_LS_SYNTAXES):
        raise DamagedDicomError("a frame is in another form of JPEG than its transfer syntax says")
    if form == _JPEG_LS:
        # The data is little-endian, as are all machines that torch has builds for
        buffer, _ = _plugin("jpeg_ls", "pyjpegls", "dicom").decode_pixel_data(data)
        values = np.frombuffer(buffer, np.uint8 if precision <= 8 else np.uint16).reshape(rows, columns)
        return DecodedFrame(values, precision, lossy=transfer_syntax != JPEG_LS_LOSSLESS)
    if form in (_BASELINE, _EXTENDED) and precision == 8:
        with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
            return DecodedFrame(np.asarray(image), precision, lossy=True)
    if form == _EXTENDED:
        decoder = _plugin("libjpeg", "pylibjpeg-libjpeg", "dicom-gpl")
        return DecodedFrame(decoder.decode(data), precision, lossy=True)
    if form == _LOSSLESS:
        try:
            values = importlib.import_module("libjpeg").decode(data)
        except ImportError:
            gdcm = _plugin("gdcm", "python-gdcm", "dicom")
            values = decode_lossless(gdcm, data, transfer_syntax, rows=rows, columns=columns, precision=precision)
        return DecodedFrame(values, precision, lossy=False)
    raise UnsupportedDicomError(f"a frame is in JPEG process {form - 0xC0} with {precision} bits, which is not read")


def _jpeg_header(data: bytes, rows: int, columns: int) -> tuple[int, int]:
    """The code of the start-of-frame segment (ITU-T T.81 B.2.2) and the bits of a value."""
    position = data.find(b"\xff\xd8")  # at 0 but for fill bytes
    if position < 0:
        raise DamagedDicomError("a frame has no start of a JPEG image")
    position += 2
    while position + 4 <= len(data):
        if data[position] != 0xFF:
            break
        code = data[position + 1]
        if code == 0xFF:  # a fill byte
            position += 1
            continue
        if code in (_START_OF_SCAN, _END_OF_IMAGE):
            break
        if code in _START_OF_FRAME:
            precision, height, width, components = struct.unpack(">BHHB", data[position + 4 : position + 10])
            _check_size(height, width, components, rows, columns)
            if not 2 <= precision <= 16:
                raise DamagedDicomError(f"a frame has {precision} bits in a value, expected 2 to 16")
            return code, precision
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    raise DamagedDicomError("a frame has no JPEG header of a frame before its data")


def _check_size(height: int, width: int, components: int, rows: int, columns: int) -> None:
    if (height, width) != (rows, columns):
        raise DamagedDicomError(
            f"a compressed frame has {height} rows and {width} columns, the file says {rows} and {columns}"
        )
    if components != 1:
        raise UnsupportedDicomError(f"a compressed frame has {components} colour components, expected one")


def _decode_jpeg_2000(data: bytes, transfer_syntax: str, rows: int, columns: int) -> DecodedFrame:
    """The SIZ segment (ITU-T T.800 A.5.1) is looked at first, the rest is OpenJPEG's."""
    if data[:4] != b"\xff\x4f\xff\x51":
        raise DamagedDicomError("a frame has no start of a JPEG 2000 codestream")
    width, height, x, y, tile_width, tile_height, _, _, components, depth = struct.unpack(">8LHB", data[8:43])
    _check_size(height - y, width - x, components, rows, columns)
    if tile_width == 0 or tile_height == 0 or (width // tile_width + 1) * (height // tile_height + 1) > 65535:
        raise DamagedDicomError("a JPEG 2000 frame has tiles of no possible size")
    precision = (depth & 0x7F) + 1
    if precision > 16:
        raise DamagedDicomError(f"a frame has {precision} bits in a value, expected 2 to 16")
    values = _plugin("openjpeg", "pylibjpeg-openjpeg", "dicom").decode(data, j2k_format=0)
    return DecodedFrame(values, precision, lossy=transfer_syntax != JPEG_2000_LOSSLESS)


def _plugin(module: str, package: str, extra: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise MissingDecoderError(
            f"needs {package} to be decoded, which is not installed: pip install 'cmunet_monai[{extra}]'"
        ) from None
