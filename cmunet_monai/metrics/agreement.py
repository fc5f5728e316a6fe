"""Agreement of two series of measurements: Pearson correlation and Bland-Altman limits of agreement."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats
from torch import Tensor

Values = Sequence[float] | np.ndarray | Tensor

LIMITS_IN_SD = 1.96


@dataclass(frozen=True)
class Pearson:
    """Correlation of two series.

    Attributes:
        r: correlation coefficient in [-1, 1], or NaN.
        p_value: two-sided, against r = 0 (t-test with n - 2 degrees of freedom), or NaN.
        n: pairs used. left_out: pairs with a NaN.
    """

    r: float
    p_value: float
    n: int
    left_out: int


@dataclass(frozen=True)
class BlandAltman:
    """Differences of two series, in their unit.

    Attributes:
        mean_difference: mean of a - b (the bias), or NaN.
        lower_limit, upper_limit: mean difference -/+ 1.96 standard deviations of the differences, or NaN.
        n: pairs used. left_out: pairs with a NaN.
    """

    mean_difference: float
    lower_limit: float
    upper_limit: float
    n: int
    left_out: int


def _complete_pairs(a: Values, b: Values) -> tuple[np.ndarray, np.ndarray, int]:
    first, second = (np.asarray(x.detach().cpu() if isinstance(x, Tensor) else x, dtype=np.float64) for x in (a, b))
    if first.ndim != 1 or first.shape != second.shape:
        raise ValueError(f"`a` and `b` must both be (N,), got {first.shape} and {second.shape}")
    if np.isinf(first).any() or np.isinf(second).any():
        raise ValueError("`a` and `b` must be finite or NaN, got inf")
    complete = ~(np.isnan(first) | np.isnan(second))
    return first[complete], second[complete], int((~complete).sum())


def pearson(a: Values, b: Values) -> Pearson:
    """Pearson correlation of two series of measurements, for example predicted and reference diameters.

    Args:
        a: (N,) values; a pair with a NaN in either series is left out and counted.
        b: (N,) values in the order of `a`.
    Returns:
        r and its p-value; both NaN for fewer than 3 complete pairs (two points always lie on a line) or a constant
        series.
    Raises:
        ValueError: if the series are not (N,) of one length, or hold inf.
    Source: Challier et al. 2025, section IV-B3. Deviations: none.
    """
    first, second, left_out = _complete_pairs(a, b)
    n = len(first)
    if n < 3 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return Pearson(float("nan"), float("nan"), n, left_out)
    result = stats.pearsonr(first, second)
    return Pearson(float(result.statistic), float(result.pvalue), n, left_out)


def bland_altman(a: Values, b: Values) -> BlandAltman:
    """Bland-Altman analysis of two series of measurements, for example predicted and reference diameters.

    Args:
        a: (N,) values, by convention the prediction's; a pair with a NaN in either series is left out and counted.
        b: (N,) values in the order of `a`, by convention the reference's. A positive bias means that `a` reads higher.
    Returns:
        Mean difference a - b and its limits of agreement, in the unit of the series. The mean is NaN without a complete
        pair, the limits with fewer than 2.
    Raises:
        ValueError: if the series are not (N,) of one length, or hold inf.
    Source: Bland and Altman 1986 (standard deviation with n - 1); Challier et al. 2025, section IV-B3. Deviations:
        none.
    """
    first, second, left_out = _complete_pairs(a, b)
    difference = first - second
    n = len(difference)
    mean = float(difference.mean()) if n else float("nan")
    reach = LIMITS_IN_SD * float(difference.std(ddof=1)) if n > 1 else float("nan")
    return BlandAltman(mean, mean - reach, mean + reach, n, left_out)
