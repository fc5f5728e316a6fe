import pickle

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from scipy import ndimage

from cmunet_monai.transforms import CornerInpaint, CornerInpaintd
from cmunet_monai.transforms.corner_inpaint import dark_at_corners, find_dark_corners, inpaint, white_level

SIZE = 128
ROWS, COLUMNS = np.mgrid[:SIZE, :SIZE]
# A disc of radius 70 in a frame of 128: outside lie four triangles of about 36 pixels, all within 32 of a side.
OUTSIDE = np.hypot(ROWS - 63.5, COLUMNS - 63.5) > 70


def round_frame(background: np.ndarray | float = 100) -> np.ndarray:
    """(1, SIZE, SIZE) float32: `background` in the disc, 5 outside."""
    return np.where(OUTSIDE, 5, background).astype(np.float32)[None]


def textured() -> np.ndarray:
    """8-bit grey levels from 60 to 255."""
    return np.rint(60 + 195 * np.random.default_rng(0).random((SIZE, SIZE)))


def test_corners_outside_a_round_field_are_found_to_the_pixel():
    assert np.array_equal(find_dark_corners(round_frame()[0], dilation=0), OUTSIDE)


def test_found_corners_are_grown_by_two_pixels_all_round():
    expected = ndimage.binary_dilation(OUTSIDE, np.ones((5, 5)))
    assert np.array_equal(find_dark_corners(round_frame()[0]), expected)


@pytest.mark.parametrize("seed", range(5))
def test_region_is_what_labelling_of_the_whole_band_finds(seed):
    rng = np.random.default_rng(seed)
    image = 255 * ndimage.gaussian_filter(rng.random((61, 90)), 1.5, mode="wrap")
    image[[0, 0, -1, -1], [0, -1, 0, -1]] = 0
    limit = float(np.median(image))
    dark = image < limit
    dark[12:-12, 18:-18] = False  # a fifth of 61 and of 90, rounded down
    labels, _ = ndimage.label(dark, np.ones((3, 3)))
    expected = np.isin(labels, labels[[0, 0, -1, -1], [0, -1, 0, -1]])
    found = dark_at_corners(image, border_ratio=0.2, limit=limit)
    assert np.array_equal(found, expected)
    assert 4 < found.sum() < dark.sum()


def test_corners_of_a_flat_field_are_filled_with_its_grey_level():
    """But for the term of up to 1.4 grey levels that OpenCV adds to each pixel, here up and there down."""
    filled = CornerInpaint()(round_frame(100))
    assert filled.dtype == np.float32
    assert np.abs(filled - 100).max() < 2
    assert abs(filled[0][OUTSIDE].mean() - 100) < 0.1


def test_corners_of_an_uneven_field_are_filled_from_beside_them():
    background = 80 + 0.5 * COLUMNS  # from 80 to 143.5
    filled, field = CornerInpaint().fill(round_frame(background))
    error = np.abs(filled[0] - background)
    assert error[field[0]].max() == 0
    assert error[OUTSIDE].max() < 20  # a corner is 26 px deep: the levels along its edge differ by 18


def test_field_is_false_exactly_where_pixels_are_filled():
    frame = round_frame(textured())
    filled, field = CornerInpaint().fill(frame)
    assert field.dtype == torch.bool
    assert np.array_equal(field.numpy()[0], ~ndimage.binary_dilation(OUTSIDE, np.ones((5, 5))))
    assert np.array_equal(filled[field.numpy()], frame[field.numpy()])
    assert (filled[0][OUTSIDE] > 20).all()


def test_spine_diaphragm_and_catheter_that_reach_no_corner_stay():
    frame = textured()
    frame[:, 50:75] = 3  # spine, from edge to edge
    frame[100:, 30:100] = 3  # diaphragm, along the lower edge
    frame[20:24, :90] = 3  # catheter, from the left edge
    filled, field = CornerInpaint().fill(frame[None])
    assert np.array_equal(filled[0], frame)
    assert field.all()


def test_of_a_wide_dark_structure_that_reaches_a_corner_the_part_in_the_band_is_filled():
    frame = textured()
    structure = np.zeros((SIZE, SIZE), bool)
    structure[:60, :60] = True
    frame[structure] = 3
    inner = np.zeros_like(structure)
    inner[32:-32, 32:-32] = True
    found = find_dark_corners(frame, dilation=0)
    assert np.array_equal(found, structure & ~inner)


def test_a_narrow_dark_structure_that_reaches_a_corner_stays_but_for_its_end():
    frame = textured()
    frame[np.abs(ROWS - COLUMNS) < 4] = 3  # 7 pixels across, narrower than 1/16 of 128 made odd, which is 9
    assert not find_dark_corners(frame, dilation=0)[9:-9, 9:-9].any()


def test_a_filled_artery_that_runs_into_a_dark_corner_is_given_back():
    frame = round_frame(textured())[0]
    frame[np.abs(ROWS - COLUMNS) < 4] = 3  # through the field from corner to corner
    found = find_dark_corners(frame, dilation=0)
    assert found[OUTSIDE].all()
    assert not found[ndimage.distance_transform_edt(~OUTSIDE) > 9].any()


def test_dark_grey_specks_in_a_dark_corner_belong_to_it():
    frame = round_frame()[0]
    frame[3:5, 2:4] = 39  # above the threshold of 20, below twice that
    assert np.array_equal(find_dark_corners(frame, dilation=0), OUTSIDE)


def test_a_part_of_the_field_that_a_dark_catheter_cuts_off_stays():
    frame = textured()
    rim = np.ones((SIZE, SIZE), bool)
    rim[3:-3, 3:-3] = False
    frame[rim | (np.abs(ROWS + COLUMNS - 30) < 2)] = 3
    cut_off = (ROWS + COLUMNS < 24) & (ROWS > 6) & (COLUMNS > 6)
    assert cut_off.sum() > 40
    assert not find_dark_corners(frame)[cut_off].any()


def test_a_dark_structure_that_meets_a_dark_corner_in_the_band_is_taken_with_it():
    """The limit of the method: a vessel or a catheter as dark as the corner cannot be told from it."""
    frame = round_frame(textured())[0]
    frame[:4, :64] = 3
    assert find_dark_corners(frame)[:4, :64].all()
    assert not find_dark_corners(frame)[:4, 66:80].any()


@pytest.mark.parametrize("white, dtype", [(1, "f4"), (4095, "f4"), (16383, "f4"), (65535, "u2"), (255, "u1")])
def test_a_frame_is_filled_alike_at_every_depth(white, dtype):
    frame = round_frame(textured())
    expected, expected_field = CornerInpaint().fill(frame)
    filled, field = CornerInpaint().fill((frame * (white / 255)).astype(dtype))
    assert torch.equal(field, expected_field)
    assert np.abs(filled * (255 / white) - expected).max() < 0.01  # grey levels of 255
    assert filled.dtype == np.float32


def test_depth_is_the_smallest_that_holds_the_brightest_pixel():
    cases = {0: 1, 0.5: 1, 1: 1, 2: 255, 255: 255, 256: 1023, 4000: 4095, 4096: 16383, 65535: 65535, 1e6: 1e6}
    assert {value: white_level(np.full((2, 2), value)) for value in cases} == cases


def test_a_given_white_level_overrules_the_brightest_pixel():
    frame = round_frame(textured() * 16)  # 12 bits
    frame[0, 64, 64] = 65535  # a burned-in mark
    field = CornerInpaint(white=4095).fill(frame)[1]
    assert np.array_equal(field.numpy()[0], ~ndimage.binary_dilation(OUTSIDE, np.ones((5, 5))))


@pytest.mark.parametrize("value", [0, 1, 10, 100, 255, 65535])
def test_constant_frames_come_back_unchanged(value):
    frame = np.full((1, 33, 40), value, np.float32)
    filled, field = CornerInpaint().fill(frame)
    assert np.array_equal(filled, frame)
    assert field.all()


def test_a_frame_that_is_dark_all_over_has_no_corners():
    frame = np.random.default_rng(0).integers(2, 20, (1, 64, 64)).astype(np.uint8)
    filled, field = CornerInpaint().fill(frame)
    assert np.array_equal(filled, frame)
    assert field.all()


def test_a_frame_without_dark_corners_comes_back_unchanged():
    frame = textured()[None].astype(np.uint8)
    filled, field = CornerInpaint().fill(frame)
    assert np.array_equal(filled, frame)
    assert filled.dtype == np.float32
    assert field.all()


def test_a_region_that_covers_the_frame_leaves_it_as_it_is():
    frame = np.arange(12, dtype=np.float32).reshape(3, 4)
    assert np.array_equal(inpaint(frame, np.ones((3, 4), bool)), frame)


@pytest.mark.parametrize("transpose", [False, True])
def test_dark_ends_of_a_single_line_are_corners(transpose):
    line = np.full((1, 1, 40), 100, np.float32)
    line[..., :3] = line[..., -4:] = 2
    frame = line.transpose(0, 2, 1) if transpose else line
    filled, field = CornerInpaint().fill(frame)
    assert np.flatnonzero(~field.numpy().ravel()).tolist() == [0, 1, 2, 3, 4, 34, 35, 36, 37, 38, 39]
    assert np.array_equal(filled[field.numpy()], frame[field.numpy()])
    assert np.abs(filled - 100).max() < 6  # four pixels deep


@pytest.mark.parametrize("shape", [(1, 1), (1, 3), (3, 3), (2, 3)])
def test_frames_too_small_for_a_border_band_come_back_unchanged(shape):
    frame = np.full((1, *shape), 100, np.float32)
    frame[0, 0, 0] = 2
    filled, field = CornerInpaint().fill(frame)
    assert np.array_equal(filled, frame)
    assert field.all()


def test_corners_do_not_depend_on_which_axis_comes_first():
    frame = round_frame(textured())[0, :100]
    assert np.array_equal(find_dark_corners(frame.T), find_dark_corners(frame).T)


def test_arrays_tensors_and_metatensors_give_the_same_values_and_keep_their_kind():
    frame = round_frame(textured())
    frame.setflags(write=False)
    expected = CornerInpaint()(frame)
    assert isinstance(expected, np.ndarray)
    tensor = torch.from_numpy(frame.copy())
    for img in (tensor, tensor.to(torch.uint8), tensor.to(torch.float16), tensor.mT.contiguous().mT):
        before = img.clone()
        filled = CornerInpaint()(img)
        assert type(filled) is torch.Tensor
        assert filled.dtype == torch.float32
        assert np.array_equal(filled.numpy(), expected)
        assert torch.equal(img, before)


def test_row_keeps_meta_data_and_label_and_gains_the_field():
    affine = torch.diag(torch.tensor([0.3, 0.2, 1, 1], dtype=torch.float64))
    image = MetaTensor(torch.from_numpy(round_frame(textured())), affine=affine, meta={"filename_or_obj": "x.png"})
    image.push_applied_operation({"class": "Resize"})
    label = torch.ones(1, SIZE, SIZE)
    row = {"image": image, "label": label}
    result = CornerInpaintd("image", field_key="field")(row)
    assert set(row) == {"image", "label"}
    assert row["image"] is image
    assert result["label"] is label
    assert isinstance(result["image"], MetaTensor)
    assert torch.equal(result["image"].affine, affine)
    assert result["image"].meta["filename_or_obj"] == "x.png"
    assert result["image"].applied_operations == [{"class": "Resize"}]
    assert result["field"].shape == (1, SIZE, SIZE)
    assert not result["field"][0][OUTSIDE].any()
    assert torch.equal(result["image"], CornerInpaint()(image))
    assert set(CornerInpaintd("image")(row)) == {"image", "label"}


def test_transform_survives_pickling():
    transform = CornerInpaintd(
        "image", field_key="field", border_ratio=0.3, threshold=30, dilation=1, radius=5, white=255
    )
    row = {"image": round_frame(textured())}
    again = pickle.loads(pickle.dumps(transform))(row)
    assert np.array_equal(again["image"], transform(row)["image"])


@pytest.mark.parametrize("shape", [(SIZE, SIZE), (2, SIZE, SIZE), (1, 1, SIZE, SIZE), (1, 0, SIZE)])
def test_other_shapes_are_named(shape):
    with pytest.raises(ValueError, match=r"must be \(1, H, W\), got \(" + ", ".join(map(str, shape))):
        CornerInpaint()(np.zeros(shape, np.float32))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused_with_the_file(value):
    frame = MetaTensor(torch.full((1, 8, 8), 100.0), meta={"filename_or_obj": "frames/x.png"})
    frame[0, 3, 3] = value
    with pytest.raises(ValueError, match=r"frames/x\.png.* not finite"):
        CornerInpaintd("image")({"image": frame})


def test_values_below_zero_are_refused_unless_white_is_given():
    frame = round_frame(100) - 10
    with pytest.raises(ValueError, match=r"grey levels of 0 or more, .* got -5\.0"):
        CornerInpaint()(frame)
    assert np.abs(CornerInpaint(white=255)(frame) - 90).max() < 2


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"border_ratio": 0}, "`border_ratio` must be above 0 and at most 0.5, got 0"),
        ({"border_ratio": 0.6}, "`border_ratio` must be above 0 and at most 0.5, got 0.6"),
        ({"dilation": -1}, "`dilation` must not be negative, got -1"),
        ({"radius": 0}, "`radius` must be from 1 to 100, got 0"),
        ({"white": 0}, "`white` must be positive, got 0"),
    ],
)
def test_settings_without_meaning_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        CornerInpaintd("image", **settings)


def test_one_field_cannot_stand_for_two_frames():
    with pytest.raises(ValueError, match="single key"):
        CornerInpaintd(["image", "other"], field_key="field")
