"""Simulated annotators, without training."""

from pathlib import Path
from runpy import run_path

import numpy as np
import pytest

SIMULATE = run_path(str(Path(__file__).parents[2] / "docs/results/annotator/simulate.py"))
choose_rows, compare, draw_comparison = SIMULATE["choose_rows"], SIMULATE["compare"], SIMULATE["draw_comparison"]
next_click, simulate_clicks = SIMULATE["next_click"], SIMULATE["simulate_clicks"]


def test_a_click_goes_to_the_middle_of_the_largest_error():
    reference = np.zeros((50, 50), bool)
    mask = np.zeros((50, 50), bool)
    reference[10:15, 10:15] = True  # missed: 25 px
    mask[30:33, 30:33] = True  # false: 9 px
    assert next_click(mask, reference) == ((12, 12), True)
    assert next_click(mask | reference, reference) == ((31, 31), False)
    assert next_click(reference, reference) is None


def test_clicks_on_a_missed_vessel_raise_dice():
    frame = np.full((120, 120), 200, np.uint8)
    frame[:, 30:34] = frame[:, 80:84] = 80
    probability = np.full((120, 120), 0.1, np.float32)
    probability[:, 30:34] = 0.9
    found = simulate_clicks(probability, frame, frame < 100, clicks=3)
    assert found[0] == pytest.approx(2 / 3)
    assert found[0] < found[1] < found[2] <= found[3]


def test_strategies_choose_frames_that_are_not_labelled_yet():
    pool = [{"id": name, "group": name[0]} for name in ("a1", "a2", "b1", "c1", "c2")]

    def choose(strategy):
        rng = np.random.default_rng(0)
        scores = {"a2": 0.9, "b1": 0.1, "c1": 0.3, "c2": 0.4}
        chosen = choose_rows(strategy, pool, pool[:1], count=3, score=lambda row: scores[row["id"]], rng=rng)
        return [row["id"] for row in chosen]

    assert choose("border_entropy") == ["c2", "b1", "a2"]  # groups without a label first, then by score
    assert len(set(choose("random")) - {"a1"}) == 3


def test_strategies_are_compared_frame_by_frame(tmp_path):
    table = [
        {"seed": seed, "strategy": strategy, "labelled": 6, "id": f"i{n}", "group": f"g{n}", "dice": 0.1 * n + gain}
        for seed in (0, 1)
        for strategy, gain in (("border_entropy", 0.05), ("random", 0.0))
        for n in range(4)
    ]
    (row,) = compare(table)
    assert row["difference"] == pytest.approx(0.05)
    assert row["lower"] == pytest.approx(0.05)
    draw_comparison([row], tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 1000
