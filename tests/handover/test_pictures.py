"""Pictures of a package: what is kept of them, and what is refused."""

import io
import zlib

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from cmunet_monai.handover.pictures import check_picture, plain_picture
from cmunet_monai.handover.refused import Refused

PIXELS = np.arange(40 * 30).reshape(40, 30, 1)
WHOLE = PIXELS.astype(np.int16)
TILTED = np.array([[0.2, -0.1, 0, 5], [0.1, 0.2, 0, -7], [0, 0, 1, 3], [0, 0, 0, 1.0]])


def nifti(change=lambda image: None, pixels=WHOLE, affine=TILTED, kind=nib.Nifti1Image):
    image = kind(pixels, affine)
    image.header.set_xyzt_units("mm")
    change(image)
    return image.to_bytes()


def plain(path, content):
    path.write_bytes(content)
    return plain_picture(path)[1]


def test_what_is_made_once_more_of_a_nifti_is_the_same(tmp_path):
    content = plain(tmp_path / "a.nii", nifti())
    assert plain(tmp_path / "b.nii", content) == content
    check_picture(content, ".nii")
    image = nib.Nifti1Image.from_bytes(content)
    assert np.allclose(image.affine, TILTED)
    assert (np.asarray(image.dataobj) == PIXELS).all()


def text(image):
    image.header["descrip"] = b"DOE^JANE"


def extension(image):
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"DOE^JANE"))


def scaled(image):
    image.header.set_slope_inter(2, 1)


@pytest.mark.parametrize("change", [text, extension, scaled])
def test_nifti_with_more_than_its_pixels_is_refused(tmp_path, change):
    with pytest.raises(Refused, match="more in it than the picture"):
        check_picture(nifti(change), ".nii")
    content = plain(tmp_path / "a.nii", nifti(change))
    assert b"DOE^JANE" not in content
    check_picture(content, ".nii")


def test_nifti_with_bytes_at_its_end_or_of_another_version_is_refused(tmp_path):
    content = plain(tmp_path / "a.nii", nifti())
    for other in (content + b"evil", nifti(kind=nib.Nifti2Image)):
        with pytest.raises(Refused, match="more in it than the picture"):
            check_picture(other, ".nii")


@pytest.mark.parametrize(
    "content, reason",
    [
        (b"", "it is empty"),
        (b"x" * 600, "not a single-file NIfTI image"),
        (nifti()[:-1], "it is cut"),
        (nifti(pixels=np.zeros((4, 3, 2), np.uint8)), "4 x 3 x 2 pixels, where 1 to 4096 a side are allowed"),
        (nifti(pixels=np.zeros((4097, 1, 1), np.uint8)), "4097 x 1 x 1 pixels"),
    ],
)
def test_nifti_that_is_no_frame_is_refused(content, reason):
    with pytest.raises(Refused, match=reason):
        check_picture(content, ".nii")


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_png_keeps_its_pixels_in_every_mode(tmp_path, mode):
    before = Image.fromarray(PIXELS[..., 0].astype(np.uint16))
    before = before if mode == "I;16" else before.convert("L").convert(mode)
    before.save(tmp_path / "a.png")
    content = plain_picture(tmp_path / "a.png")[1]
    check_picture(content, ".png")
    with Image.open(io.BytesIO(content)) as after:
        assert after.mode == before.mode
        assert after.tobytes() == before.tobytes()


def test_png_whose_pixels_stand_in_several_pieces_is_written_in_one(tmp_path):
    rows = np.random.default_rng(0).integers(0, 256, (300, 400), np.uint8)
    Image.fromarray(rows).save(tmp_path / "a.png")
    pieces = (tmp_path / "a.png").read_bytes()
    assert pieces.count(b"IDAT") > 1
    with pytest.raises(Refused, match="more in it than the picture"):
        check_picture(pieces, ".png")
    content = plain_picture(tmp_path / "a.png")[1]
    assert content.count(b"IDAT") == 1
    start = content.index(b"IDAT") + 4
    lines = np.frombuffer(zlib.decompress(content[start:-16]), np.uint8).reshape(300, 401)
    assert lines.shape == (300, 401)
    with Image.open(io.BytesIO(content)) as picture:
        assert (np.asarray(picture) == rows).all()


def test_thirty_thousand_chunks_take_no_longer_than_one(tmp_path):
    Image.fromarray(np.zeros((64, 64), np.uint8)).save(tmp_path / "a.png")
    content = plain_picture(tmp_path / "a.png")[1]
    empty = (0).to_bytes(4, "big") + b"IDAT" + zlib.crc32(b"IDAT").to_bytes(4, "big")
    assert plain(tmp_path / "b.png", content[:33] + empty * 30_000 + content[33:]) == content
