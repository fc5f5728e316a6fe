"""Diameters that the resolution cannot carry are no measurement."""

import numpy as np
import pytest

from cmunet_monai.measurements import measure_arteries, segment_rows


def vessel(widths):
    """Probabilities of a straight vessel along row 30, of the given width at each column, walls between the pixels."""
    away = np.abs(np.arange(61) - 30.0)[:, None]
    return np.clip(np.asarray(widths)[None] / 2 - away + 0.5, 0, 1).astype(np.float32)


def only(levels, mask, **options):
    (row,) = segment_rows(measure_arteries(levels, mask=mask, **options))
    return row


def dipped(width, columns):
    """A vessel of 8 px, of `width` at some columns, and its mask, which has no dip."""
    widths = np.full(80, 8.0)
    widths[columns] = width
    return vessel(widths), vessel(np.full(80, 8.0)) >= 0.5


@pytest.mark.parametrize("width", [0.02, 0.3, 0.9])
def test_a_stretch_below_the_resolution_has_no_least_diameter_and_says_why(width):
    levels, mask = dipped(width, slice(35, 47))
    row = only(levels, mask)
    assert row["minimum_diameter_px"] is None
    assert "below the resolution of 1 px" in row["diameter_note"]
    assert row["mean_diameter_px"] == pytest.approx(8, abs=0.2)


@pytest.mark.parametrize("columns", [[40], [40, 41], [25, 50]])
def test_a_crack_does_not_make_the_least_diameter(columns):
    row = only(*dipped(0.1, columns))
    assert row["minimum_diameter_px"] == pytest.approx(8, abs=0.2)
    assert row["diameter_note"] is None


@pytest.mark.parametrize("width", [3.0, 4.0])
def test_a_narrow_stretch_that_can_be_resolved_is_measured(width):
    row = only(*dipped(width, slice(35, 47)))
    assert row["minimum_diameter_px"] == pytest.approx(width, abs=0.1)
    assert row["diameter_note"] is None


def test_what_is_measured_on_a_coarser_grid_has_a_coarser_resolution():
    levels, mask = dipped(1.6, slice(35, 47))
    # 1 on the centreline, 0.3 a pixel beside it: 0.5 lies 0.5 / 0.7 px away, on both sides
    assert only(levels, mask)["minimum_diameter_px"] == pytest.approx(2 * 0.5 / 0.7, abs=0.001)
    row = only(levels, mask, resolution_px=2.0)
    assert row["minimum_diameter_px"] is None
    assert "below the resolution of 2 px" in row["diameter_note"]


def test_no_diameter_is_below_the_resolution():
    levels, mask = dipped(0.5, slice(20, 60, 2))
    (segment,) = measure_arteries(levels, mask=mask).segments
    assert np.nanmin(segment.diameter_px) >= 1
    assert np.isnan(segment.diameter_px[segment.unresolved]).all()
