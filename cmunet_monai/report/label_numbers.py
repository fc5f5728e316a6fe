"""What more labels are worth: the course of a metric over the number of labelled images, and one doubling beyond it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cmunet_monai.files.atomic import write_csv_atomic
from cmunet_monai.metrics.intervals import Interval, bootstrap_means
from cmunet_monai.report.study_runs import MethodRuns, StudyRuns
from cmunet_monai.report.study_table import METRICS

SCORES = ("dice", "cl_dice")
FEWEST_NUMBERS = 3  # for a curve that is not given by its points alone


@dataclass(frozen=True)
class LabelGain:
    """What more labels are worth to one method.

    Attributes:
        numbers: of labelled images that were measured, ascending, without 0.
        interval: what doubling the largest number is expected to add; with two numbers, what the larger of them added;
            None with fewer.
    """

    method: str
    metric: str
    numbers: tuple[float, ...]
    interval: Interval | None


def label_gains(study: StudyRuns) -> list[LabelGain]:
    """One for each method and score."""
    found = []
    for method in study.methods:
        sets = [runs for (_, own), runs in study.runs.items() if own == method and runs.labelled_images > 0]
        numbers = tuple(sorted({runs.labelled_images for runs in sets}))
        for metric in SCORES:
            interval = _interval(sets, np.array(numbers), metric) if len(numbers) > 1 else None
            found.append(LabelGain(method, metric, numbers, interval))
    return found


def gain_by_doubling(numbers: np.ndarray, means: np.ndarray) -> np.ndarray:
    """What a power law of what is missing to 1 adds from the largest number of labels to twice as many.

    Args:
        numbers: (N,) of labelled images, positive, at least two different ones.
        means: (..., N) of a score in [0, 1].
    Returns:
        (...) float64; NaN where a mean is 1 or undefined: nothing is missing whose logarithm could fall.
    Source: Hestness et al. 2017, "Deep learning scaling is predictable, empirically".
    """
    missing = np.where(means < 1, 1 - means, np.nan)
    doublings = np.log2(numbers) - np.log2(numbers).mean()
    logarithms = np.log2(missing)
    slope = (logarithms * doublings).sum(axis=-1) / (doublings**2).sum()
    at_largest = 2 ** (logarithms.mean(axis=-1) + slope * doublings.max())
    return at_largest * (1 - 2**slope)


def in_words(gain: LabelGain) -> str:
    """Describe the result in one or two sentences."""
    metric, numbers, interval = METRICS[gain.metric], list(map(_number, gain.numbers)), gain.interval
    who = f"{gain.method}, {metric.title}"
    if interval is None:
        had = f"one number of labelled images, {numbers[0]}" if numbers else "no labelled image"
        return f"{who}: nothing can be said about more labels, with {had}."
    if math.isnan(interval.mean):
        return f"{who}: no curve can be fitted, as a mean is perfect or undefined."
    bounds = f"95% interval {metric.show(interval.lower, '+')} to {metric.show(interval.upper, '+')}"
    size = f"{metric.show(interval.mean, '+')} ({'no interval' if math.isnan(interval.lower) else bounds})"
    if len(numbers) < FEWEST_NUMBERS:
        return (
            f"{who}: {numbers[1]} labelled images instead of {numbers[0]} made a difference of {size}. Two numbers of "
            "labels give no curve: nothing is said of still more."
        )
    twice = _number(2 * gain.numbers[-1])
    return f"{who}: {twice} labelled images instead of {numbers[-1]} are expected to add {size}."


def write_gains(gains: Sequence[LabelGain], path: Path) -> None:
    """As CSV, figures to six digits, nothing where undefined."""
    rows = []
    for gain in gains:
        figures = gain.interval and (gain.interval.mean, gain.interval.lower, gain.interval.upper)
        cells = ["" if math.isnan(value) else f"{value:.6g}" for value in figures or [math.nan] * 3]
        rows.append(
            {"method": gain.method, "metric": gain.metric, "labelled_images": " ".join(map(_number, gain.numbers))}
            | dict(zip(("gain", "lower_95", "upper_95"), cells, strict=True))
            | {"in_words": in_words(gain)}
        )
    write_csv_atomic(path, rows)


def _number(value: float) -> str:
    return f"{value:.10g}"


def _interval(sets: Sequence[MethodRuns], numbers: np.ndarray, metric: str) -> Interval:
    tables = [runs.tables[metric] for runs in sets]
    draws = [runs.label_draws if len(set(runs.label_draws)) > 1 else None for runs in sets]
    drawn = bootstrap_means(tables, groups=sets[0].groups, run_groups=draws)
    at = np.array([[float(runs.labelled_images == number) for runs in sets] for number in numbers])
    at /= at.sum(axis=1, keepdims=True)  # sets of one number of labels are one point of the curve
    defined = [table[~np.isnan(table)] for table in tables]
    means = np.array([values.mean() if values.size else np.nan for values in defined])
    gain, *gains = _gain(numbers, np.vstack([means, drawn]) @ at.T)
    known = [value for value in gains if not math.isnan(value)]
    lower, upper = np.quantile(known, [0.025, 0.975]) if known else (np.nan, np.nan)
    n = sum(values.size for values in defined)
    return Interval(float(gain), float(lower), float(upper), 0.95, n, sum(table.size for table in tables) - n)


def _gain(numbers: np.ndarray, means: np.ndarray) -> np.ndarray:
    """(...) of (..., N): see `LabelGain.interval`."""
    return gain_by_doubling(numbers, means) if len(numbers) >= FEWEST_NUMBERS else means[..., 1] - means[..., 0]
