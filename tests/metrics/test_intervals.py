"""Bootstrap intervals and paired tests against normal theory, enumeration and exact cases."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats

from cmunet_monai.metrics.intervals import (
    Interval,
    Summary,
    bootstrap_interval,
    bootstrap_means,
    hierarchical_bootstrap,
    holm,
    paired_test,
    summarise,
)


def half_width(interval):
    return (interval.upper - interval.lower) / 2


def test_a_constant_has_an_interval_of_no_width():
    assert bootstrap_interval([0.75] * 10) == Interval(0.75, 0.75, 0.75, 0.95, n=10, undefined=0)


@pytest.mark.parametrize("level, z", [(0.95, 1.959964), (0.8, 1.281552)])
def test_many_images_give_the_interval_of_normal_theory(level, z):
    values = np.random.default_rng(5).normal(0.7, 0.1, 500)
    interval = bootstrap_interval(values, level=level, resamples=20000)
    assert interval.mean == pytest.approx(values.mean())
    assert half_width(interval) == pytest.approx(z * values.std() / math.sqrt(500), rel=0.04)
    assert interval.lower < interval.mean < interval.upper


def enumerated_quantile(values, level):
    """The quantile of the mean over all equally likely resamples of a few values."""
    means = [np.mean(sample) for sample in itertools.product(values, repeat=len(values))]
    return np.quantile(means, level, method="inverted_cdf")


@pytest.mark.parametrize("level", [0.9, 0.95])
def test_few_images_give_the_quantiles_of_all_possible_resamples(level):
    values = [0.0, 0.0, 1.0]  # means 0, 1/3, 2/3 and 1 in 8, 12, 6 and 1 of 27 resamples
    interval = bootstrap_interval(values, level=level, resamples=20000)
    assert interval.lower == pytest.approx(enumerated_quantile(values, (1 - level) / 2))
    assert interval.upper == pytest.approx(enumerated_quantile(values, (1 + level) / 2))


def test_copies_of_a_frame_in_one_group_count_as_one():
    values = np.random.default_rng(0).random(30)
    copies, groups = np.repeat(values, 4), np.repeat(np.arange(30), 4)
    single, grouped, ungrouped = (
        bootstrap_interval(values),
        bootstrap_interval(copies, groups.tolist()),
        bootstrap_interval(copies),
    )
    assert (grouped.lower, grouped.upper) == pytest.approx((single.lower, single.upper))
    assert half_width(ungrouped) == pytest.approx(half_width(single) / 2, rel=0.15)  # 4 times the images: half as wide


def test_the_mean_is_over_images_where_groups_differ_in_size():
    interval = bootstrap_interval([0.0, 0.0, 0.0, 1.0], ["a", "a", "a", "b"], resamples=20000)
    assert interval.mean == 0.25
    # two draws of a or b: aa 0, ab 1/4 (over its 4 images, twice), bb 1
    assert (interval.lower, interval.upper) == (0.0, 1.0)


def test_undefined_values_are_left_out_and_counted():
    values, groups = [0.2, math.nan, 0.4, 0.9, math.nan], ["a", "a", "b", "c", "d"]
    interval = bootstrap_interval(values, groups)
    plain = bootstrap_interval([0.2, 0.4, 0.9])
    assert (interval.mean, interval.lower, interval.upper) == (plain.mean, plain.lower, plain.upper)
    assert (interval.n, interval.undefined) == (3, 2)


def test_one_group_has_a_mean_but_no_interval_and_nothing_defined_has_neither():
    one = bootstrap_interval([0.5, 0.7], ["a", "a"])
    assert one.mean == pytest.approx(0.6)
    assert math.isnan(one.lower)
    assert math.isnan(one.upper)
    nothing = bootstrap_interval([math.nan, math.nan])
    assert math.isnan(nothing.mean)
    assert (nothing.n, nothing.undefined) == (0, 2)


def test_a_seed_gives_the_same_interval_and_another_one_does_not():
    values = np.random.default_rng(0).random(40)
    assert bootstrap_interval(values, seed=3) == bootstrap_interval(values, seed=3)
    assert bootstrap_interval(values, seed=3) != bootstrap_interval(values, seed=4)


def test_the_interval_holds_the_true_mean_about_as_often_as_it_says():
    rng = np.random.default_rng(1)
    intervals = (bootstrap_interval(rng.exponential(1.0, 60), resamples=400, seed=i) for i in range(400))
    hits = sum(interval.lower <= 1.0 <= interval.upper for interval in intervals)
    # percentile intervals of 60 skewed values fall a little short of 95%; 400 trials are uncertain by 1.1 points
    assert 0.89 <= hits / 400 <= 0.98


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"values": []}, r"`values` must be \(N,\) and not empty, got \(0,\)"),
        ({"values": [[1.0]]}, r"`values` must be \(N,\) and not empty, got \(1, 1\)"),
        ({"values": [1.0, math.inf]}, "finite or NaN, got inf"),
        ({"values": [1.0, 2.0], "groups": ["a"]}, "`groups` must have one label for each of 2 units, got 1"),
        ({"values": [1.0], "level": 95}, "`level` must be between 0 and 1, got 95"),
        ({"values": [1.0], "resamples": 0}, "`resamples` must be at least 1, got 0"),
    ],
)
def test_what_cannot_be_resampled_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        bootstrap_interval(**arguments)


def test_a_constant_table_has_an_interval_of_no_width():
    assert hierarchical_bootstrap(np.full((3, 8), 0.5)) == Interval(0.5, 0.5, 0.5, 0.95, n=24, undefined=0)


@pytest.mark.parametrize("level", [0.9, 0.95])
def test_where_only_runs_differ_the_interval_is_that_of_all_resamples_of_runs(level):
    runs = [0.0, 0.0, 1.0]
    interval = hierarchical_bootstrap(np.repeat([runs], 50, axis=0).T, level=level, resamples=20000)
    assert interval.lower == pytest.approx(enumerated_quantile(runs, (1 - level) / 2))
    assert interval.upper == pytest.approx(enumerated_quantile(runs, (1 + level) / 2))


def test_where_only_images_differ_more_runs_do_not_narrow_the_interval():
    images = np.random.default_rng(2).normal(0.7, 0.1, 400)
    interval = hierarchical_bootstrap(np.repeat([images], 9, axis=0), resamples=20000)
    assert half_width(interval) == pytest.approx(1.959964 * images.std() / math.sqrt(400), rel=0.04)


def test_the_variances_of_runs_and_images_add_up():
    rng = np.random.default_rng(3)
    runs, images = rng.normal(0, 0.05, 40), rng.normal(0.7, 0.2, 300)
    interval = hierarchical_bootstrap(runs[:, None] + images, resamples=20000)
    expected = 1.959964 * math.sqrt(runs.var() / 40 + images.var() / 300)
    assert half_width(interval) == pytest.approx(expected, rel=0.04)


def test_a_method_that_is_always_better_by_the_same_amount_has_a_difference_of_no_width():
    baseline = np.random.default_rng(4).random((3, 50))
    interval = hierarchical_bootstrap(baseline + 0.125, baseline)
    assert (interval.mean, interval.lower, interval.upper) == pytest.approx((0.125, 0.125, 0.125))


def test_pairing_takes_out_what_both_methods_share():
    rng = np.random.default_rng(5)
    images, gain = rng.normal(0.6, 0.2, 300), rng.normal(0.02, 0.01, 300)
    values, baseline = np.repeat([images + gain], 4, axis=0), np.repeat([images], 4, axis=0)
    interval = hierarchical_bootstrap(values, baseline, resamples=20000)
    assert interval.mean == pytest.approx(gain.mean())
    assert half_width(interval) == pytest.approx(1.959964 * gain.std() / math.sqrt(300), rel=0.04)


def test_only_cells_that_both_methods_define_are_compared():
    values = np.array([[1.0, 2.0, 3.0], [1.0, math.nan, 3.0]])
    baseline = np.array([[0.0, 1.0, math.nan], [0.0, 1.0, 2.0]])
    interval = hierarchical_bootstrap(values, baseline)
    assert interval.mean == pytest.approx(1.0)
    assert (interval.n, interval.undefined) == (4, 2)
    assert (interval.lower, interval.upper) == pytest.approx((1.0, 1.0))


def test_groups_of_images_are_drawn_whole():
    images = np.random.default_rng(6).random(30)
    single = hierarchical_bootstrap(np.repeat([images], 3, axis=0))
    copies = np.repeat([np.repeat(images, 4)], 3, axis=0)
    grouped = hierarchical_bootstrap(copies, groups=np.repeat(np.arange(30), 4))
    assert (grouped.lower, grouped.upper) == pytest.approx((single.lower, single.upper))
    assert half_width(hierarchical_bootstrap(copies)) < 0.65 * half_width(single)


def test_seeds_of_one_label_draw_are_drawn_together():
    draws = np.repeat([[0.0], [0.0], [1.0]], 20, axis=1)
    single = hierarchical_bootstrap(draws, level=0.9)
    seeds = np.repeat(draws, 5, axis=0)
    grouped = hierarchical_bootstrap(seeds, run_groups=["a"] * 5 + ["b"] * 5 + ["c"] * 5, level=0.9)
    assert (grouped.lower, grouped.upper) == pytest.approx((single.lower, single.upper))
    assert (single.lower, single.upper) == pytest.approx((0.0, 2 / 3))
    assert hierarchical_bootstrap(seeds, level=0.9).upper < 0.6  # 15 runs taken for independent


def test_an_image_that_no_run_defines_is_not_drawn():
    table = np.array([[0.2, math.nan, 0.6], [0.4, math.nan, 0.8]])
    interval = hierarchical_bootstrap(table)
    plain = hierarchical_bootstrap(table[:, [0, 2]])
    assert (interval.mean, interval.lower, interval.upper) == (plain.mean, plain.lower, plain.upper)
    assert (interval.n, interval.undefined) == (4, 2)


@pytest.mark.parametrize(
    "table, mean",
    [
        ([[0.2, 0.4], [math.nan, math.nan]], 0.3),
        ([[0.2, math.nan], [0.4, math.nan]], 0.3),
        ([[math.nan] * 2] * 2, math.nan),
    ],
    ids=["one run defined", "one image defined", "nothing defined"],
)
def test_a_table_with_one_run_or_one_image_defined_has_no_interval(table, mean):
    interval = hierarchical_bootstrap(table)
    assert interval.mean == pytest.approx(mean, nan_ok=True)
    assert math.isnan(interval.lower)
    assert math.isnan(interval.upper)


def test_one_run_is_sent_to_the_plain_bootstrap():
    with pytest.raises(ValueError, match="at least two runs, got 1; use bootstrap_interval"):
        hierarchical_bootstrap(np.zeros((1, 5)))


def test_tables_of_two_shapes_are_both_named():
    with pytest.raises(ValueError, match=r"same shape, got \(3, 5\) and \(3, 4\)"):
        hierarchical_bootstrap(np.zeros((3, 5)), np.zeros((3, 4)))


def test_the_paired_test_gives_what_its_analysis_of_variance_gives_by_hand():
    # means 3; of draws 2, 4; of images 1.5, 4.5. MS: draw 2 (1 + 1) / 1 = 4, image 2 (2.25 + 2.25) / 1 = 9, rest 1
    test = paired_test([[2.0, 4.0], [4.0, 9.0]], [[1.0, 1.0], [2.0, 3.0]])
    assert (test.difference, test.draws, test.groups) == (3.0, 2, 2)
    assert test.degrees_of_freedom == pytest.approx((4 + 9 - 1) ** 2 / 4**2)
    assert test.p_value == pytest.approx(2 * stats.t.sf(3 / math.sqrt(12 / 4), 9))
    reach = stats.t.ppf(0.975, 9) * math.sqrt(3)
    assert (test.lower, test.upper) == pytest.approx((3 - reach, 3 + reach))


def test_where_only_draws_differ_the_test_is_students_on_their_means():
    draws = [0.02, 0.05, 0.11]
    test = paired_test(np.repeat([draws], 30, axis=0).T, np.zeros((3, 30)))
    assert test.p_value == pytest.approx(stats.ttest_1samp(draws, 0.0).pvalue)
    assert test.degrees_of_freedom == pytest.approx(2)


def test_where_only_images_differ_the_test_is_that_of_their_mean_however_many_the_draws():
    images = np.random.default_rng(1).normal(0.02, 0.1, 60)
    test = paired_test(np.repeat([images], 4, axis=0), np.zeros((4, 60)))
    z = images.mean() / (images.std(ddof=1) / math.sqrt(60))
    assert test.p_value == pytest.approx(2 * stats.norm.sf(abs(z)), rel=1e-6)


def test_under_an_enumerated_null_of_draws_that_help_or_harm_the_test_keeps_its_level():
    # five draws that each help or harm by 1, all 32 equally likely: only where all have one sign is p below the level
    p_values = [
        paired_test(np.repeat([signs], 4, axis=0).T.astype(float), np.zeros((5, 4))).p_value
        for signs in itertools.product([-1, 1], repeat=5)
    ]
    expected = stats.ttest_1samp([1, 1, 1, 1, -1], 0).pvalue
    assert sorted(p_values)[:2] == [0.0, 0.0]
    assert sorted(p_values)[2:12] == pytest.approx([expected] * 10)
    assert expected > 0.05


def test_with_three_draws_the_test_keeps_its_level_where_the_bootstrap_does_not():
    rng = np.random.default_rng(7)
    zeros = np.zeros((3, 25))
    tested, excluded = 0, 0
    for seed in range(400):
        noise = rng.normal(0, 0.06, (3, 1)) + rng.normal(0, 0.05, 25) + rng.normal(0, 0.1, (3, 25))
        tested += paired_test(noise, zeros).p_value < 0.05
        interval = hierarchical_bootstrap(noise, resamples=200, seed=seed)
        excluded += interval.lower > 0 or interval.upper < 0
    assert tested / 400 <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 400)
    assert excluded / 400 > 0.1


def test_draws_that_agree_by_chance_do_not_pass_for_certainty():
    # the draws have the same mean difference, 1, though their images do not agree at all
    differences = np.array([[3.0, -1.0], [-1.0, 3.0], [1.0, 1.0]])
    test = paired_test(differences, np.zeros((3, 2)))
    assert test.degrees_of_freedom == pytest.approx(2)
    assert test.p_value == pytest.approx(2 * stats.t.sf(1 / math.sqrt(8 / 6), 2))  # MS rest 16 / 2 = 8, image 0


def test_seeds_of_one_draw_count_as_one_draw_in_the_test():
    draws = np.array([[0.1], [0.2], [0.6]]) + np.random.default_rng(0).normal(0, 0.1, 20)
    once, zeros = paired_test(draws, np.zeros((3, 20))), np.zeros((6, 20))
    seeds = paired_test(np.repeat(draws, 2, axis=0), zeros, run_groups=[0, 0, 1, 1, 2, 2])
    assert (seeds.p_value, seeds.draws) == (pytest.approx(once.p_value), 3)


def test_one_draw_has_no_p_value_and_no_difference_at_all_has_one_of_one():
    one = paired_test([[0.1, 0.2]], [[0.0, 0.0]])
    assert one.difference == pytest.approx(0.15)
    assert math.isnan(one.p_value)
    assert math.isnan(one.lower)
    same = np.random.default_rng(0).random((3, 5))
    assert paired_test(same, same).p_value == 1.0
    assert paired_test(np.ones((3, 5)), np.zeros((3, 5))).p_value == 0.0
    assert math.isnan(paired_test([[math.nan]], [[0.0]]).difference)
    with pytest.raises(ValueError, match=r"same shape, got \(3, 5\) and \(1, 5\)"):
        paired_test(same, same[:1])


def test_holm_multiplies_the_smallest_by_all_and_never_lets_a_larger_one_pass_it():
    # sorted 0.005 * 4, 0.01 * 3, 0.03 * 2, 0.04 * 1 = 0.02, 0.03, 0.06, then at least 0.06
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.4, 0.9]) == pytest.approx([0.8, 0.9])
    assert holm([0.6, 0.9]) == [1.0, 1.0]


def test_what_was_not_tested_is_not_counted_by_holm():
    corrected = holm([0.01, math.nan, 0.03])
    assert corrected[0] == pytest.approx(0.02)
    assert math.isnan(corrected[1])
    assert corrected[2] == pytest.approx(0.03)
    assert holm([]) == []


def test_a_summary_has_the_mean_both_tails_the_failures_and_the_undefined():
    values = [*np.linspace(0.0, 1.0, 101), math.nan, math.nan]  # the n-th percentile is n / 100
    summary = summarise(values, failure_below=0.5)
    assert summary == Summary(
        n=101,
        undefined=2,
        mean=pytest.approx(0.5),
        percentile_5=pytest.approx(0.05),
        percentile_95=pytest.approx(0.95),
        failure_rate=pytest.approx(50 / 101),  # 0.00 to 0.49
    )


def test_without_a_threshold_there_is_no_failure_rate():
    assert summarise(torch.tensor([1.0, 3.0])).failure_rate is None


def test_a_summary_of_nothing_defined_is_nan():
    summary = summarise([math.nan] * 3, failure_below=0.5)
    assert (summary.n, summary.undefined) == (0, 3)
    figures = (summary.mean, summary.percentile_5, summary.percentile_95, summary.failure_rate)
    assert all(math.isnan(figure) for figure in figures)


def test_means_of_one_table_are_spread_as_the_interval_of_its_mean():
    rng = np.random.default_rng(3)
    table = rng.normal(0.7, 0.1, (5, 40)) + rng.normal(0, 0.05, (5, 1))
    groups, draws = [i // 2 for i in range(40)], [0, 0, 1, 2, 2]
    means = bootstrap_means([table], groups=groups, run_groups=[draws], resamples=20000)
    interval = hierarchical_bootstrap(table, groups=groups, run_groups=draws, resamples=20000)
    assert np.quantile(means[:, 0], [0.025, 0.975]) == pytest.approx([interval.lower, interval.upper], abs=2e-3)


def test_tables_of_the_same_images_share_the_drawn_images_and_not_the_runs():
    images = np.random.default_rng(4).random(30)
    alike = bootstrap_means([[images], [images + 0.1]], resamples=50)
    assert alike[:, 1] - alike[:, 0] == pytest.approx(np.full(50, 0.1))
    runs = np.stack([images, images + 1])
    apart = bootstrap_means([runs, runs], resamples=200)
    # two runs one apart: a mean is 0, 1/2 or 1 higher, with chances 1/4, 1/2, 1/4, for each table by itself
    assert set(np.round(2 * (apart[:, 1] - apart[:, 0]))) == {-2, -1, 0, 1, 2}


def test_means_leave_undefined_cells_out_and_need_two_groups():
    table = [[1.0, np.nan, 3.0], [np.nan, np.nan, np.nan]]
    means = bootstrap_means([table], resamples=400)[:, 0]
    assert set(means[~np.isnan(means)]) == {1.0, 2.0, 3.0}
    assert np.isnan(means).any()  # the second run alone
    assert np.isnan(bootstrap_means([table], groups=["a", "b", "a"])).all()
    with pytest.raises(ValueError, match=r"the same images, got \[2, 3\]"):
        bootstrap_means([[[1.0, 2.0]], table])
