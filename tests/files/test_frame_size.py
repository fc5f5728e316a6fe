"""The size of a frame from its header."""

import nibabel
import numpy as np
import pytest
from PIL import Image

from cmunet_monai.files.frame_size import frame_size


def test_width_comes_before_height(tmp_path):
    Image.fromarray(np.zeros((4, 6), np.uint8)).save(tmp_path / "a.png")
    nibabel.save(nibabel.Nifti1Image(np.zeros((6, 4, 1), np.uint8), np.eye(4)), tmp_path / "a.nii.gz")
    assert frame_size(tmp_path / "a.png") == frame_size(tmp_path / "a.nii.gz") == (6, 4)


@pytest.mark.parametrize("name", ["cut.png", "cut.nii", "cut.nii.gz"])
def test_a_file_without_a_header_is_named(tmp_path, name):
    (tmp_path / name).write_bytes(b"\x89PNG")
    with pytest.raises(ValueError, match=rf"{name} is truncated or damaged"):
        frame_size(tmp_path / name)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"lost\.png"):
        frame_size(tmp_path / "lost.png")
