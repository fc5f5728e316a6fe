"""Pictures of a frame and its outlines: what is drawn where, in which colour."""

import numpy as np
import pytest
import torch
from PIL import Image

from cmunet_monai.measurements import Narrowing
from cmunet_monai.writers import draw_comparison, draw_outline, write_picture
from cmunet_monai.writers.overlay import AGREEMENT, FALSE, MISSED, NARROWING, OUTLINE

SCALE = 16  # of a frame whose shorter side is 64


def box(columns, rows, size=(64, 64)):
    """(1, W, H) mask of a box, given by its column and row ranges."""
    mask = np.zeros((1, *size), np.uint8)
    mask[0, slice(*columns), slice(*rows)] = 1
    return mask


def grey(size=(64, 64)):
    return np.full((1, *size), 100.0, np.float32)


def coloured(picture, colour):
    """(row, column) of the pixels near a colour, in pixels of the frame."""
    distance = np.abs(picture[: 64 * SCALE].astype(int) - np.array(colour)).sum(axis=-1)
    return np.argwhere(distance < 120) / SCALE


def test_outline_runs_round_the_mask_upright():
    points = coloured(draw_outline(grey(), box((10, 20), (40, 60))), OUTLINE)
    rows, columns = points.T
    np.testing.assert_allclose([columns.min(), columns.max()], [10, 20], atol=0.2)  # x is the first axis of the mask
    np.testing.assert_allclose([rows.min(), rows.max()], [40, 60], atol=0.2)


def test_outline_of_a_mask_at_the_border_is_closed():
    rows, columns = coloured(draw_outline(grey(), box((0, 5), (0, 5))), OUTLINE).T
    assert columns.min() < 0.2
    assert rows.min() < 0.2


def test_an_empty_mask_leaves_the_frame_as_it_is():
    frame = np.random.default_rng(0).random((1, 64, 64), np.float32)
    picture = draw_outline(frame, np.zeros_like(frame))
    assert (picture[..., 0] == picture[..., 2]).all()


def test_equal_masks_are_agreement_alone():
    mask = box((10, 20), (40, 60))
    picture = draw_comparison(grey(), mask, mask)
    assert len(coloured(picture, AGREEMENT))
    assert not len(coloured(picture, MISSED))
    assert not len(coloured(picture, FALSE))


def test_a_shift_within_the_tolerance_is_agreement_alone():
    picture = draw_comparison(grey(), box((10, 20), (40, 60)), box((11, 21), (40, 60)))
    assert not len(coloured(picture, MISSED))
    assert not len(coloured(picture, FALSE))


def test_missed_and_false_vessels_have_colours_of_their_own():
    picture = draw_comparison(grey(), box((10, 20), (40, 60)), box((40, 50), (5, 15)))
    missed, false = (coloured(picture, colour) for colour in (MISSED, FALSE))
    assert not len(coloured(picture, AGREEMENT))
    np.testing.assert_allclose([missed.min(axis=0), missed.max(axis=0)], [[5, 40], [15, 50]], atol=0.2)
    np.testing.assert_allclose([false.min(axis=0), false.max(axis=0)], [[40, 10], [60, 20]], atol=0.2)


def test_a_missed_end_of_a_vessel_is_missed_and_the_rest_agrees():
    picture = draw_comparison(grey(), box((10, 16), (10, 40)), box((10, 16), (10, 60)))
    assert coloured(picture, MISSED)[:, 0].min() > 41.5  # 2 px of tolerance beyond row 40
    assert coloured(picture, AGREEMENT)[:, 0].max() < 40.5


def test_legend_and_title_stand_below_the_frame_and_hide_nothing():
    blank = np.zeros((1, 64, 64), np.uint8)
    picture = draw_comparison(grey(), blank, blank, title="id   Dice 0.500")
    assert picture.shape[0] > 64 * SCALE
    assert (picture[: 64 * SCALE] == picture[0, 0]).all()
    strip = picture[64 * SCALE :]
    assert all((np.abs(strip.astype(int) - colour).sum(axis=-1) < 30).any() for colour in (AGREEMENT, MISSED, FALSE))


def test_a_long_title_does_not_reach_the_legend():
    blank = np.zeros((1, 64, 64), np.uint8)
    short, long = (draw_comparison(grey(), blank, blank, title=title) for title in ("", "a very long name " * 20))
    assert (short[:, 560:] == long[:, 560:]).all()


def test_a_frame_that_is_not_square_is_upright():
    picture = draw_outline(grey((80, 48)), box((0, 80), (0, 48), size=(80, 48)))
    assert picture.shape[0] > 48 * 22
    assert picture.shape[1:] == (80 * 22, 3)


@pytest.mark.parametrize("value", [0.0, 100.0, 65535.0])
def test_a_constant_frame_of_any_value_is_drawn(value):
    picture = draw_outline(np.full((1, 64, 64), value, np.float32), np.zeros((1, 64, 64), np.uint8))
    assert np.ptp(picture[: 64 * SCALE]) == 0


def test_a_narrowing_is_circled_where_it_is():
    place = Narrowing(
        segment=1,
        point=0,
        row=20.0,
        column=40.0,
        walls=np.zeros((2, 2)),
        length_px=3.0,
        minimum_px=4.0,
        reference_px=8.0,
        percent=50.0,
        spacing_mm=None,
    )
    blank = np.zeros((1, 64, 64), np.uint8)
    rows, columns = coloured(draw_outline(grey(), blank, narrowings=[place]), NARROWING).T
    circle = columns < 46.5  # the percentage stands to the right of it
    # of a diameter of 1.5 times the reference, about the place; pixel centres lie at whole numbers
    np.testing.assert_allclose([rows[circle].min(), rows[circle].max()], [14.5, 26.5], atol=0.3)
    np.testing.assert_allclose([columns.min(), columns[circle].max()], [34.5, 46.5], atol=0.3)
    assert columns.max() > 47


def test_research_use_stands_under_every_picture():
    blank = np.zeros((1, 64, 64), np.uint8)
    corner = (slice(64 * SCALE, None), slice(-150, None))
    outline, comparison = draw_outline(grey(), blank)[corner], draw_comparison(grey(), blank, blank)[corner]
    assert (outline == comparison).all()
    assert outline.max() == 230


def test_the_grey_scale_is_that_of_the_frame():
    frame = np.linspace(1000, 3000, 64 * 64, dtype=np.float32).reshape(1, 64, 64)
    picture = draw_outline(frame, np.zeros((1, 64, 64), np.uint8))
    assert (picture.min(), picture.max()) == (0, 255)


def test_tensors_are_taken_and_not_modified():
    frame, mask = torch.rand(1, 64, 64), torch.as_tensor(box((10, 20), (40, 60)))
    copies = frame.clone(), mask.clone()
    draw_comparison(frame, mask, mask)
    assert torch.equal(frame, copies[0])
    assert torch.equal(mask, copies[1])


def test_a_narrow_frame_is_enlarged_no_further_than_its_longer_side_allows():
    narrow = np.zeros((1, 500, 1), np.uint8)
    assert draw_outline(narrow, narrow).shape == (8 + 34, 4000, 3)


def test_a_title_that_is_no_text_is_drawn():
    empty = np.zeros((1, 64, 64), np.uint8)
    assert draw_outline(empty, empty, title="caf\udce9.png").any()


def test_sizes_that_differ_are_named():
    with pytest.raises(ValueError, match=r"\(1, 64, 64\), \(1, 32, 32\)"):
        draw_outline(grey(), np.zeros((1, 32, 32), np.uint8))


def test_a_picture_is_written_in_its_own_colours(tmp_path):
    picture = np.zeros((4, 4, 3), np.uint8)
    picture[:, 2:] = OUTLINE
    write_picture(picture, tmp_path / "new" / "p.png")
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "new" / "p.png")), picture)
