import gzip
import pickle
import shutil

import cv2
import nibabel
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, LoadImaged
from PIL import Image

from cmunet_monai.transforms import FrameReader

READER = "cmunet_monai.transforms.FrameReader"
GREY = np.arange(3 * 5).reshape(3, 5)  # 3 rows, 5 columns


def load(path, keys="image", **row):
    return LoadImaged(keys, reader=READER, ensure_channel_first=True)({"image": str(path), **row})


def saved(array, path, **options):
    Image.fromarray(array).save(path, **options)
    return path


def errors(error: BaseException | None) -> str:
    """What the user reads: the message of an exception and of those that it came from."""
    return "" if error is None else f"{type(error).__name__}: {error}\n" + errors(error.__cause__)


@pytest.mark.parametrize("dtype, factor", [(np.uint8, 17), (np.uint16, 4000), (np.uint16, 273)])
def test_grey_png_keeps_every_level_and_has_columns_first(tmp_path, dtype, factor):
    image = load(saved((GREY * factor).astype(dtype), tmp_path / "x.png"))["image"]
    assert isinstance(image, MetaTensor)
    assert image.shape == (1, 5, 3)
    assert image.dtype == torch.float32
    assert image[0].T.tolist() == (GREY * factor).tolist()
    assert image.meta["filename_or_obj"] == str(tmp_path / "x.png")


def test_every_level_of_sixteen_bits_survives(tmp_path):
    levels = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    assert np.array_equal(load(saved(levels, tmp_path / "x.png"))["image"][0].numpy().T, levels)


def test_grey_picture_saved_in_colour_keeps_its_levels(tmp_path):
    grey = Image.fromarray((GREY * 17).astype(np.uint8))
    for mode in ("RGB", "RGBA", "LA", "P"):
        grey.convert(mode).save(tmp_path / "x.png")
        with Image.open(tmp_path / "x.png") as picture:
            assert picture.mode == mode
        assert load(tmp_path / "x.png")["image"][0].T.tolist() == (GREY * 17).tolist(), mode


def test_colours_become_luminance(tmp_path):
    colours = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]]], np.uint8)
    expected = [76, 150, 29, 255]  # 0.299, 0.587 and 0.114 of 255
    assert load(saved(colours, tmp_path / "x.png"))["image"].flatten().tolist() == expected
    palette = Image.new("P", (4, 1))
    palette.putpalette(colours.tobytes())
    palette.putdata(range(4))
    palette.save(tmp_path / "palette.png")
    assert load(tmp_path / "palette.png")["image"].flatten().tolist() == expected


def test_one_bit_picture_is_black_and_255(tmp_path):
    mask = (GREY % 2).astype(bool)
    path = saved(mask, tmp_path / "x.png")
    with Image.open(path) as picture:
        assert picture.mode == "1"
    assert load(path)["image"][0].T.tolist() == (255 * mask).tolist()


@pytest.mark.parametrize("kind", ["TIFF", "BMP", "JPEG", "GIF"])
def test_another_format_by_the_name_of_png_is_refused_with_what_it_is(tmp_path, kind):
    path = saved((GREY * 17).astype(np.uint8), tmp_path / "x.png", format=kind)
    with pytest.raises(ValueError, match=r"x\.png cannot be read") as caught:
        load(path)
    assert f"no PNG file but {kind}: save it as PNG" in errors(caught.value)


def test_postscript_by_the_name_of_png_is_refused_and_not_run(tmp_path):
    (tmp_path / "x.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n{ } loop\n")
    with pytest.raises(ValueError, match=r"x\.png cannot be read") as caught:
        load(tmp_path / "x.png")
    assert "no PNG file but PostScript" in errors(caught.value)


@pytest.mark.parametrize("shape", [(5, 3), (5, 3, 1), (5, 3, 1, 1)])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_nifti_frame_keeps_axes_spacing_and_depth(tmp_path, shape, suffix):
    path = tmp_path / f"x{suffix}"
    affine = np.diag([0.3, 0.2, 1, 1])
    nibabel.save(nibabel.Nifti1Image((GREY.T * 4000).astype(np.uint16).reshape(shape), affine), path)
    image = load(path)["image"]
    assert image.shape == (1, 5, 3)
    assert image[0].tolist() == (GREY.T * 4000).tolist()
    assert np.allclose(image.affine, affine)
    assert image.pixdim[:2].tolist() == pytest.approx([0.3, 0.2])
    assert image.meta["spatial_shape"].tolist() == [5, 3]


def test_big_endian_and_rescaled_nifti_are_read(tmp_path):
    header = nibabel.Nifti1Header(endianness=">")
    header.set_data_dtype(">i2")
    nibabel.save(nibabel.Nifti1Image(GREY.T.astype(">i2"), np.eye(4), header), tmp_path / "big.nii")
    assert load(tmp_path / "big.nii")["image"][0].tolist() == GREY.T.tolist()
    scaled = nibabel.Nifti1Image(GREY.T.astype(np.uint8), np.eye(4))
    scaled.header.set_slope_inter(2, 3)
    nibabel.save(scaled, tmp_path / "scaled.nii")
    raw = nibabel.load(tmp_path / "scaled.nii")
    assert np.allclose(load(tmp_path / "scaled.nii")["image"][0], raw.get_fdata())


def test_frame_and_label_of_a_row_are_read_alike(tmp_path):
    saved((GREY * 17).astype(np.uint8), tmp_path / "x.png")
    saved((255 * (GREY > 7)).astype(np.uint8), tmp_path / "y.png")
    row = load(tmp_path / "x.png", keys=["image", "label"], label=str(tmp_path / "y.png"))
    assert row["label"].shape == row["image"].shape == (1, 5, 3)
    assert (row["label"][0].T > 0).tolist() == (GREY > 7).tolist()


def noise_png(path):
    return saved(np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8), path)


def noise_nifti(path):
    array = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), path)
    return path


@pytest.mark.parametrize("share", [0, 0.005, 0.5, 0.9])
@pytest.mark.parametrize("suffix, write", [(".png", noise_png), (".nii", noise_nifti), (".nii.gz", noise_nifti)])
@pytest.mark.parametrize("key", ["image", "label"])
def test_cut_files_are_named_with_the_reason(tmp_path, suffix, write, share, key):
    """No other reader may step in: Pillow's own error does not say which file was cut."""
    whole = write(tmp_path / f"whole{suffix}")
    cut = tmp_path / f"cut{suffix}"
    cut.write_bytes(whole.read_bytes()[: int(share * whole.stat().st_size)])
    paths = {"image": str(whole), "label": str(whole), key: str(cut)}
    chain = Compose([LoadImaged(["image", "label"], reader=READER, ensure_channel_first=True)])
    with pytest.raises(RuntimeError) as caught:
        chain(paths)
    text = errors(caught.value)
    assert f"ValueError: {cut} cannot be read as a PNG or NIfTI frame" in text
    assert "suitable reader" not in text


def test_files_of_another_kind_are_named(tmp_path):
    for name in ("x.png", "x.nii", "x.nii.gz", "x.dcm"):
        (tmp_path / name).write_text("no picture\n" * 100)
        with pytest.raises(ValueError, match=rf"{name} cannot be read as a PNG or NIfTI frame"):
            load(tmp_path / name)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no frame at .*absent\.png"):
        load(tmp_path / "absent.png")


@pytest.mark.parametrize("shape", [(5, 3, 4), (5, 3, 1, 2), (1, 5, 3), (5,)])
def test_nifti_of_other_than_one_frame_is_refused_with_its_name(tmp_path, shape):
    path = tmp_path / "cine.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.zeros(shape, np.uint8), np.eye(4)), path)
    with pytest.raises(ValueError, match=r"cine\.nii\.gz must hold one grey frame, got an array of shape"):
        load(path)


def test_nifti_in_colour_or_complex_is_refused_with_its_name(tmp_path):
    colour = np.zeros((5, 3, 1), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    for array in (colour, np.zeros((5, 3), np.complex64)):
        nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), tmp_path / "x.nii")
        with pytest.raises(ValueError, match=r"x\.nii cannot be read .* must hold whole or real numbers"):
            load(tmp_path / "x.nii")


def test_a_picture_of_several_frames_is_refused_with_its_name(tmp_path):
    frames = [Image.fromarray((GREY * factor).astype(np.uint8)) for factor in (3, 5, 7)]
    frames[0].save(tmp_path / "x.png", save_all=True, append_images=frames[1:])
    with pytest.raises(ValueError, match=r"x\.png .* holds 3 frames, expected one"):
        load(tmp_path / "x.png")


def test_several_files_are_no_frame(tmp_path):
    paths = [str(saved(GREY.astype(np.uint8), tmp_path / name)) for name in ("a.png", "b.png")]
    with pytest.raises(ValueError, match=r"one file makes a frame, got 2: .*a\.png, .*b\.png"):
        LoadImaged("image", reader=READER)({"image": paths})


def test_reader_survives_pickling_and_leaves_files_closed(tmp_path):
    reader = pickle.loads(pickle.dumps(FrameReader()))
    path = saved(GREY.astype(np.uint8), tmp_path / "x.png")
    array, meta = reader.get_data(reader.read(path))
    assert array.T.tolist() == GREY.tolist()
    assert meta["spatial_shape"].tolist() == [5, 3]
    assert reader.verify_suffix("x.PNG")
    assert reader.verify_suffix("x.nii.gz")
    assert not reader.verify_suffix("x.dcm")
    with gzip.open(tmp_path / "y.nii.gz", "wb") as target, open(noise_nifti(tmp_path / "y.nii"), "rb") as source:
        shutil.copyfileobj(source, target)
    assert reader.get_data(reader.read(tmp_path / "y.nii.gz"))[0].shape == (64, 64)


@pytest.mark.parametrize("channels", [3, 4])
def test_sixteen_bit_colour_is_refused(tmp_path, channels):
    cv2.imwrite(str(tmp_path / "x.png"), np.full((3, 5, channels), 40000, np.uint16))
    with pytest.raises(ValueError, match=r"x\.png .*16-bit colour"):
        load(tmp_path / "x.png")
