"""Lossless JPEG by GDCM, for where the GPL decoder is not wanted.

GDCM ends the whole process on damaged JPEG (an exception that C++ does not catch), in its headers above all. So it
never sees baseline JPEG, and lossless JPEG only with headers that were checked to the last byte: 4,000 mutated files
then passed, where one of the first 600 ended the process before.
"""

import re
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from cmunet_monai.readers.xa_errors import DamagedDicomError

_TABLES, _LOSSLESS, _START_OF_SCAN = 0xC4, 0xC3, 0xDA
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # in data: neither a stuffed byte, nor a restart, nor fill


def decode_lossless(
    gdcm: ModuleType, data: bytes, transfer_syntax: str, *, rows: int, columns: int, precision: int
) -> NDArray[np.integer]:
    """Decode a frame of JPEG process 14, of any predictor.

    Args:
        gdcm: the module.
        data: the joined fragments of the frame.
        transfer_syntax: UID, of JPEG lossless.
        rows, columns, precision: as in the frame's own header.
    Returns:
        (row, column) uint8 or uint16.
    Raises:
        DamagedDicomError: if the frame is no whole lossless JPEG.
    """
    _check_lossless(data)
    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(data)
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    allocated = 8 if precision <= 8 else 16
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((columns, rows, 1))
    image.SetDataElement(element)
    image.SetPhotometricInterpretation(
        gdcm.PhotometricInterpretation(gdcm.PhotometricInterpretation.GetPIType("MONOCHROME2"))
    )
    image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(transfer_syntax)))
    image.SetPixelFormat(gdcm.PixelFormat(1, allocated, precision, precision - 1, 0))
    buffer = image.GetBuffer()  # a str of C's char*, as SWIG makes it; None where GDCM gave up
    if buffer is None:
        raise DamagedDicomError("a lossless JPEG frame cannot be decoded")
    decoded = buffer.encode("utf-8", "surrogateescape")
    return np.frombuffer(decoded, np.dtype(f"<u{allocated // 8}")).reshape(rows, columns)


def _check_lossless(data: bytes) -> None:
    """Refuse what GDCM would not survive: any header segment but a whole one that lossless JPEG has, in its order."""
    allowed = (_TABLES, _LOSSLESS, 0xDD, 0xFE, *range(0xE0, 0xF0))  # tables, frame, restarts, comment, applications
    position = data.find(b"\xff\xd8") + 2
    seen: list[int] = []
    component = b""
    while data[position : position + 1] == b"\xff" and position + 4 <= len(data):
        code, length = data[position + 1], int.from_bytes(data[position + 2 : position + 4], "big")
        segment = data[position + 4 : position + 2 + length]
        if length < 2 or len(segment) != length - 2:
            break
        position += 2 + length
        if code == _START_OF_SCAN:
            # The one component, any table, a predictor, neither spectrum nor shift; then values to the end of the image
            scan_is_right = re.fullmatch(rb"\x01(.)[\x00\x10\x20\x30][\x01-\x07]\x00\x00", segment, re.DOTALL)
            marker = _MARKER.search(data, position)
            ends_right = marker is not None and marker[0] == b"\xff\xd9"
            order_is_right = seen.count(_LOSSLESS) == 1 and _TABLES in seen
            if scan_is_right and scan_is_right[1] == component and ends_right and order_is_right:
                return
            break
        if code not in allowed or (code == _TABLES and not _huffman_tables_are_whole(segment)):
            break
        if code == _LOSSLESS:
            if len(segment) != 9 or segment[7] != 0x11:  # one component, not sampled
                break
            component = segment[6:7]
        seen.append(code)
    raise DamagedDicomError("a frame has a damaged JPEG header")


def _huffman_tables_are_whole(segment: bytes) -> bool:
    """ITU-T T.81 B.2.4.2: class 0, up to 17 differences, and no more codes of a length than bits can tell apart."""
    while segment:
        counts = segment[1:17]
        number = sum(counts)
        room = sum(count * 2 ** (16 - bits) for bits, count in enumerate(counts, 1))
        if len(counts) < 16 or segment[0] > 3 or not 1 <= number <= 17 or room >= 2**16:
            return False
        values, segment = segment[17 : 17 + number], segment[17 + number :]
        if len(values) < number or max(values) > 16:
            return False
    return True
