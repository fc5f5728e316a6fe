"""Text that is drawn into a run is found; what X-rays show is not taken for text."""

import cv2
import numpy as np
import pytest

from data_prep.deidentification.text_like import text_like_boxes
from data_prep.synthetic.cine import synthesize_cine

SIZE = 256
FONT = cv2.FONT_HERSHEY_SIMPLEX


@pytest.fixture(scope="module")
def cines():
    """Darkest and brightest values over time of runs of three looks, with vessels, ribs, spine and borders."""
    runs = [synthesize_cine(0, patient, 0, size=SIZE, frames=8, contrast=True).frames for patient in range(3)]
    return [(run.min(0).astype(np.float32), run.max(0).astype(np.float32)) for run in runs]


def lettering(text, height_px, top, left=8):
    """(row, column) mask of a drawn text whose capitals are about `height_px` high."""
    mask = np.zeros((SIZE, SIZE), np.uint8)
    thickness = max(1, round(height_px / 10))
    scale = cv2.getFontScaleFromHeight(FONT, height_px, thickness)
    cv2.putText(mask, text, (left, top + height_px), FONT, scale, 255, thickness)
    return mask > 127


def smooth_background(seed=0):
    small = np.random.default_rng(seed).uniform(60, 180, (6, 6)).astype(np.float32)
    return cv2.resize(small, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)


def overlaps(boxes, mask):
    return any(mask[box.top : box.bottom, box.left : box.right].any() for box in boxes)


@pytest.mark.parametrize("height_px", [12, 16, 24, 32])
@pytest.mark.parametrize("polarity", ["bright", "dark"])
def test_text_in_a_run_is_found(cines, height_px, polarity):
    for darkest, brightest in cines:
        mask = lettering("DOE 1950", height_px, 60)
        value = brightest.max() if polarity == "bright" else darkest.min()
        low, high = np.where(mask, value, darkest), np.where(mask, value, brightest)
        assert overlaps(text_like_boxes(low, high), mask)


@pytest.mark.parametrize("polarity", ["bright", "dark"])
def test_text_that_stands_in_one_frame_alone_is_found(cines, polarity):
    darkest, brightest = cines[0]
    mask = lettering("JOHN DOE", 16, 120)
    if polarity == "bright":
        brightest = np.where(mask, brightest.max(), brightest)
    else:
        darkest = np.where(mask, darkest.min(), darkest)
    assert overlaps(text_like_boxes(darkest, brightest), mask)


def test_text_is_found_at_each_border():
    for top in (0, SIZE - 24):
        picture = smooth_background()
        mask = lettering("JOHN DOE 1950", 16, top)
        picture[mask] = 255
        assert overlaps(text_like_boxes(picture, picture), mask)


def test_a_synthetic_run_without_text_shows_none(cines):
    for darkest, brightest in cines:
        assert text_like_boxes(darkest, brightest) == ()


def test_blurred_lines_like_vessels_are_no_text():
    picture = smooth_background(1)
    lines = np.zeros((SIZE, SIZE), np.uint8)
    for number in range(8):
        ends = np.random.default_rng(number).integers(10, SIZE - 10, (4, 2))
        cv2.polylines(lines, [ends.astype(np.int32)], False, 255, 2 + number % 4)
    picture -= cv2.GaussianBlur(lines, (0, 0), 1.5).astype(np.float32) * 0.3
    assert text_like_boxes(picture, picture) == ()


def test_broad_bands_like_ribs_are_no_text():
    rows = np.arange(SIZE, dtype=np.float32)[:, None]
    picture = np.broadcast_to(120 + 40 * np.sin(rows / 9), (SIZE, SIZE)).copy()
    assert text_like_boxes(picture, picture) == ()


def test_collimator_blades_are_no_text():
    picture = smooth_background(2)
    picture[:20] = picture[-30:] = 0
    picture[:, :25] = picture[:, -15:] = 0
    assert text_like_boxes(picture, picture) == ()


def test_a_round_border_is_no_text():
    rows, columns = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
    picture = np.where(rows**2 + columns**2 < (0.47 * SIZE) ** 2, smooth_background(3), 0)
    assert text_like_boxes(picture, picture) == ()


@pytest.mark.parametrize("value", [0, 128, 4095])
def test_a_constant_picture_shows_none(value):
    picture = np.full((SIZE, SIZE), value, np.float32)
    assert text_like_boxes(picture, picture) == ()


@pytest.mark.parametrize(
    "shapes", [((8, 8), (8, 9)), ((2, 8, 8), (2, 8, 8)), ((8,), (8,))], ids=["sizes", "three axes", "one axis"]
)
def test_pictures_of_another_shape_are_refused(shapes):
    with pytest.raises(ValueError, match="of one size"):
        text_like_boxes(*(np.zeros(shape) for shape in shapes))


def test_values_that_are_no_numbers_are_refused():
    with pytest.raises(ValueError, match="finite"):
        text_like_boxes(np.full((8, 8), np.nan), np.zeros((8, 8)))
