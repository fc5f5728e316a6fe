"""What active learning goes by."""

import numpy as np
import pytest

from cmunet_monai.label.uncertainty import border_entropy, choose_next, entropy


def test_entropy_is_one_bit_at_a_half_and_none_where_all_is_sure():
    np.testing.assert_allclose(entropy(np.array([0.5, 0.0, 1.0, 0.25])), [1, 0, 0, 0.8112781], atol=1e-6)


def test_only_the_border_counts():
    probability = np.zeros((40, 40), np.float32)
    probability[10:30, 10:30] = 1
    probability[18:22, 18:22] = 0.6  # deep inside
    assert border_entropy(probability) == pytest.approx(0, abs=1e-6)
    probability[10:30, 9] = 0.5
    # 20 pixels of 1 bit; the band is the rectangle of 20 x 21, grown by a diamond of 3 (678) less shrunk (14 x 15)
    assert border_entropy(probability) == pytest.approx(20 / 468, abs=1e-6)


def test_a_frame_without_vessel_has_its_largest_entropy():
    probability = np.full((20, 20), 0.01, np.float32)
    probability[3, 3] = 0.25
    assert border_entropy(probability) == pytest.approx(0.8112781, abs=1e-6)


def test_shape_is_checked():
    with pytest.raises(ValueError, match=r"`probability` must be \(W, H\), got \(1, 4, 4\)"):
        border_entropy(np.zeros((1, 4, 4), np.float32))


def test_the_most_unsure_frame_comes_first_and_unscored_ones_last():
    assert choose_next({"a": 0.2, "b": 0.9, "c": None}, {}, [], {}) == "b"
    assert choose_next({"c": None, "a": 0.0}, {}, [], {}) == "a"
    assert choose_next({}, {}, [], {}) is None


def test_patients_with_fewer_labelled_frames_come_first():
    groups = {"a1": "A", "a2": "A", "b1": "B"}
    assert choose_next({"a2": 0.9, "b1": 0.1}, groups, ["a1"], {}) == "b1"


def test_a_frame_that_was_given_to_somebody_comes_after_all_others():
    assert choose_next({"a": 0.9, "b": 0.1}, {}, ["a"], {"a": 100.0}) == "b"
    assert choose_next({"a": 0.1, "b": 0.9}, {}, ["a", "b"], {"a": 100.0, "b": 200.0}) == "a"
