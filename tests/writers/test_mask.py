"""Masks as files with the geometry of their frame."""

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from cmunet_monai.writers import write_mask

MASK = np.zeros((1, 6, 4), np.uint8)  # (1, W, H)
MASK[0, 5, 0] = 1  # the upper right corner


def test_png_is_upright_with_0_and_255(tmp_path):
    write_mask(MASK, tmp_path / "m.png")
    expected = np.zeros((4, 6), np.uint8)
    expected[0, 5] = 255
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "m.png")), expected)


@pytest.mark.parametrize("shape", [(6, 4), (6, 4, 1)])
def test_nifti_keeps_shape_affine_and_codes_of_the_frame(tmp_path, shape):
    affine = np.diag([0.2, 0.3, 1.0, 1.0])
    frame = nib.Nifti1Image(np.ones(shape, np.int16), affine)
    frame.set_qform(affine, code=1)
    nib.save(frame, tmp_path / "frame.nii.gz")
    write_mask(MASK, tmp_path / "m.nii.gz", frame=tmp_path / "frame.nii.gz")
    mask = nib.load(tmp_path / "m.nii.gz")
    np.testing.assert_allclose(mask.affine, affine)
    assert mask.get_qform(coded=True)[1] == 1
    assert mask.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(np.asarray(mask.dataobj), MASK[0].reshape(shape))


def test_nothing_that_names_a_patient_goes_from_the_frame_into_the_mask(tmp_path):
    frame = nib.Nifti1Image(np.ones((6, 4), np.int16), np.eye(4))
    for field in ("descrip", "db_name", "aux_file", "intent_name"):
        frame.header[field] = b"DOE^JOHN"
    frame.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"Patient DOE^JOHN"))
    nib.save(frame, tmp_path / "frame.nii")
    write_mask(MASK, tmp_path / "m.nii", frame=tmp_path / "frame.nii")
    assert b"DOE" in (tmp_path / "frame.nii").read_bytes()
    assert b"DOE" not in (tmp_path / "m.nii").read_bytes()


def test_pixel_size_and_unit_of_the_frame_are_kept(tmp_path):
    frame = nib.Nifti1Image(np.ones((6, 4), np.int16), np.diag([0.2, 0.3, 1, 1]))
    frame.header.set_xyzt_units("mm")
    nib.save(frame, tmp_path / "frame.nii")
    write_mask(MASK, tmp_path / "m.nii", frame=tmp_path / "frame.nii")
    header = nib.load(tmp_path / "m.nii").header
    assert header.get_zooms() == pytest.approx((0.2, 0.3))
    assert header.get_xyzt_units()[0] == "mm"


def test_suffixes_in_capitals_are_the_same_format(tmp_path):
    write_mask(MASK, tmp_path / "M.PNG")
    assert Image.open(tmp_path / "M.PNG").size == (6, 4)


def test_a_mask_of_another_size_than_its_frame_is_refused(tmp_path):
    Image.fromarray(np.zeros((6, 4), np.uint8)).save(tmp_path / "frame.png")  # 4 wide, 6 high
    with pytest.raises(ValueError, match=r"\(6, 4\), the frame \(4, 6\)"):
        write_mask(MASK, tmp_path / "m.png", frame=tmp_path / "frame.png")
    assert not (tmp_path / "m.png").exists()


def test_another_format_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"got m\.jpg"):
        write_mask(MASK, tmp_path / "m.jpg")


@pytest.mark.parametrize("spacing_mm, zoom, unit", [(0.3, 0.3, "mm"), (None, 1.0, "unknown")])
def test_the_mask_of_a_dicom_frame_has_its_pixel_size_where_it_is_known(tmp_path, spacing_mm, zoom, unit):
    write_mask(MASK, tmp_path / "m.nii.gz", spacing_mm=spacing_mm)
    image = nib.load(tmp_path / "m.nii.gz")
    assert np.array_equal(np.asarray(image.dataobj)[..., 0], np.asarray(MASK)[0] > 0)
    assert image.header.get_zooms()[:2] == pytest.approx((zoom, zoom))
    assert image.header.get_xyzt_units()[0] == unit
