import gzip
import struct
import time
import tracemalloc
from contextlib import suppress

import nibabel
import numpy as np
import pytest

from cmunet_monai.files.nifti import nifti_shape, read_nifti

VALUES = np.arange(15, dtype=np.int16).reshape(5, 3, 1)


def changed(at, format, *values):
    """The bytes of a NIfTI-1 file with other numbers at one place of its header."""
    content = bytearray(nibabel.Nifti1Image(VALUES, np.eye(4)).to_bytes())
    struct.pack_into(f"<{format}", content, at, *values)
    return bytes(content)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
def test_both_versions_are_read_packed_and_unpacked(tmp_path, suffix, kind):
    path = tmp_path / f"x{suffix}"
    affine = np.diag([0.3, 0.2, 1, 1])
    nibabel.save(kind(VALUES, affine), path)
    assert nifti_shape(path) == (5, 3, 1)
    image = read_nifti(path)
    assert np.asarray(image.dataobj).tolist() == VALUES.tolist()
    np.testing.assert_allclose(image.affine, affine)


def test_bytes_say_whether_a_file_is_packed_not_its_name(tmp_path):
    (tmp_path / "plain.nii.gz").write_bytes(changed(0, "i", 348))
    (tmp_path / "packed.nii").write_bytes(gzip.compress(changed(0, "i", 348)))
    for name in ("plain.nii.gz", "packed.nii"):
        assert np.asarray(read_nifti(tmp_path / name).dataobj).tolist() == VALUES.tolist()


@pytest.mark.parametrize(
    "content, said",
    [
        (b"", "it is empty"),
        (b"import os", "not a single-file NIfTI image"),
        (changed(344, "4s", b"ni1\0"), "not a single-file NIfTI image"),
        (changed(40, "8h", 3, 5, -3, 1, 1, 1, 1, 1), "it announces an array of 5 x -3 x 1 values"),
        (changed(40, "h", 0), "it announces an array of no values"),
        (changed(40, "h", 8), "it announces an array of no values"),
        (changed(40, "8h", 7, *[32767] * 7), "expected 1073741824 at most"),
        (changed(70, "h", 128), "NIfTI's type 128"),  # colour
        (changed(70, "h", 32), "NIfTI's type 32"),  # complex
        (changed(108, "f", 1e9), "its values must begin in the first 1048928 bytes"),
        (changed(108, "f", float("nan")), "its values must begin in the first 1048928 bytes"),
        (changed(108, "f", -1), "its values must begin in the first 1048928 bytes"),
        (changed(0, "i", 348)[:-1], "it ends after 381 of 382 bytes"),
        (changed(0, "i", 348)[:200], "header is truncated or damaged"),
        (changed(280, "4f", float("nan"), 0, 0, 0), "is not finite"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_what_is_no_whole_nifti_is_refused_with_a_reason(tmp_path, content, said, packed):
    path = tmp_path / "x.nii.gz"
    path.write_bytes(gzip.compress(content) if packed else content)
    with pytest.raises(ValueError, match=said):
        read_nifti(path)


@pytest.mark.parametrize("size", [1, 20, 60])
def test_a_packed_file_that_is_cut_is_refused(tmp_path, size):
    (tmp_path / "x.nii.gz").write_bytes(gzip.compress(changed(0, "i", 348))[:-size])
    with pytest.raises(ValueError, match="cut or damaged") if size > 8 else pytest.raises(ValueError, match="cut"):
        read_nifti(tmp_path / "x.nii.gz")


BOMBS = {
    "vox_offset": (changed(108, "f", 2.0**29), 2**29),
    "extension": (changed(348, "4b", 1, 0, 0, 0)[:352] + struct.pack("<ii", 2**29, 4), 2**29),
    "behind the values": (changed(0, "i", 348), 2**29),
}


@pytest.mark.parametrize("kind", BOMBS)
def test_a_bomb_is_not_unpacked(tmp_path, kind):
    content, zeros = BOMBS[kind]
    with gzip.open(tmp_path / "bomb.nii.gz", "wb", compresslevel=1) as file:
        file.write(content)
        for _ in range(zeros // 2**24):
            file.write(bytes(2**24))
    tracemalloc.start()
    begin = time.perf_counter()
    with suppress(ValueError):  # refused, or read without what lies around its values
        read_nifti(tmp_path / "bomb.nii.gz")
    assert time.perf_counter() - begin < 2
    assert tracemalloc.get_traced_memory()[1] < 16 * 2**20
    tracemalloc.stop()


def test_values_are_counted_before_they_are_unpacked(tmp_path):
    nibabel.save(nibabel.Nifti1Image(np.zeros((100, 100, 1), np.uint8), np.eye(4)), tmp_path / "x.nii.gz")
    with pytest.raises(ValueError, match="it holds 100 x 100 x 1 values, expected 9999 at most"):
        read_nifti(tmp_path / "x.nii.gz", max_values=9999)
