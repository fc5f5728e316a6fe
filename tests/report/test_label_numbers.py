import csv

import numpy as np
import pytest

from cmunet_monai.report.figures import draw_label_numbers
from cmunet_monai.report.label_numbers import gain_by_doubling, in_words, label_gains
from cmunet_monai.report.study_runs import read_runs
from cmunet_monai.report.study_table import table
from tests.report.test_page import report


def gain_of(study, method="none", metric="dice"):
    return next(g for g in label_gains(read_runs(study.folder)) if (g.method, g.metric) == (method, metric))


def test_a_power_law_is_found_again_and_carried_one_doubling_on():
    # 1 - mean = 0.8 n^(-1/2): 0.4, 0.2, 0.1 are missing at 4, 16, 64, and 0.1 / sqrt(2) at 128
    numbers, missing = np.array([4.0, 16.0, 64.0]), np.array([0.4, 0.2, 0.1])
    assert gain_by_doubling(numbers, 1 - missing) == pytest.approx(0.1 - 0.1 / 2**0.5)
    assert gain_by_doubling(numbers, np.stack([1 - missing] * 2)).shape == (2,)


def test_without_a_course_nothing_is_gained_and_a_falling_one_loses():
    numbers = np.array([10.0, 20.0, 40.0])
    assert gain_by_doubling(numbers, np.full(3, 0.7)) == pytest.approx(0)
    assert gain_by_doubling(numbers, np.array([0.7, 0.6, 0.5])) < 0


def test_a_perfect_mean_has_no_power_law():
    assert np.isnan(gain_by_doubling(np.array([10.0, 20.0, 40.0]), np.array([0.5, 0.8, 1.0])))


def test_least_squares_are_those_of_numpy():
    numbers, means = np.array([5.0, 18.0, 100.0, 946.0]), np.array([0.5, 0.62, 0.7, 0.74])
    slope, start = np.polyfit(np.log(numbers), np.log(1 - means), 1)
    expected = np.exp(start) * (946**slope - (2 * 946) ** slope)
    assert gain_by_doubling(numbers, means) == pytest.approx(expected)


def test_one_number_of_labels_says_nothing_of_more(study):
    gain = gain_of(study)
    assert (gain.numbers, gain.interval) == ((18.0,), None)
    assert in_words(gain) == (
        "none, Dice: nothing can be said about more labels, with one number of labelled images, 18."
    )


def test_two_numbers_are_a_difference(study):
    study.add("none", 0, [0.7, 0.7, 0.7], labels="100")
    gain = gain_of(study)
    assert gain.interval.mean == pytest.approx(0.7 - 0.55)
    assert gain.interval.lower < gain.interval.mean < gain.interval.upper
    assert "100 labelled images instead of 18 made a difference of +0.150 (95% interval" in in_words(gain)
    assert "nothing is said of still more" in in_words(gain)


def test_three_numbers_are_a_curve_with_an_interval(study):
    for draw in (0, 1):
        study.add("none", draw, [0.6, 0.7, 0.8], labels="36")
        study.add("none", draw, [0.7, 0.8, 0.9], labels="all", labelled_images=72)
    gain = gain_of(study)
    assert gain.numbers == (18.0, 36.0, 72.0)
    assert gain.interval.mean == pytest.approx(gain_by_doubling(np.array([18, 36, 72]), np.array([0.55, 0.7, 0.8])))
    assert gain.interval.lower < gain.interval.mean < gain.interval.upper
    assert "Dice: 144 labelled images instead of 72 are expected to add +0." in in_words(gain)


def test_the_same_images_are_drawn_for_all_numbers_of_labels(study):
    """A gain that is the same on every image has an interval of no width, however much the images differ."""
    study.cells = []
    for labels, dice in (("18", [0.2, 0.5, 0.8]), ("100", [0.3, 0.6, 0.9])):
        study.add("none", 0, dice, labels=labels)
    interval = gain_of(study).interval
    assert (interval.mean, interval.lower, interval.upper) == pytest.approx((0.1, 0.1, 0.1))


def test_no_label_is_no_point_of_a_curve_and_stands_at_the_left_edge(study):
    study.add("none", 0, [0.1, 0.2, 0.3], labels="0")
    study.add("none", 0, [0.7, 0.7, 0.7], labels="all", labelled_images=100)
    runs = read_runs(study.folder)
    assert gain_of(study).numbers == (18.0, 100.0)
    figure = draw_label_numbers(runs, table(runs), "none")
    axes = figure.axes[0]
    assert axes.get_xscale() == "log"
    assert dict(zip([t.get_text() for t in axes.get_xticklabels()], axes.get_xticks(), strict=True)) == {
        "18": 18,
        "100": 100,
        "0": 9,
    }
    assert [axes.get_ylabel() for axes in figure.axes] == ["Dice", "clDice"]
    places = [bars.lines[0].get_xdata() for bars in axes.containers if bars.get_label() == "none"]
    edge = axes.get_xlim()[0]
    assert [len(x) for x in places] == [1, 2]  # no label, apart from the curve of 18 and 100
    assert edge < places[0][0] < 18 / 2**0.5 < places[1][0]


def test_a_study_without_any_label_is_drawn_too(study):
    study.cells = []
    study.add("none", 0, [0.1, 0.2, 0.3], labels="0")
    runs = read_runs(study.folder)
    axes = draw_label_numbers(runs, table(runs), "none").axes[0]
    assert "0" in [text.get_text() for text in axes.get_xticklabels()]
    assert in_words(gain_of(study)) == "none, Dice: nothing can be said about more labels, with no labelled image."


def test_the_page_and_a_table_say_what_more_labels_are_worth(study):
    study.add("none", 0, [0.7, 0.7, 0.7], labels="100")
    page, output = report(study)
    assert "none, Dice: 100 labelled images instead of 18 made a difference of +0.150" in page.text
    assert "cm_unet, clDice: nothing can be said about more labels" in page.text
    with (output / "label_gains.csv").open(newline="") as file:
        rows = {(row["method"], row["metric"]): row for row in csv.DictReader(file)}
    assert (rows["none", "dice"]["labelled_images"], rows["none", "dice"]["gain"]) == ("18 100", "0.15")
    assert rows["cm_unet", "dice"]["gain"] == ""
