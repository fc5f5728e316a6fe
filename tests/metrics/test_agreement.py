"""Pearson and Bland-Altman against hand-worked series."""

import math

import numpy as np
import pytest
import torch

from cmunet_monai.metrics import BlandAltman, Pearson, bland_altman, pearson


def test_three_points_with_two_exchanged_correlate_by_one_half():
    # deviations (-1, 0, 1) and (-1, 1, 0): r = 1 / 2. With 1 degree of freedom t = r / sqrt(1 - r^2) = 1 / sqrt(3),
    # whose two-sided p under the Cauchy distribution is 1 - 2 / pi * atan(1 / sqrt(3)) = 1 - 2 / pi * pi / 6 = 2 / 3.
    result = pearson([1.0, 2.0, 3.0], [1.0, 3.0, 2.0])
    assert result.r == pytest.approx(0.5)
    assert result.p_value == pytest.approx(2 / 3)
    assert (result.n, result.left_out) == (3, 0)


@pytest.mark.parametrize("slope", [2.0, -0.5])
def test_a_straight_line_correlates_fully(slope):
    a = np.arange(10.0)
    result = pearson(a, 3.0 + slope * a)
    assert result.r == pytest.approx(math.copysign(1, slope))
    assert result.p_value == pytest.approx(0, abs=1e-12)


def test_a_pair_with_nan_is_left_out_and_counted():
    result = pearson([1.0, 2.0, math.nan, 3.0, 9.0], [1.0, 3.0, 5.0, 2.0, math.nan])
    assert result.r == pytest.approx(0.5)
    assert (result.n, result.left_out) == (3, 2)


@pytest.mark.parametrize("a, b", [([1.0, 2.0], [1.0, 3.0]), ([2.0] * 5, [1.0, 2.0, 3.0, 4.0, 5.0])])
def test_two_pairs_or_a_constant_series_have_no_correlation(a, b):
    for result in (pearson(a, b), pearson(b, a)):
        assert math.isnan(result.r)
        assert math.isnan(result.p_value)
        assert result.n == len(a)


def test_the_limits_of_agreement_lie_196_standard_deviations_around_the_bias():
    # differences 1, 2, 3: mean 2, standard deviation 1
    result = bland_altman([11.0, 22.0, 33.0], [10.0, 20.0, 30.0])
    assert result == BlandAltman(2.0, pytest.approx(0.04), pytest.approx(3.96), n=3, left_out=0)


def test_the_bias_is_positive_where_the_first_series_reads_higher():
    assert bland_altman([3.0, 4.0], [2.0, 2.0]).mean_difference == 1.5
    assert bland_altman([2.0, 2.0], [3.0, 4.0]).mean_difference == -1.5


def test_equal_differences_have_limits_at_the_bias():
    assert bland_altman([2.0, 3.0, 4.0], [1.0, 2.0, 3.0]) == BlandAltman(1.0, 1.0, 1.0, n=3, left_out=0)


def test_one_pair_has_a_bias_but_no_limits_and_none_has_neither():
    one = bland_altman([3.0, math.nan], [1.0, 1.0])
    assert (one.mean_difference, one.n, one.left_out) == (2.0, 1, 1)
    assert math.isnan(one.lower_limit)
    assert math.isnan(one.upper_limit)
    none = bland_altman([math.nan], [1.0])
    assert math.isnan(none.mean_difference)
    assert (none.n, none.left_out) == (0, 1)


def test_tensors_are_taken():
    a, b = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 3.0, 2.0])
    assert pearson(a, b) == Pearson(pytest.approx(0.5), pytest.approx(2 / 3), n=3, left_out=0)
    assert bland_altman(a, b).mean_difference == pytest.approx(0.0)


@pytest.mark.parametrize("function", [pearson, bland_altman])
def test_series_of_two_lengths_or_a_table_or_inf_are_refused(function):
    with pytest.raises(ValueError, match=r"must both be \(N,\), got \(3,\) and \(2,\)"):
        function([1.0, 2.0, 3.0], [1.0, 2.0])
    with pytest.raises(ValueError, match=r"must both be \(N,\), got \(2, 2\) and \(2, 2\)"):
        function(np.ones((2, 2)), np.ones((2, 2)))
    with pytest.raises(ValueError, match="finite or NaN, got inf"):
        function([1.0, math.inf, 3.0], [1.0, 2.0, 3.0])
