"""Summaries of per-image metrics, and bootstrap intervals of their means.

What is resampled are the units that are independent: groups of images (patients, or near-duplicate frames), and
training runs.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats
from torch import Tensor

Values = Sequence[float] | np.ndarray | Tensor
Table = Sequence[Sequence[float]] | np.ndarray | Tensor
Labels = Sequence[object] | np.ndarray


@dataclass(frozen=True)
class Interval:
    """A mean and its bootstrap percentile interval, in the unit of the values.

    Attributes:
        mean: over all defined values. lower, upper: the interval; level: its coverage, in (0, 1).
        n: defined values. undefined: values that were NaN and left out.
    """

    mean: float
    lower: float
    upper: float
    level: float
    n: int
    undefined: int


@dataclass(frozen=True)
class Summary:
    """How per-image values are spread, in their unit.

    Attributes:
        n: defined values. undefined: values that were NaN and left out of everything else.
        mean, percentile_5, percentile_95: NaN where nothing is defined. The bad tail of a score is its 5th percentile,
            that of a distance its 95th.
        failure_rate: share of the defined values below the threshold; None where no threshold was given.
    """

    n: int
    undefined: int
    mean: float
    percentile_5: float
    percentile_95: float
    failure_rate: float | None


def _as_floats(values: Values | Table, name: str, ndim: int) -> np.ndarray:
    array = np.asarray(values.detach().cpu() if isinstance(values, Tensor) else values, dtype=np.float64)
    if array.ndim != ndim or array.size == 0:
        wanted = "(N,)" if ndim == 1 else "(runs, images)"
        raise ValueError(f"`{name}` must be {wanted} and not empty, got {array.shape}")
    if np.isinf(array).any():
        raise ValueError(f"`{name}` must be finite or NaN, got inf")
    return array


def _group_indices(labels: Labels | None, count: int, name: str) -> np.ndarray:
    """The group number of each of `count` units, counted from 0; each its own group where `labels` is None."""
    if labels is None:
        return np.arange(count)
    if len(labels) != count:
        raise ValueError(f"`{name}` must have one label for each of {count} units, got {len(labels)}")
    numbers: dict[object, int] = {}
    return np.array([numbers.setdefault(label, len(numbers)) for label in labels])


def _check_bootstrap(level: float, resamples: int) -> None:
    if not 0 < level < 1:
        raise ValueError(f"`level` must be between 0 and 1, got {level}")
    if resamples < 1:
        raise ValueError(f"`resamples` must be at least 1, got {resamples}")


def _draws(rng: np.random.Generator, groups: int, resamples: int) -> np.ndarray:
    """(resamples, groups) float64: how often each is drawn when as many are drawn, with replacement, as there are."""
    return rng.multinomial(groups, np.full(groups, 1.0 / groups), size=resamples).astype(np.float64)


def _percentile_interval(means: np.ndarray, level: float) -> tuple[float, float]:
    lower, upper = np.quantile(means, [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    return float(lower), float(upper)


def bootstrap_interval(
    values: Values, groups: Labels | None = None, *, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Interval:
    """Percentile bootstrap interval of the mean of per-image values.

    Whole groups are drawn with replacement; the statistic is the mean over the images of the drawn groups.

    Args:
        values: (N,) one value per image. NaN (undefined) values are left out and counted.
        groups: (N,) patient or near-duplicate group of each image; None takes each image as a group of its own.
        level: coverage of the interval.
        resamples: number of bootstrap samples.
        seed: the same seed gives the same interval.
    Returns:
        Interval; the mean is NaN where nothing is defined, the bounds where fewer than two groups have a defined value
        (one group says nothing about how groups differ).
    Raises:
        ValueError: if `values` is not (N,), is empty or holds inf, `groups` has another length, or an option is out of
            range.
    Source: Efron and Tibshirani 1993, chapter 13; resampling of clusters: Davison and Hinkley 1997, section 3.8.
    """
    array = _as_floats(values, "values", 1)
    _check_bootstrap(level, resamples)
    group_of = _group_indices(groups, len(array), "groups")
    defined = ~np.isnan(array)
    array, n = array[defined], int(defined.sum())
    undefined = len(defined) - n
    if n == 0:
        return Interval(float("nan"), float("nan"), float("nan"), level, 0, undefined)
    mean = float(array.mean())
    _, group_of = np.unique(group_of[defined], return_inverse=True)  # groups left without a value are not drawn
    counts = np.bincount(group_of)
    if len(counts) < 2:
        return Interval(mean, float("nan"), float("nan"), level, n, undefined)
    # deviations from the mean, so that constant values give an interval of exactly no width
    sums = np.bincount(group_of, weights=array - mean)
    draws = _draws(np.random.default_rng(seed), len(counts), resamples)
    lower, upper = _percentile_interval(draws @ sums / (draws @ counts), level)
    return Interval(mean, mean + lower, mean + upper, level, n, undefined)


def hierarchical_bootstrap(
    values: Table,
    baseline: Table | None = None,
    *,
    groups: Labels | None = None,
    run_groups: Labels | None = None,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Percentile bootstrap interval of a mean over training runs and images, or of two methods' paired difference.

    Each bootstrap sample draws runs with replacement, then groups of images with replacement, and averages over all
    their cells. All drawn runs are measured on the same drawn images, as all runs were measured on the same images:
    drawing images anew for each run would average the luck of the images away, which no number of runs does.

    Args:
        values: (runs, images) one value per run and image, for example three label draws by 200 images. NaN cells are
            left out and counted.
        baseline: (runs, images) the other method with the same draws, seeds and images in the same order; the interval
            is then that of `values - baseline`, over the cells where both are defined.
        groups: (images,) patient or near-duplicate group of each image; None takes each image as a group of its own.
        run_groups: (runs,) label draw of each run, where several seeds share a draw: whole draws are then drawn. None
            takes each run as a draw of its own.
        level: coverage of the interval.
        resamples: number of bootstrap samples.
        seed: the same seed gives the same interval.
    Returns:
        Interval over the cells. With few draws it is too narrow: the share of the variance that comes from k draws is
        underestimated by the factor (k - 1) / k, so state k beside it. NaN bounds where fewer than two draws or two
        groups of images have a defined value.
    Raises:
        ValueError: if an array is not (runs, images), is empty or holds inf, the two shapes or the numbers of labels do
            not fit, or an option is out of range; if there is only one run (then `bootstrap_interval` is meant).
    Source: Owen 2007, "The pigeonhole bootstrap".
    """
    table = _as_floats(values, "values", 2)
    if baseline is not None:
        other = _as_floats(baseline, "baseline", 2)
        if other.shape != table.shape:
            raise ValueError(f"`values` and `baseline` must have the same shape, got {table.shape} and {other.shape}")
        table = table - other
    _check_bootstrap(level, resamples)
    runs, images = table.shape
    if runs < 2:
        raise ValueError(f"`values` must have at least two runs, got {runs}; use bootstrap_interval for one")
    run_group_of = _group_indices(run_groups, runs, "run_groups")
    image_group_of = _group_indices(groups, images, "groups")
    defined = ~np.isnan(table)
    n = int(defined.sum())
    undefined = table.size - n
    if n == 0:
        return Interval(float("nan"), float("nan"), float("nan"), level, 0, undefined)
    mean = float(table[defined].mean())
    sums, counts = _block_sums(table, mean, run_group_of, image_group_of)
    shape = sums.shape
    if min(shape) < 2:
        return Interval(mean, float("nan"), float("nan"), level, n, undefined)
    rng = np.random.default_rng(seed)
    run_draws, image_draws = _draws(rng, shape[0], resamples), _draws(rng, shape[1], resamples)
    totals = ((run_draws @ counts) * image_draws).sum(axis=1)
    drawn = totals > 0  # a sample can hit undefined cells only; it has no mean
    means = ((run_draws @ sums) * image_draws).sum(axis=1)[drawn] / totals[drawn]
    lower, upper = _percentile_interval(means, level)
    return Interval(mean, mean + lower, mean + upper, level, n, undefined)


def bootstrap_means(
    tables: Sequence[Table],
    *,
    groups: Labels | None = None,
    run_groups: Sequence[Labels | None] | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> np.ndarray:
    """Means of several tables of the same images in each bootstrap sample, for what is computed from all of them.

    The same groups of images are drawn for all tables, and runs for each table by itself, as in
    `hierarchical_bootstrap`; the only run of a table is not drawn.

    Args:
        tables: each (runs, images), one value per run and image, NaN where undefined.
        groups: (images,) group of each image; None takes each image as a group of its own.
        run_groups: for each table the (runs,) label draw of each run; None takes each run as a draw of its own.
        resamples: number of bootstrap samples.
        seed: the same seed gives the same samples.
    Returns:
        (resamples, tables) float64; NaN where a sample hits undefined cells only, and everywhere with fewer than two
        groups of images with a defined value.
    Raises:
        ValueError: if a table is not (runs, images), is empty or holds inf, or numbers of images or labels do not fit.
    Source: Owen 2007, "The pigeonhole bootstrap".
    """
    arrays = [_as_floats(table, f"tables[{number}]", 2) for number, table in enumerate(tables)]
    images = {array.shape[1] for array in arrays}
    if len(images) != 1:
        raise ValueError(f"all tables must have the same images, got {sorted(images)}")
    _check_bootstrap(0.5, resamples)
    measured = np.any([~np.isnan(array).all(axis=0) for array in arrays], axis=0)
    _, group_of = np.unique(_group_indices(groups, images.pop(), "groups")[measured], return_inverse=True)
    image_groups = _one_hot(group_of)
    if len(image_groups) < 2:
        return np.full((resamples, len(arrays)), np.nan)
    rng = np.random.default_rng(seed)
    image_draws = _draws(rng, len(image_groups), resamples)
    means = []
    for number, whole in enumerate(arrays):
        labels = None if run_groups is None else run_groups[number]
        runs = _one_hot(_group_indices(labels, len(whole), f"run_groups[{number}]"))
        run_draws = _draws(rng, len(runs), resamples)  # of one draw: always that one
        array = whole[:, measured]
        sums, counts = (runs @ cells @ image_groups.T for cells in (np.nan_to_num(array), ~np.isnan(array)))
        total, count = (((run_draws @ cells) * image_draws).sum(axis=1) for cells in (sums, counts))
        means.append(np.divide(total, count, out=np.full(resamples, np.nan), where=count > 0))
    return np.stack(means, axis=1)


def _one_hot(group_of: np.ndarray) -> np.ndarray:
    """(groups, units) float64 of the group numbers of units."""
    return (np.arange(group_of.max(initial=-1) + 1)[:, None] == group_of).astype(np.float64)


def _block_sums(
    table: np.ndarray, mean: float, run_group_of: np.ndarray, image_group_of: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Sums of the deviations from the mean, and numbers of defined cells, over the blocks (draw, image group).

    Args:
        table: (runs, images), NaN where undefined, something defined. mean: of the defined cells.
        run_group_of, image_group_of: (runs,) and (images,) numbers of the groups.
    Returns:
        Two (draws, groups) float64; draws and groups without a defined cell are not among them.
    """
    defined = ~np.isnan(table)
    run_groups_used, block_row = np.unique(run_group_of[defined.any(axis=1)], return_inverse=True)
    image_groups_used, block_column = np.unique(image_group_of[defined.any(axis=0)], return_inverse=True)
    kept = np.ix_(defined.any(axis=1), defined.any(axis=0))
    shape = (len(run_groups_used), len(image_groups_used))
    block = (block_row[:, None] * shape[1] + block_column).ravel()
    deviations = np.where(defined, table - mean, 0.0)[kept].ravel()
    sums = np.bincount(block, weights=deviations, minlength=shape[0] * shape[1])
    counts = np.bincount(block, weights=defined[kept].ravel(), minlength=shape[0] * shape[1])
    return sums.reshape(shape), counts.reshape(shape)


@dataclass(frozen=True)
class PairedTest:
    """A test of a paired mean difference against 0, and the interval that belongs to it, in the unit of the values.

    Attributes:
        difference: mean over the cells. lower, upper: interval of the test; level: its coverage.
        p_value: two-sided. degrees_of_freedom: of its t distribution, from draws - 1 upwards.
        draws, groups: label draws and groups of images with a defined difference.
    """

    difference: float
    lower: float
    upper: float
    level: float
    p_value: float
    degrees_of_freedom: float
    draws: int
    groups: int


def paired_test(
    values: Table,
    baseline: Table,
    *,
    groups: Labels | None = None,
    run_groups: Labels | None = None,
    level: float = 0.95,
) -> PairedTest:
    """Test of two methods' paired difference that treats label draws and groups of images both as samples.

    It is the analysis of radiologists' reader studies, with draws in the place of readers and image groups in that of
    cases: the differences are decomposed into draw, group and rest, the variance of their mean is
    (MS_draw + max(MS_group - MS_rest, 0)) / cells, and its degrees of freedom follow from how little MS_draw rests on.
    Where three draws disagree t has about two degrees of freedom and the p-value is large. A bootstrap of three draws
    cannot say so (see `hierarchical_bootstrap`), a sign-flip of three draws says nothing else: its smallest p-value is
    0.25.

    Args:
        values: (runs, images) one value per run and image. NaN cells are left out.
        baseline: (runs, images) the other method with the same draws, seeds and images in the same order.
        groups: (images,) group of each image; None takes each image as a group of its own.
        run_groups: (runs,) label draw of each run; None takes each run as a draw of its own.
        level: coverage of the interval.
    Returns:
        PairedTest; p-value and interval are NaN with fewer than two draws or groups. Where no difference varies, the
        p-value is 0, or 1 if all differences are 0.
    Raises:
        ValueError: as `hierarchical_bootstrap`.
    Source: Dorfman, Berbaum and Metz 1992 (draws and images as random factors); Hillis 2007 (degrees of freedom).
        Deviations: MS_draw is at least MS_rest, which it exceeds in expectation (few draws that agree by chance would
        pass for certainty; the test is then conservative); blocks with unequal numbers of cells are weighted by them
        (the linearised mean over cells). Limits: it takes draws to be normally distributed, which few draws cannot
        show, and holds for other draws from the same labelled pool, not for other pools.
    """
    table, other = _as_floats(values, "values", 2), _as_floats(baseline, "baseline", 2)
    if other.shape != table.shape:
        raise ValueError(f"`values` and `baseline` must have the same shape, got {table.shape} and {other.shape}")
    _check_bootstrap(level, 1)
    table = table - other
    run_group_of = _group_indices(run_groups, table.shape[0], "run_groups")
    image_group_of = _group_indices(groups, table.shape[1], "groups")
    nan, n = float("nan"), int((~np.isnan(table)).sum())
    if n == 0:
        return PairedTest(nan, nan, nan, level, nan, nan, 0, 0)
    mean = float(np.nanmean(table))
    sums, _ = _block_sums(table, mean, run_group_of, image_group_of)
    k, g = sums.shape
    if k < 2 or g < 2:
        return PairedTest(mean, nan, nan, level, nan, nan, k, g)
    blocks = sums * (k * g / n)  # block means less the mean, where all blocks have the same number of cells
    rows, columns = blocks.mean(axis=1), blocks.mean(axis=0)
    ms_draw = g * float((rows**2).sum()) / (k - 1)
    ms_group = k * float((columns**2).sum()) / (g - 1)
    ms_rest = float(((blocks - rows[:, None] - columns) ** 2).sum()) / ((k - 1) * (g - 1))
    ms_draw = max(ms_draw, ms_rest)
    error = ms_draw + max(ms_group - ms_rest, 0.0)
    if error == 0.0:
        return PairedTest(mean, mean, mean, level, float(mean == 0.0), float("inf"), k, g)
    degrees = float("inf") if ms_draw == 0.0 else (k - 1) * (error / ms_draw) ** 2
    standard_error = (error / (k * g)) ** 0.5
    reach = float(stats.t.ppf((1.0 + level) / 2.0, degrees)) * standard_error
    p_value = 2.0 * float(stats.t.sf(abs(mean) / standard_error, degrees))
    return PairedTest(mean, mean - reach, mean + reach, level, p_value, degrees, k, g)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for their number: the chance of one false finding among all of them stays below the level.

    Args:
        p_values: of one family. NaN (no test) stays NaN and is not counted.
    Source: Holm 1979.
    """
    corrected = [float("nan")] * len(p_values)
    tested = sorted((i for i, p in enumerate(p_values) if not np.isnan(p)), key=lambda i: p_values[i])
    largest = 0.0
    for position, i in enumerate(tested):
        largest = max(largest, min(1.0, (len(tested) - position) * p_values[i]))
        corrected[i] = largest
    return corrected


def summarise(values: Values, *, failure_below: float | None = None) -> Summary:
    """Mean, tails, failure rate and number of undefined values of a per-image metric.

    Args:
        values: (N,) one value per image; NaN (undefined) values are counted and left out of everything else.
        failure_below: values below it are failures, for example 0.5 for Dice (an empty prediction has a Dice of 0).
    Returns:
        Summary in the unit of the values; percentiles are linearly interpolated.
    Raises:
        ValueError: if `values` is not (N,), is empty or holds inf.
    """
    array = _as_floats(values, "values", 1)
    defined = array[~np.isnan(array)]
    undefined = len(array) - len(defined)
    if len(defined) == 0:
        rate = None if failure_below is None else float("nan")
        return Summary(0, undefined, float("nan"), float("nan"), float("nan"), rate)
    percentile_5, percentile_95 = np.percentile(defined, [5, 95])
    rate = None if failure_below is None else float((defined < failure_below).mean())
    return Summary(len(defined), undefined, float(defined.mean()), float(percentile_5), float(percentile_95), rate)
