"""Frames and masks of a package, PNG or NIfTI: pixels and geometry without any text, and a bounded size.

Texts in a picture's file may name a patient, and its decoders are where a crafted file would strike: of a PNG the
chunks that make the picture are kept, of a NIfTI file the numbers.
"""

import math
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

from cmunet_monai.handover.refused import Refused

MAX_SIDE = 4096
MAX_BYTES = MAX_SIDE**2 * 8 + 352
MAX_CHUNKS = 20_000
_PNG = b"\x89PNG\r\n\x1a\n"
_CRITICAL = (b"IHDR", b"PLTE", b"IDAT", b"IEND")
_NIFTI_HEADER, _NIFTI_DATA = 348, 352
# NIfTI codes of numbers -> bytes: uint8, int16, int32, float32, float64, int8, uint16, uint32
_NIFTI_BYTES = {2: 1, 4: 2, 8: 4, 16: 4, 64: 8, 256: 1, 512: 2, 768: 4}
# Offset and length of the header's texts: data_type, db_name, descrip, aux_file, intent_name
_NIFTI_TEXTS = ((4, 10), (14, 18), (148, 80), (228, 24), (328, 16))


def plain_picture(path: str | os.PathLike[str]) -> tuple[str, bytes]:
    """A frame for a package, with its pixels as they are.

    Returns:
        its ending (`.png`, `.nii`) and the file's content.
    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: for another format, a file that cannot be read, or more than MAX_SIDE pixels a side.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no frame at {path}")
    suffix = ".png" if path.suffix.lower() == ".png" else ".nii"
    if suffix == ".nii" and not path.name.lower().endswith((".nii", ".nii.gz")):
        raise ValueError(f"{path}: a test frame must be .png, .nii or .nii.gz (`data_prep dicom` makes it of DICOM)")
    try:
        if suffix == ".png":
            kept = (_chunk(kind, body) for kind, body in _png_chunks(path.read_bytes()) if kind in _CRITICAL)
            content = _PNG + b"".join(kept)
        else:
            content = _plain_nifti(path)
        check_picture(content, suffix)
    except Refused as error:
        raise ValueError(f"{path}: {error}") from None
    return suffix, content


def check_picture(content: bytes, suffix: str) -> tuple[int, int]:
    """(W, H) of a frame or mask as `plain_picture` makes it; nothing is decoded.

    Raises:
        Refused: for a damaged file, one with texts or other things in it, or one of too many pixels.
    """
    size = _check_png(content) if suffix == ".png" else _check_nifti(content)
    if not all(1 <= side <= MAX_SIDE for side in size):
        raise Refused(f"a picture of {size[0]} x {size[1]} pixels, where 1 to {MAX_SIDE} are allowed")
    return size


# PNG ------------------------------------------------------------------------------------------------------------------


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _png_chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    if not content.startswith(_PNG):
        raise Refused("not a PNG file")
    place, kind, count = len(_PNG), b"", 0
    while kind != b"IEND":
        count += 1
        if count > MAX_CHUNKS:
            raise Refused(f"a PNG file of more than {MAX_CHUNKS} chunks")
        if len(content) < place + 12:
            raise Refused("a PNG file that is cut off")
        (length,) = struct.unpack_from(">I", content, place)
        kind, body = content[place + 4 : place + 8], content[place + 8 : place + 8 + length]
        if content[place + 8 + length : place + 12 + length] != struct.pack(">I", zlib.crc32(kind + body)):
            raise Refused("a PNG file that is damaged or cut off")
        yield kind, body
        place += 12 + length
    if place != len(content):
        raise Refused(f"{len(content) - place} bytes follow the end of the PNG picture")


def _check_png(content: bytes) -> tuple[int, int]:
    chunks = list(_png_chunks(content))
    kinds = [kind for kind, _ in chunks]
    foreign = set(kinds) - set(_CRITICAL)
    if foreign or kinds[0] != b"IHDR" or kinds.count(b"IHDR") != 1 or len(chunks[0][1]) != 13:
        raise Refused("a PNG file with more in it than the picture (texts, profiles, animation), or in another order")
    width, height = struct.unpack_from(">II", chunks[0][1])
    return width, height


# NIfTI ----------------------------------------------------------------------------------------------------------------


def _plain_nifti(path: Path) -> bytes:
    import numpy as np

    from cmunet_monai.files.nifti import read_nifti, with_geometry_of

    try:
        source = read_nifti(path, max_values=MAX_SIDE**2)
        return bytes(with_geometry_of(source, np.asarray(source.dataobj)).to_bytes())
    except ValueError as error:
        raise Refused(f"cannot be read as NIfTI: {error}") from error


def _check_nifti(content: bytes) -> tuple[int, int]:
    head = content[:_NIFTI_DATA]
    if len(head) < _NIFTI_DATA or head[:4] != struct.pack("<i", _NIFTI_HEADER) or head[344:348] != b"n+1\0":
        raise Refused("not a NIfTI-1 file of one part")
    dimensions = struct.unpack_from("<8h", head, 40)
    (code,) = struct.unpack_from("<h", head, 70)
    (start,) = struct.unpack_from("<f", head, 108)
    if any(head[first : first + length].strip(b"\0") for first, length in _NIFTI_TEXTS):
        raise Refused("a NIfTI file with texts in its header")
    if start != _NIFTI_DATA or head[_NIFTI_HEADER:] != bytes(4):
        raise Refused("a NIfTI file with an extension")
    sides = dimensions[1 : 1 + dimensions[0]] if 2 <= dimensions[0] <= 7 else ()
    if not sides or min(sides) < 1 or any(side != 1 for side in sides[2:]) or code not in _NIFTI_BYTES:
        raise Refused("a NIfTI file that is not one frame of whole or real numbers")
    if len(content) != _NIFTI_DATA + math.prod(sides) * _NIFTI_BYTES[code]:
        raise Refused("a NIfTI file whose size is not that of its pixels")
    return sides[0], sides[1]
