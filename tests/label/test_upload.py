"""Uploaded masks."""

import nibabel
import numpy as np
import pytest
from PIL import Image

from cmunet_monai.label.planes import read_planes
from cmunet_monai.label.upload import check_mask, write_mask_like


@pytest.fixture
def frame(tmp_path):
    path = tmp_path / "frame.png"
    Image.fromarray(np.zeros((20, 30), np.uint8)).save(path)
    return path


@pytest.fixture
def volume(tmp_path):
    path = tmp_path / "volume.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.zeros((30, 20, 4), np.uint8), np.diag([0.2, 0.2, 1, 1])), path)
    return path


def nifti(path, values, affine=None):
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4) if affine is None else affine), path)
    return path


def test_a_mask_comes_back_as_zero_and_one(tmp_path, frame):
    values = np.zeros((20, 30), np.uint8)
    values[3, 7] = 255
    Image.fromarray(values).save(tmp_path / "mask.png")
    mask = check_mask(tmp_path / "mask.png", frame)
    assert mask.shape == (30, 20, 1)
    assert np.argwhere(mask).tolist() == [[7, 3, 0]]


def test_a_nifti_mask_of_a_picture_is_taken_by_its_axes(tmp_path, frame):
    values = np.zeros((30, 20, 1), np.int16)
    values[7, 3] = 1
    assert np.argwhere(check_mask(nifti(tmp_path / "m.nii.gz", values), frame)).tolist() == [[7, 3, 0]]


@pytest.mark.parametrize(
    "values, text",
    [
        (np.zeros((20, 30, 1), np.uint8), "the size of its image"),
        (np.zeros((30, 20, 2), np.uint8), "the size of its image"),
        (np.full((30, 20, 1), 0.5, np.float32), "whole numbers"),
        (np.full((30, 20, 1), -1, np.int16), "whole numbers"),
        (np.arange(600, dtype=np.int16).reshape(30, 20, 1), "600 grey levels up to 599"),
        (np.full((30, 20, 1), np.nan, np.float32), "whole numbers"),
        (np.ones((30, 20, 1), np.uint8), "it has no background pixel"),
    ],
)
def test_what_is_no_mask_of_the_image_is_refused(tmp_path, frame, values, text):
    with pytest.raises(ValueError, match=text):
        check_mask(nifti(tmp_path / "m.nii.gz", values), frame)


def test_a_mask_that_lies_elsewhere_is_refused(tmp_path, volume):
    values = np.zeros((30, 20, 4), np.uint8)
    values[3, 7] = 1
    affine = np.diag([0.2, 0.2, 1, 1])
    assert (check_mask(nifti(tmp_path / "m.nii.gz", values, affine), volume) == values).all()
    with pytest.raises(ValueError, match="another place than its frame"):
        check_mask(nifti(tmp_path / "m.nii.gz", values, np.diag([-0.2, 0.2, 1, 1])), volume)
    affine[0] = -0.2, 0, 0, 0.2 * 29
    mirrored = nifti(tmp_path / "m.nii.gz", values[::-1], affine)
    assert (check_mask(mirrored, volume) == values).all()


@pytest.mark.parametrize("mode", ["P", "RGB", "RGBA", "LA"])
def test_a_mask_in_colour_is_what_was_drawn(tmp_path, frame, mode):
    values = np.zeros((20, 30), np.uint8)
    values[3, 7] = 255
    Image.fromarray(values).convert(mode).save(tmp_path / "label.png")
    assert np.argwhere(check_mask(tmp_path / "label.png", frame)).tolist() == [[7, 3, 0]]


def test_soft_edges_are_no_mask(tmp_path, frame):
    Image.linear_gradient("L").resize((30, 20)).save(tmp_path / "label.png")
    with pytest.raises(ValueError, match="levels up to"):
        check_mask(tmp_path / "label.png", frame)


@pytest.mark.parametrize("kind", ["TIFF", "GIF", "EPS"])
def test_another_format_is_no_mask_whatever_its_name(tmp_path, frame, kind):
    Image.new("L", (30, 20)).save(tmp_path / "label.png", format=kind)
    with pytest.raises(ValueError, match=r"cannot be read as PNG or NIfTI: .* no PNG file but"):
        check_mask(tmp_path / "label.png", frame)


def test_the_servers_paths_are_not_told(tmp_path, frame):
    (tmp_path / "label.png").write_bytes(frame.read_bytes()[:50])
    with pytest.raises(ValueError, match="no label: it is cut or damaged") as caught:
        check_mask(tmp_path / "label.png", frame)
    assert "label.png" not in str(caught.value)


def test_other_files_are_refused_unread(tmp_path, frame):
    for name in ("mask.py", "mask.nrrd", "mask.nii.gz", "mask.png"):
        (tmp_path / name).write_bytes(b"import os")
        with pytest.raises(ValueError, match="cannot be read as PNG or NIfTI"):
            check_mask(tmp_path / name, frame)


def test_masks_are_written_in_the_format_of_their_image(tmp_path, frame, volume):
    mask = (np.random.default_rng(0).random((30, 20, 4)) > 0.5).astype(np.uint8)
    write_mask_like(mask[..., :1], tmp_path / "a.png", image=frame)
    np.testing.assert_array_equal(read_planes(tmp_path / "a.png"), mask[..., :1] * 255)
    write_mask_like(mask, tmp_path / "a.nii.gz", image=volume)
    np.testing.assert_array_equal(read_planes(tmp_path / "a.nii.gz"), mask)
    np.testing.assert_allclose(nibabel.load(tmp_path / "a.nii.gz").affine, np.diag([0.2, 0.2, 1, 1]))
    with pytest.raises(ValueError, match="written in its format"):
        write_mask_like(mask, tmp_path / "b.png", image=volume)
