import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from cmunet_monai.files.picture import picture_size, read_picture

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width, height, data=b"\0\0"):
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return SIGNATURE + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def test_a_picture_is_read_whole(tmp_path):
    values = np.arange(15, dtype=np.uint8).reshape(3, 5)
    Image.fromarray(values).save(tmp_path / "x.png")
    assert picture_size(tmp_path / "x.png") == (5, 3)
    assert np.asarray(read_picture(tmp_path / "x.png")).tolist() == values.tolist()


@pytest.mark.parametrize(
    "content, said",
    [
        (b"", "it is empty"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "no PNG file but PostScript"),
        (b"%PDF-1.7\n", "no PNG file but PDF"),
        (b"II*\0" + bytes(40), "no PNG file but TIFF"),
        (b"\xff\xd8\xff\xe0" + bytes(40), "no PNG file but JPEG"),
        (b"\x1f\x8b\x08" + bytes(40), "no PNG file but gzip"),
        (b"something else", "no PNG file: save it as PNG"),
        (SIGNATURE + bytes(4), "PNG header is cut or damaged"),
        (png(1, 1)[:40], "cut or damaged"),
        (png(0, 1), "it has 0 x 1 pixels"),
    ],
)
def test_what_is_no_whole_png_is_refused_with_a_reason(tmp_path, content, said):
    path = tmp_path / "x.png"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=said):
        read_picture(path)


@pytest.mark.parametrize("size", [(8193, 8192), (20_000, 20_000), (2**31 - 1, 2**31 - 1)])
def test_a_picture_of_too_many_pixels_is_refused_by_its_header_without_a_warning(tmp_path, size):
    path = tmp_path / "bomb.png"
    path.write_bytes(png(*size))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for look in (picture_size, read_picture):
            with pytest.raises(ValueError, match=f"{size[0]} x {size[1]} pixels, expected 1 to 67108864"):
                look(path)


def test_several_frames_and_deep_colours_are_refused(tmp_path):
    frame = Image.new("L", (4, 4))
    frame.save(tmp_path / "two.png", save_all=True, append_images=[Image.new("L", (4, 4), 9)])
    with pytest.raises(ValueError, match="2 frames, expected one"):
        read_picture(tmp_path / "two.png")
    header = struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0)  # 16 bits, colour
    rows = zlib.compress(b"\0" + bytes(6))
    deep = SIGNATURE + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    (tmp_path / "deep.png").write_bytes(deep)
    with pytest.raises(ValueError, match="16-bit colour"):
        read_picture(tmp_path / "deep.png")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no frame at .*x\.png"):
        read_picture(tmp_path / "x.png")
