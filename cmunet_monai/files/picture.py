"""The one opener of PNG files: Pillow alone opens whatever a file holds, PostScript that it runs included."""

import os
import struct
from pathlib import Path

from PIL import Image

MAX_PIXELS = 8192 * 8192
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_KINDS = {
    b"%!PS": "PostScript", b"%PDF": "PDF", b"II*\0": "TIFF", b"MM\0*": "TIFF", b"\xff\xd8\xff": "JPEG", b"GIF8": "GIF",
    b"BM": "BMP", b"\x1f\x8b": "gzip", b"PK\x03\x04": "zip", b"RIFF": "WebP or another RIFF", b"8BPS": "Photoshop",
    b"\0\0\0\x0cjP  ": "JPEG 2000", b"\xff\x4f\xff\x51": "JPEG 2000",
}  # fmt: skip


def picture_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Width and height of a PNG file in pixels, from its first bytes alone.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no PNG file, or larger than 8192 x 8192 pixels; the text does not name it.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no frame at {path}")
    with open(path, "rb") as file:
        head = file.read(33)
    if not head:
        raise ValueError("it is empty")
    if not head.startswith(_SIGNATURE):
        kind = next((name for start, name in _KINDS.items() if head.startswith(start)), None)
        raise ValueError(f"it is no PNG file{f' but {kind}' if kind else ''}: save it as PNG")
    if len(head) < 33 or head[12:16] != b"IHDR":
        raise ValueError("its PNG header is cut or damaged")
    width, height = struct.unpack_from(">II", head, 16)
    if not 0 < width * height <= MAX_PIXELS:
        raise ValueError(f"it has {width} x {height} pixels, expected 1 to {MAX_PIXELS}")
    return int(width), int(height)


def read_picture(path: str | os.PathLike[str]) -> Image.Image:
    """All of a PNG file, decoded; it has one frame, and no colour of 16 bits, which Pillow cuts to 8.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: for any other file, one that is cut or damaged, and those of `picture_size`; the text does not name
            it.
    """
    picture_size(path)
    try:
        with Image.open(path, formats=("PNG",)) as image:
            frames = getattr(image, "n_frames", 1)
            raw_modes = [tile[3] for tile in getattr(image, "tile", ()) if isinstance(tile[3], str)]
            if frames == 1:
                image.load()
    except (OSError, SyntaxError) as error:
        # the text of "cannot identify" is a path
        text = "its header is damaged" if isinstance(error, Image.UnidentifiedImageError) else str(error)
        raise ValueError(f"it is cut or damaged: {text}") from None
    except Exception:  # Pillow raises many other kinds on damaged chunks, the texts of which say nothing to a user
        raise ValueError("it is cut or damaged") from None
    if frames > 1:
        raise ValueError(f"it holds {frames} frames, expected one")
    if image.mode in ("RGB", "RGBA", "LA") and any(";16" in mode for mode in raw_modes):
        raise ValueError("it is a 16-bit colour image, which would be reduced to 8 bits: save it as 16-bit greyscale")
    return image
