"""Which frame of a cine: drawn runs of which it is known when what is filled."""

import cv2
import numpy as np
import pytest
from PIL import Image

from cmunet_monai.xa.best_frame import (
    draw_curve,
    early_frame,
    filling_curve,
    fullest_frame,
    late_frame,
    measure_frame,
)
from data_prep.synthetic.cine import synthesize_cine

FRAMES, SIDE = 40, 160
# The share of the tree that is filled: agent comes at frame 8, all is filled from 16 to 24, all is gone at 32.
FILLED = np.clip(np.minimum((np.arange(FRAMES) - 8) / 8, (32 - np.arange(FRAMES)) / 8), 0, 1)
TREE = np.array([(30, 30), (60, 50), (80, 85), (95, 120), (130, 140)])
BRANCH = np.array([(60, 50), (110, 60), (140, 90)])
PERIOD = 10


def beat(frame):
    """Heart motion in pixels: still for the last two fifths of each beat."""
    phase = (frame % PERIOD) / PERIOD
    return 4 * np.sin(np.pi * phase / 0.6) if phase < 0.6 else 0.0


def draw_run(filled=FILLED, *, catheter=True, noise=3.0, seed=0):
    """Bright frames with ribs, a moving catheter and a tree of which a share is filled, (F, SIDE, SIDE) float32."""
    rng = np.random.default_rng(seed)
    rows = np.arange(SIDE)[:, None]
    background = 150 + 40 * np.sin(rows / 45) + 10 * (np.abs((rows % 50) - 25) < 3) * np.ones((1, SIDE))
    frames = []
    for number, share in enumerate(filled):
        shift = beat(number)
        frame = background.astype(np.float32).copy()
        dark = np.zeros_like(frame)
        if catheter:
            points = np.array([(5, 10), (20, 14), (30, 30)]) + np.array([0, shift])
            cv2.polylines(dark, [points.round().astype(np.int32)], False, 40, 3, cv2.LINE_AA)
        for path in (TREE, BRANCH):
            steps = np.linspace(0, len(path) - 1, 200)[: round(200 * share)]
            points = np.stack([np.interp(steps, range(len(path)), path[:, axis]) for axis in (0, 1)], axis=1)
            if len(points) > 1:
                shifted = (points + np.array([0, shift])).round().astype(np.int32)
                cv2.polylines(dark, [shifted], False, 50, 4, cv2.LINE_AA)
        frames.append(frame - dark + noise * rng.standard_normal(frame.shape).astype(np.float32))
    return np.stack(frames).astype(np.float32)


@pytest.fixture(scope="module")
def run():
    return draw_run()


def test_the_fullest_frame_is_one_in_which_all_is_filled(run):
    assert FILLED[fullest_frame(filling_curve(run))] == 1


def test_filled_frames_are_those_of_the_plateau(run):
    filled = np.flatnonzero(filling_curve(run).filled)
    assert FILLED[filled].min() >= 0.6
    assert set(np.flatnonzero(FILLED == 1)) <= set(filled)


def test_early_and_late_frames_lie_on_the_flanks(run):
    curve = filling_curve(run)
    early, late = early_frame(curve), late_frame(curve)
    assert early < 16
    assert 0.25 <= FILLED[early] <= 0.75
    assert late > 24
    assert 0.25 <= FILLED[late] <= 0.75


def test_a_run_without_agent_has_no_filled_tree_though_a_catheter_moves():
    curve = filling_curve(draw_run(np.zeros(FRAMES)))
    assert not curve.filled.any()
    for choose in (fullest_frame, measure_frame, early_frame, late_frame):
        assert choose(curve) is None


def test_a_run_that_starts_filled_is_told_by_its_end():
    share = np.clip((30 - np.arange(FRAMES)) / 8, 0, 1)
    curve = filling_curve(draw_run(share))
    assert share[fullest_frame(curve)] == 1
    assert early_frame(curve) is None


def test_a_run_that_ends_filled_has_no_late_frame():
    share = np.clip((np.arange(FRAMES) - 8) / 8, 0, 1)
    curve = filling_curve(draw_run(share))
    assert share[fullest_frame(curve)] == 1
    assert late_frame(curve) is None


def test_measure_takes_the_frame_before_an_r_wave_in_the_filled_part(run):
    curve = filling_curve(run)
    assert measure_frame(curve, r_wave_frames=[0, 10, 20, 30]) == 19


def test_without_r_waves_measure_takes_a_still_frame_of_the_filled_part(run):
    curve = filling_curve(run)
    chosen = measure_frame(curve)
    assert curve.filled[chosen]
    neighbours = [beat(chosen - 1), beat(chosen), beat(chosen + 1)]
    assert max(neighbours) - min(neighbours) < 1.5  # of a beat of 4 px


@pytest.mark.parametrize("scale, offset", [(0.01, 0), (16, -500), (1, 1e4)])
def test_grey_scale_and_offset_do_not_matter(run, scale, offset):
    changed = filling_curve((scale * run + offset).astype(np.float32))
    assert np.array_equal(changed.filled, filling_curve(run).filled)


def test_exposure_that_settles_does_not_matter(run):
    gain = 1 + np.exp(-np.arange(FRAMES) / 2)[:, None, None].astype(np.float32)
    assert FILLED[fullest_frame(filling_curve(run * gain))] == 1


def test_dark_corners_do_not_matter(run):
    rows, columns = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    covered = np.where(np.hypot(rows, columns) > 0.6 * SIDE, np.float32(0), run)
    assert FILLED[fullest_frame(filling_curve(covered))] == 1
    without = draw_run(np.zeros(FRAMES))
    assert fullest_frame(filling_curve(np.where(np.hypot(rows, columns) > 0.6 * SIDE, np.float32(0), without))) is None


@pytest.mark.parametrize("blank", [0, 39])
def test_blank_frames_are_passed_over(run, blank):
    with_blank = run.copy()
    with_blank[max(blank - 2, 0) : blank + 3] = 0
    assert FILLED[fullest_frame(filling_curve(with_blank))] == 1
    without = draw_run(np.zeros(FRAMES))
    without[max(blank - 2, 0) : blank + 3] = 0
    assert fullest_frame(filling_curve(without)) is None


def test_frames_may_be_given_one_at_a_time(run):
    assert np.array_equal(filling_curve(iter(run)).filling, filling_curve(run).filling)


@pytest.mark.parametrize("count", [1, 3, 20])
def test_constant_runs_have_no_filled_tree(count):
    curve = filling_curve(np.full((count, 64, 64), 7, np.float32))
    assert len(curve.filling) == len(curve.motion) == count
    assert fullest_frame(curve) is None


@pytest.mark.parametrize("count", [1, 3, 7, 8, 20])
def test_a_tree_that_is_filled_from_the_first_frame_to_the_last_is_found(count):
    curve = filling_curve(draw_run(np.ones(count)))
    assert fullest_frame(curve) is not None
    assert measure_frame(curve) is not None
    assert np.count_nonzero(curve.filled) >= count / 2


@pytest.mark.parametrize("count", [2, 12])
def test_a_phantom_that_stands_still_is_found(count):
    still = draw_run(np.ones(1), catheter=False, noise=0)[0]
    curve = filling_curve([still] * count)
    assert fullest_frame(curve) is not None
    assert curve.filled.all()


@pytest.mark.parametrize("count", [1, 5, 7])
def test_a_short_run_without_agent_has_no_filled_tree(count):
    assert fullest_frame(filling_curve(draw_run(np.zeros(count)))) is None
    assert fullest_frame(filling_curve(draw_wires(np.zeros(count)))) is None


@pytest.mark.parametrize("count", [5, 24])
def test_a_standing_run_of_another_generator_is_found_where_it_is_filled_alone(count):
    cine = synthesize_cine(0, 1, 0, size=160, frames=24, contrast=True)
    filling = np.asarray(cine.truth.filling)
    noise = np.random.default_rng(0).normal(0, 2, (count, 160, 160))
    assert fullest_frame(filling_curve(cine.frames[filling.argmax()] + noise)) is not None
    assert filling[0] == 0
    assert fullest_frame(filling_curve(cine.frames[0] + noise)) is None


@pytest.mark.parametrize("damaged", [(0,), (16, 17, 18), (39,), tuple(range(0, 40, 3))])
def test_a_damaged_frame_is_never_chosen_and_leaves_the_numbers_of_the_others(run, damaged):
    curve = filling_curve([None if number in damaged else frame for number, frame in enumerate(run)])
    assert len(curve.filling) == FRAMES
    assert FILLED[fullest_frame(curve)] == 1
    chosen = {fullest_frame(curve), measure_frame(curve), early_frame(curve), late_frame(curve)}
    assert not chosen & set(damaged)
    assert not curve.filled[list(damaged)].any()


def test_frames_of_other_sizes_and_without_finite_values_are_refused(run):
    with pytest.raises(ValueError, match="not finite"):
        filling_curve([np.full((8, 8), np.nan, np.float32)])
    with pytest.raises(ValueError, match="same size"):
        filling_curve([run[0], run[0, :80]])
    with pytest.raises(ValueError, match="at least one undamaged frame"):
        filling_curve([])


def test_the_curve_is_drawn(run, tmp_path):
    draw_curve(filling_curve(run), tmp_path / "curve.png", r_wave_frames=[10, 20])
    drawn = np.asarray(Image.open(tmp_path / "curve.png").convert("L"))
    assert drawn.std() > 5
    draw_curve(filling_curve(run[:1]), tmp_path / "single.png")
    assert (tmp_path / "single.png").is_file()


def draw_wires(shifts, visibility=None, seed=0):
    """Bright frames with noise and wires that a table shift moves along (px), of given darkness; no agent."""
    rng = np.random.default_rng(seed)
    frames = []
    for number, shift in enumerate(shifts):
        dark = np.zeros((SIDE, SIDE), np.float32)
        for column in (30, 80, 130):
            cv2.polylines(
                dark, [np.array([(column + round(shift), 5), (column + 10 + round(shift), 150)])], False, 50, 4
            )
        dark *= 1 if visibility is None else visibility[number]
        frames.append(150 + np.linspace(-80, 80, SIDE, dtype=np.float32) - dark + 3 * rng.standard_normal(dark.shape))
    return np.stack(frames).astype(np.float32)


def test_a_table_that_moves_wires_along_fills_no_tree():
    assert fullest_frame(filling_curve(draw_wires(np.linspace(0, 15, FRAMES)))) is None


def test_wires_that_show_more_clearly_at_the_start_are_no_tree():
    clearer = 1 + 0.2 * (np.arange(FRAMES) < 6)
    assert fullest_frame(filling_curve(draw_wires(np.zeros(FRAMES), clearer))) is None


@pytest.mark.parametrize("shape", [(1, 64), (64, 1), (1, 1), (3, 200)])
@pytest.mark.parametrize("count", [1, 4])
def test_frames_of_a_line_or_a_point_have_no_filled_tree(shape, count):
    frames = np.random.default_rng(0).uniform(50, 200, (count, *shape)).astype(np.float32)
    assert not filling_curve(frames).filled.any()
