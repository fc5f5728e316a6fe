"""Batches of frames of one size."""

import pytest

from cmunet_monai.prediction import RunBatches

RUN = [{"id": f"R1_{number}", "run": "R1"} for number in range(5)]
ROWS = [{"id": "a.png"}, {"id": "b.png"}, *RUN, {"id": "R2", "run": "R2"}]


def test_frames_of_a_run_share_batches_and_others_come_one_by_one():
    batches = RunBatches(ROWS, batch_size=2)
    assert list(batches) == [[0], [1], [2, 3], [4, 5], [6], [7]]
    assert len(batches) == 6


def test_no_rows_give_no_batch():
    assert list(RunBatches([], batch_size=2)) == []


def test_a_batch_of_nothing_is_refused():
    with pytest.raises(ValueError, match="`batch_size` must be positive, got 0"):
        RunBatches(ROWS, batch_size=0)
