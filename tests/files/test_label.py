import struct
import zlib

import nibabel
import numpy as np
import pytest
from PIL import Image

from cmunet_monai.files.label import may_fit, read_label, read_label_of_frame

MASK = np.zeros((20, 30), np.uint8)  # 20 rows, 30 columns
MASK[4:6, 3:28] = 1
SHARE = 50 / 600
ON, OFF, WHITE = MASK * 255, MASK * 0, np.full_like(MASK, 255)


def palette(colours, numbers=MASK):
    image = Image.fromarray(numbers).convert("P")
    image.putdata(list(numbers.ravel()))
    image.putpalette(colours)
    return image


def saved(image, path, **options):
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(path, **options)
    return path


def nifti(path, values, affine=None):
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4) if affine is None else affine), path)
    return path


DRAWN = {
    "grey": ON,
    "one": MASK,
    "bits": MASK.astype(bool),
    "sixteen bits": MASK.astype(np.uint16) * np.uint16(65535),
    "white on transparent white": np.dstack([WHITE] * 3 + [ON]),
    "black on transparent": np.dstack([OFF] * 3 + [ON]),
    "grey and transparent": np.dstack([WHITE, ON]),
    "opaque": np.dstack([ON] * 3 + [WHITE]),
    "dark blue": np.dstack([OFF, OFF, MASK * 4]),
    "red": np.dstack([ON, OFF, OFF]),
    "white as colour": np.dstack([ON] * 3),
    "palette with a white background": palette([255, 255, 255, 255, 0, 0]),
    "palette with class 1 in black": palette([255, 255, 255, 0, 0, 0]),
    "palette of two dark colours": palette([0, 0, 0, 0, 0, 1]),
}


@pytest.mark.parametrize("kind", DRAWN)
def test_a_label_has_the_vessel_that_was_drawn(tmp_path, kind):
    label = read_label(saved(DRAWN[kind], tmp_path / "x.png"))
    assert label.classes.shape == (30, 20, 1)
    np.testing.assert_array_equal(label.classes[..., 0].T, MASK)
    assert label.vessel_share == pytest.approx(SHARE)


def test_a_transparent_background_of_a_palette_is_background(tmp_path):
    path = saved(palette([9, 9, 9, 200, 0, 0]), tmp_path / "x.png", transparency=0)
    np.testing.assert_array_equal(read_label(path).classes[..., 0].T, MASK)


@pytest.mark.parametrize("write", ["grey", "palette", "nifti"])
def test_classes_are_kept(tmp_path, write):
    classes = MASK.copy()
    classes[10:12, 5:9] = 25
    if write == "nifti":
        path = nifti(tmp_path / "x.nii.gz", classes.T[..., None].astype(np.float32))
    else:
        colours = list(np.random.default_rng(0).integers(0, 256, 78))
        path = saved(classes if write == "grey" else palette(colours, classes), tmp_path / "x.png")
    np.testing.assert_array_equal(read_label(path).classes[..., 0].T, classes)


def test_an_empty_label_is_one(tmp_path):
    assert read_label(saved(OFF, tmp_path / "x.png")).vessel_share == 0
    assert read_label(saved(np.dstack([WHITE] * 3 + [OFF]), tmp_path / "y.png")).vessel_share == 0


SOFT = ON.copy()
SOFT[3, 5:9] = 120
THREE = np.dstack([ON, OFF, OFF])
THREE[10:12, 5:9, 1] = 200
PARTLY = np.dstack([WHITE] * 3 + [SOFT])
PAINTED = np.dstack([ON] * 3 + [WHITE])
PAINTED[:2, :, 3] = 0
DOUBTFUL = {
    "soft edges": (SOFT, "3 grey levels up to 255"),
    "no background": (WHITE, "it has no background pixel"),
    "one and two": (MASK + np.uint8(1), "it has no background pixel"),
    "three colours": (THREE, "holds 3 colours"),
    "colours without black": (np.dstack([WHITE, ON, ON]), "holds 2 colours, expected black and one other"),
    "half transparent": (PARTLY, "half transparent in places"),
    "opaque in two colours": (PAINTED, "what is opaque has 2 colours"),
    "hidden colours": (np.dstack([ON] * 3 + [OFF]), "wholly transparent and has 2 colours"),
}


@pytest.mark.parametrize("kind", DOUBTFUL)
def test_what_can_be_meant_in_two_ways_is_refused_by_name(tmp_path, kind):
    image, said = DOUBTFUL[kind]
    with pytest.raises(ValueError, match=rf"x\.png: no label: .*{said}"):
        read_label(saved(image, tmp_path / "x.png"))


def test_a_transparent_class_and_a_number_beyond_the_palette_are_refused(tmp_path):
    with pytest.raises(ValueError, match="palette index 1 is transparent"):
        read_label(saved(palette([0, 0, 0, 9, 9, 9]), tmp_path / "x.png", transparency=1))
    content = saved(palette([0] * 24, MASK * 7), tmp_path / "y.png", bits=8).read_bytes()
    start = content.index(b"PLTE")
    (length,) = struct.unpack_from(">I", content, start - 4)
    two = b"PLTE" + content[start + 4 : start + 10]  # of its eight colours
    short = struct.pack(">I", 6) + two + struct.pack(">I", zlib.crc32(two))
    (tmp_path / "y.png").write_bytes(content[: start - 4] + short + content[start + length + 8 :])
    with pytest.raises(ValueError, match="palette index 7, but the palette has 2 colours"):
        read_label(tmp_path / "y.png")


@pytest.mark.parametrize(
    "values, said",
    [
        (np.where(MASK, 0.5, 0).astype(np.float32), "whole numbers"),
        (np.where(MASK, -1, 0).astype(np.int16), "whole numbers"),
        (np.where(MASK, np.nan, 0).astype(np.float32), "whole numbers"),
        (np.where(MASK, np.inf, 0).astype(np.float32), "whole numbers"),
    ],
)
def test_numbers_that_are_no_classes_are_refused(tmp_path, values, said):
    with pytest.raises(ValueError, match=said):
        read_label(nifti(tmp_path / "x.nii", values.T))


@pytest.mark.parametrize("kind", ["TIFF", "JPEG", "GIF"])
def test_another_format_is_no_label(tmp_path, kind):
    with pytest.raises(ValueError, match=f"x.png: no label: it is no PNG file but {kind}"):
        read_label(saved(ON, tmp_path / "x.png", format=kind))


# Place ----------------------------------------------------------------------------------------------------------------

AFFINE = np.diag([0.3, 0.3, 1.0, 1.0])
AFFINE[:3, 3] = 5, -7, 2


@pytest.fixture
def frame(tmp_path):
    return nifti(tmp_path / "frame.nii.gz", np.zeros((30, 20, 1), np.uint8), AFFINE)


def moved(axes, flips):
    """The label with its axes exchanged and mirrored, and the affine that says so."""
    classes = np.flip(MASK.T[..., None].transpose(axes), flips)
    between = np.zeros((4, 4))  # from the moved label's pixels to the frame's
    between[3, 3] = 1
    for axis, source in enumerate(axes):
        between[source, axis] = -1 if axis in flips else 1
        if axis in flips:
            between[source, 3] = classes.shape[axis] - 1
    return classes, AFFINE @ between


@pytest.mark.parametrize("axes, flips", [((0, 1, 2), ()), ((0, 1, 2), (0,)), ((0, 1, 2), (0, 1)), ((1, 0, 2), ()),
                                         ((1, 0, 2), (1,)), ((0, 1, 2), (2,))])  # fmt: skip
def test_a_label_in_the_same_place_is_brought_into_the_order_of_its_frame(tmp_path, frame, axes, flips):
    path = nifti(tmp_path / "label.nii.gz", *moved(axes, flips))
    assert may_fit(path, frame)
    found = read_label_of_frame(path, frame)
    np.testing.assert_array_equal(found.classes[..., 0].T, MASK)


def shifted(column_px):
    affine = AFFINE.copy()
    affine[0, 3] += 0.3 * column_px
    return affine


ELSEWHERE = {
    "half a pixel away": shifted(0.5),
    "mirrored about another place": AFFINE @ np.diag([-1.0, 1, 1, 1]),
    "of other pixels": AFFINE @ np.diag([1.02, 1.02, 1, 1]),
    "turned by a degree": AFFINE @ np.array(
        [[0.99985, -0.01745, 0, 0], [0.01745, 0.99985, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    ),
    "a slice away": AFFINE + np.outer([0, 0, 1, 0], [0, 0, 0, 1.0]),
}  # fmt: skip


@pytest.mark.parametrize("kind", ELSEWHERE)
def test_a_label_in_another_place_is_refused_by_name(tmp_path, frame, kind):
    path = nifti(tmp_path / "label.nii.gz", MASK.T[..., None], ELSEWHERE[kind])
    with pytest.raises(ValueError, match=r"label\.nii\.gz: it lies in another place than its frame"):
        read_label_of_frame(path, frame)


def test_a_tenth_of_a_pixel_is_no_other_place(tmp_path, frame):
    path = nifti(tmp_path / "label.nii.gz", MASK.T[..., None], shifted(0.09))
    np.testing.assert_array_equal(read_label_of_frame(path, frame).classes[..., 0].T, MASK)


def test_a_picture_has_no_place(tmp_path, frame):
    picture = saved(OFF, tmp_path / "frame.png")
    label = saved(ON, tmp_path / "label.png")
    for other in (frame, picture):
        np.testing.assert_array_equal(read_label_of_frame(label, other).classes[..., 0].T, MASK)
    for signs in ((1, 1), (-1, -1)):  # as NIfTI has the axes of a picture, and as ITK has them
        path = nifti(tmp_path / "label.nii.gz", MASK.T[..., None], np.diag([0.3 * signs[0], 0.3 * signs[1], 1, 1]))
        np.testing.assert_array_equal(read_label_of_frame(path, picture).classes[..., 0].T, MASK)
    nifti(tmp_path / "label.nii.gz", MASK.T[..., None], np.diag([-1.0, 1, 1, 1]))
    with pytest.raises(ValueError, match="rotated or mirrored, but its frame is a PNG"):
        read_label_of_frame(tmp_path / "label.nii.gz", picture)


def test_another_size_is_refused_with_both(tmp_path, frame):
    with pytest.raises(ValueError, match=r"label\.png: it is 20 x 30, its frame 30 x 20"):
        read_label_of_frame(saved(ON.T.copy(), tmp_path / "label.png"), frame)
