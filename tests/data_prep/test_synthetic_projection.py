import numpy as np
import pytest

from data_prep.synthetic.projection import Balls, CArmView, lumen_mask, path_length_mm, tube_balls

# 101 pixels of 0.25 mm: pixel 50's centre is the isocentre.
FRONTAL = CArmView(0, 0, field_mm=25.25, size=101, source_isocentre_mm=None)


def tube(start_mm, end_mm, radius_mm, weight=1.0):
    points = np.array([start_mm, end_mm], dtype=float)
    return tube_balls(points, np.full(2, float(radius_mm)), np.full(2, weight))


def test_frontal_view_has_the_patients_left_at_the_right_and_the_head_at_the_top():
    place, _ = FRONTAL.project(np.array([[1.0, 0, 0], [0, 0, 1.0], [0, 1.0, 0]]))
    np.testing.assert_allclose(place, [[54, 50], [50, 46], [50, 50]], atol=1e-9)


def test_left_lateral_view_has_the_back_at_the_right():
    # LAO 90: the detector stands at the patient's left, and the picture is seen from there.
    place, _ = CArmView(90, 0, 25.25, 101, None).project(np.array([[0, 1.0, 0], [0, 0, 1.0]]))
    np.testing.assert_allclose(place, [[54, 50], [50, 46]], atol=1e-9)


def test_cranial_view_moves_what_lies_behind_upwards():
    # The detector is towards the head: what is 10 mm behind the isocentre rises by 10 mm x sin(30 deg) = 5 mm = 20 px.
    place, _ = CArmView(0, 30, 25.25, 101, None).project(np.array([[0, 10.0, 0]]))
    np.testing.assert_allclose(place, [[50, 30]], atol=1e-9)


def test_axes_are_orthonormal_and_right_handed_for_any_angles():
    axes = CArmView(-37, 24, 100, 64).axes
    np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(np.cross(axes[2], axes[0]), axes[1], atol=1e-12)


def test_magnification_is_the_ratio_of_distances_from_the_source():
    # 75 mm nearer to the source (behind the patient) of a source 750 mm away: 750 / 675.
    view = CArmView(0, 0, 25.25, 101, source_isocentre_mm=750)
    place, magnification = view.project(np.array([[1.0, 75.0, 0], [1.0, 0, 0]]))
    np.testing.assert_allclose(magnification, [750 / 675, 1])
    np.testing.assert_allclose(place[:, 0], [50 + 4 * 750 / 675, 54])


def test_ray_through_a_straight_tube_has_the_chord_of_a_circle():
    length = path_length_mm(tube((0, 0, -20), (0, 0, 20), 3), FRONTAL)
    offset_mm = 0.25 * (np.arange(101) - 50)
    chord = 2 * np.sqrt(np.maximum(9 - offset_mm**2, 0))
    inside = np.abs(offset_mm) < 2.8
    np.testing.assert_allclose(length[50, inside], chord[inside], rtol=0.05)
    assert length[50, 50] == pytest.approx(6, rel=0.01)
    assert (length[50, np.abs(offset_mm) >= 3] == 0).all()


def test_foreshortened_tube_is_as_deep_as_it_is_long():
    # 20 mm along the beam and a half ball of radius 1 at either end.
    length = path_length_mm(tube((0, -10, 0), (0, 10, 0), 1), FRONTAL)
    assert length[50, 50] == pytest.approx(22, abs=1e-4)


def test_tubes_that_cross_in_one_plane_count_once_and_apart_twice():
    upright = tube((0, 0, -10), (0, 0, 10), 1)
    touching = Balls.join([upright, tube((-10, 0, 0), (10, 0, 0), 1)])
    apart = Balls.join([upright, tube((-10, 5, 0), (10, 5, 0), 1)])
    assert path_length_mm(touching, FRONTAL)[50, 50] == pytest.approx(2, rel=0.01)
    assert path_length_mm(apart, FRONTAL)[50, 50] == pytest.approx(4, rel=0.01)


def test_half_the_contrast_agent_is_half_the_length():
    full = path_length_mm(tube((0, 0, -5), (3, 0, 5), 1.5), FRONTAL)
    half = path_length_mm(tube((0, 0, -5), (3, 0, 5), 1.5, weight=0.5), FRONTAL)
    np.testing.assert_allclose(half, full / 2, rtol=1e-5)


@pytest.mark.parametrize("shift_mm", [(0.0, 0.0), (0.1, -0.07), (0.125, 0.125)])
def test_mask_holds_exactly_the_pixels_whose_centre_is_inside(shift_mm):
    balls = Balls(np.array([[shift_mm[0], 0, shift_mm[1]]]), np.array([1.1]), np.ones(1))
    mask = lumen_mask(balls, FRONTAL)
    expected = np.zeros((101, 101), dtype=bool)
    for row in range(101):
        for column in range(101):
            right_mm, up_mm = 0.25 * (column - 50), 0.25 * (50 - row)
            expected[row, column] = (right_mm - shift_mm[0]) ** 2 + (up_mm - shift_mm[1]) ** 2 < 1.1**2
    np.testing.assert_array_equal(mask, expected)


def test_tapered_tube_is_as_wide_as_its_radius_says():
    balls = tube_balls(np.array([[0, 0, -10.0], [0, 0, 10.0]]), np.array([3.0, 1.0]), np.ones(2))
    width_mm = 0.25 * lumen_mask(balls, FRONTAL).sum(axis=1)
    # Row 50 is halfway (radius 2), row 70 is 5 mm lower (radius 2.5). One pixel and the tube's slant are allowed.
    assert width_mm[50] == pytest.approx(4, abs=0.25)
    assert width_mm[70] == pytest.approx(5, abs=0.25)


def test_mask_and_path_length_cover_the_same_pixels():
    balls = tube((-8, 3, -9), (6, -4, 9), 1.3)
    np.testing.assert_array_equal(path_length_mm(balls, FRONTAL) > 0, lumen_mask(balls, FRONTAL))


def test_what_lies_outside_the_field_leaves_it_empty():
    balls = tube((200, 0, 0), (220, 0, 0), 2)
    assert not lumen_mask(balls, FRONTAL).any()
    assert not path_length_mm(balls, FRONTAL).any()


def test_tube_cut_by_the_edge_is_drawn_up_to_the_edge():
    mask = lumen_mask(tube((0, 0, 0), (50, 0, 0), 1), FRONTAL)
    assert mask[50, 50:].all()
    assert not mask[50, :45].any()
