"""Pictures of a package, PNG or NIfTI: pixels and geometry without any text, and a bounded size.

Texts in a picture's file may name a patient, and its decoders are where a crafted file would strike: of a PNG the
chunks that make the picture are kept, of a NIfTI file the numbers. What is made once more of the result is the same.
"""

import io
import os
import struct
import tempfile
from pathlib import Path

from cmunet_monai.handover.refused import Refused

MAX_SIDE = 4096
MAX_BYTES = MAX_SIDE**2 * 8 + 2**20
_SIDES = {".png": slice(16, 24), ".nii": slice(40, 56)}  # where a file says its width and height


def plain_picture(path: str | os.PathLike[str]) -> tuple[str, bytes]:
    """A picture for a package, with its pixels as they are; those of a PNG are not decoded.

    Returns:
        its ending (`.png`, `.nii`) and the file's content.
    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: for another format, a file that cannot be read, or more than MAX_SIDE pixels a side.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no frame at {path}")
    try:
        if path.suffix.lower() == ".png":
            return ".png", _plain_png(path.read_bytes())
        if path.name.lower().endswith((".nii", ".nii.gz")):
            return ".nii", _plain_nifti(path)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    raise ValueError(f"{path}: a test frame must be .png, .nii or .nii.gz; `cmunet dicom` converts DICOM to NIfTI")


def check_picture(content: bytes, suffix: str) -> bytes:
    """Hold a picture to what `plain_picture` makes of it; return the bytes that say its size.

    Raises:
        Refused: if it cannot be read, is too large, or has more in it than the picture.
    """
    with tempfile.TemporaryDirectory(prefix="cmunet-picture-") as folder:
        path = Path(folder) / f"picture{suffix}"
        path.write_bytes(content)
        try:
            plain = plain_picture(path)[1]
        except ValueError as error:
            raise Refused(str(error).removeprefix(f"{path}: ")) from None
    if plain != content:
        raise Refused("more in it than the picture: texts, other chunks, bytes at its end")
    return content[_SIDES[suffix]]


def _check_sides(*sides: int) -> None:
    if not 0 < min(sides) <= max(sides) <= MAX_SIDE or max(sides[2:], default=1) > 1:
        raise Refused(f"a picture of {' x '.join(map(str, sides))} pixels, where 1 to {MAX_SIDE} a side are allowed")


def _plain_nifti(path: Path) -> bytes:
    import numpy as np

    from cmunet_monai.files.nifti import read_nifti, with_geometry_of

    source = read_nifti(path, max_values=MAX_SIDE**2)
    _check_sides(*source.shape)
    return bytes(with_geometry_of(source, np.asarray(source.dataobj)).to_bytes())


def _plain_png(content: bytes) -> bytes:
    from PIL.PngImagePlugin import ChunkStream, putchunk

    if content[:8] != b"\x89PNG\r\n\x1a\n":
        raise Refused("not a PNG file")
    parts = {kind: bytearray() for kind in (b"IHDR", b"PLTE", b"IDAT", b"IEND")}
    stream, kind = io.BytesIO(content[8:]), b""
    chunks = ChunkStream(stream)
    try:
        while kind != b"IEND":
            kind, _, length = chunks.read()
            body = stream.read(length)
            chunks.crc(kind, body)
            parts.get(kind, bytearray()).extend(body)
    except (SyntaxError, struct.error):
        raise Refused("a PNG file that is damaged or cut off") from None
    if len(parts[b"IHDR"]) != 13 or not parts[b"IDAT"]:
        raise Refused("a PNG file without a picture, or with several")
    _check_sides(*struct.unpack_from(">II", parts[b"IHDR"]))
    plain = io.BytesIO()
    plain.write(content[:8])
    for kind in parts:
        if parts[kind] or kind == b"IEND":
            putchunk(plain, kind, bytes(parts[kind]))
    return plain.getvalue()
