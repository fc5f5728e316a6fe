"""The function that measures a frame: what it takes, what it refuses, and its rows."""

import csv
import io
import json

import numpy as np
import pytest

from cmunet_monai.measurements import measure_arteries, narrowing_rows, profile_rows, segment_rows


@pytest.fixture
def narrowed(draw, course):
    """A vessel of 12 px along row 60 from column 10 to 118, half as wide at column 64."""
    line = course((60, 10), (60, 118))
    return draw((line, 12 * (1 - 0.5 * np.exp(-(((line[:, 1] - 64) / 8) ** 2)))))


@pytest.mark.parametrize(
    "levels",
    [np.zeros((20, 30)), np.full((20, 30), 0.3), np.ones((20, 30)), np.ones((1, 1), bool), np.eye(20)[:, 5:6] * 0.9],
)
def test_a_frame_without_vessels_has_no_segments(levels):
    result = measure_arteries(levels, narrowings=True, spacing_mm=0.2)
    assert (result.segments, result.narrowings, result.spacing_mm) == ((), (), 0.2)


def test_a_single_pixel_is_no_vessel():
    mask = np.zeros((20, 20), dtype=bool)
    mask[7, 8] = True
    assert measure_arteries(mask).segments == ()


def test_narrowings_come_only_on_request(narrowed):
    assert measure_arteries(narrowed).narrowings == ()
    (found,) = measure_arteries(narrowed, narrowings=True).narrowings
    assert found.segment == 1


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_inputs_are_not_modified(narrowed, dtype):
    levels = narrowed.astype(dtype)
    levels[60, 40] = 0  # a hole that is filled on a copy
    mask = levels >= 0.5
    copies = levels.copy(), mask.copy()
    measure_arteries(levels, mask=mask, narrowings=True, between=((60, 20), (60, 100)))
    measure_arteries(mask, narrowings=True)
    np.testing.assert_array_equal(levels, copies[0])
    np.testing.assert_array_equal(mask, copies[1])


def test_results_are_the_same_whatever_the_memory_layout(narrowed):
    a, b = measure_arteries(narrowed), measure_arteries(np.asfortranarray(narrowed))
    np.testing.assert_array_equal(a.segments[0].diameter_px, b.segments[0].diameter_px)


def test_only_what_the_mask_marks_is_measured(draw, course):
    levels = draw((course((30, 10), (30, 118)), 9), (course((90, 10), (90, 118)), 7))
    mask = levels >= 0.5
    mask[:60] = False
    for given in (levels, levels >= 0.5):
        (segment,) = measure_arteries(given, mask=mask).segments
        assert segment.mean_diameter_px == pytest.approx(7, abs=0.5)


def test_a_mask_wider_than_the_contour_does_not_widen_the_vessel(draw, course):
    levels = draw((course((60, 10), (60, 118)), 9))
    (segment,) = measure_arteries(levels, mask=levels > 0).segments
    assert segment.mean_diameter_px == pytest.approx(9, abs=0.1)


def test_between_two_points_only_the_way_is_measured(draw, course):
    trunk, branch = course((30, 10), (30, 118)), course((30, 64), (110, 64))
    levels = draw((trunk, 9), (branch, 9))
    assert len(measure_arteries(levels).segments) == 3
    (way,) = measure_arteries(levels, between=((33, 20), (100, 60))).segments
    assert (way.starts_at, way.ends_at) == ("point", "point")
    assert way.points[0] == pytest.approx([30, 20], abs=1)
    assert way.points[-1] == pytest.approx([100, 64], abs=1)
    at_corner = np.hypot(*(way.points - [30, 64]).T) < 3
    assert np.isnan(way.diameter_px[at_corner]).all()
    np.testing.assert_allclose(way.diameter_px[way.clear], 9, atol=0.5)


def test_between_two_points_the_severest_narrowing_is_given_whatever_its_degree(draw, course):
    line = course((60, 10), (60, 118))
    levels = draw((line, 12 * (1 - 0.2 * np.exp(-(((line[:, 1] - 64) / 8) ** 2)))))
    assert measure_arteries(levels, narrowings=True).narrowings == ()
    (found,) = measure_arteries(levels, narrowings=True, between=((60, 30), (60, 100))).narrowings
    assert found.percent == pytest.approx(20, abs=5)
    assert found.column == pytest.approx(64, abs=3)


def test_a_narrowing_outside_the_two_points_is_not_given(narrowed):
    assert measure_arteries(narrowed, narrowings=True, between=((60, 85), (60, 110))).narrowings == ()


@pytest.mark.parametrize(
    "options, said",
    [
        ({"probability": np.zeros((1, 8, 8))}, r"`probability` must be \(H, W\), got \(1, 8, 8\)"),
        ({"probability": np.zeros((0, 8))}, r"`probability` must be \(H, W\), got \(0, 8\)"),
        ({"probability": np.full((8, 8), 1.5)}, r"`probability` must be 0 to 1, got 1\.5 to 1\.5"),
        ({"probability": np.full((8, 8), 255, np.uint8)}, r"`probability` must be 0 to 1, got 255 to 255"),
        ({"probability": np.full((8, 8), np.nan)}, r"`probability` must be 0 to 1, got nan to nan"),
        ({"probability": np.zeros((8, 8), complex)}, r"`probability` must hold numbers of 0 to 1, got complex128"),
        ({"mask": np.zeros((8, 8))}, r"`mask` must be bool, got float64"),
        ({"mask": np.zeros((8, 9), bool)}, r"`mask` must have the shape of `probability`, \(8, 8\), got \(8, 9\)"),
        ({"spacing_mm": 0.0}, r"`spacing_mm` must be positive and finite, or None, got 0\.0"),
        ({"spacing_mm": float("nan")}, r"`spacing_mm` must be positive and finite, or None, got nan"),
        ({"between": ((1, 2, 3), (4, 5, 6))}, r"`between` must be two \(row, column\), got"),
        ({"between": ((1, 2), (4, float("inf")))}, r"`between` must be two \(row, column\), got"),
        ({"between": ((1, 2), (4, 5))}, r"`between` needs a vessel, got a mask without one"),
    ],
)
def test_wrong_inputs_are_named(options, said):
    with pytest.raises(ValueError, match=said):
        measure_arteries(**{"probability": np.zeros((8, 8))} | options)


def test_rows_are_scalars_that_json_and_csv_hold(narrowed):
    result = measure_arteries(narrowed, narrowings=True, spacing_mm=0.25)
    for rows in (segment_rows(result), profile_rows(result), narrowing_rows(result)):
        assert json.loads(json.dumps(rows, allow_nan=False)) == rows
        assert len({tuple(row) for row in rows}) == 1
        table = io.StringIO()
        csv.DictWriter(table, list(rows[0])).writerows(rows)
        assert len(table.getvalue().splitlines()) == len(rows)


def test_rows_hold_the_measurements(narrowed):
    result = measure_arteries(narrowed, narrowings=True, spacing_mm=0.25)
    (segment,), (narrowing,) = segment_rows(result), narrowing_rows(result)
    assert segment["mean_diameter_mm"] == result.segments[0].mean_diameter_mm
    assert segment["minimum_diameter_px"] == pytest.approx(6, abs=0.3)
    assert narrowing["percent"] == result.narrowings[0].percent
    assert narrowing["minimum_mm"] == pytest.approx(1.5, abs=0.08)
    profile = profile_rows(result)
    assert len(profile) == len(result.segments[0].points)
    assert profile[0]["diameter_px"] is None  # a tip
    assert profile[54]["diameter_mm"] == pytest.approx(0.25 * result.segments[0].diameter_px[54])


def test_without_a_spacing_rows_hold_none_for_millimetres(narrowed):
    result = measure_arteries(narrowed, narrowings=True)
    for row in (segment_rows(result)[0], profile_rows(result)[50], narrowing_rows(result)[0]):
        assert all(value is None for name, value in row.items() if name.endswith("_mm"))
        assert any(name.endswith("_mm") for name in row)
