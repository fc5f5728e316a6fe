"""Which frames are fit to be segmented, and why not."""

import numpy as np
import pytest

from cmunet_monai.quality import assess_frame
from cmunet_monai.quality.assess import vessel_likeness


def angiogram(*, dark=True):
    """A bright noisy frame of 128 x 128 with a dark line of 5 px across it, and the probability of vessel."""
    frame = 150 + 3 * np.random.default_rng(0).standard_normal((128, 128))
    frame[60:65] += -60 if dark else 60
    probability = np.zeros((128, 128))
    probability[60:65] = 0.95
    return frame, probability


def test_a_dark_vessel_that_was_surely_found_is_ok():
    quality = assess_frame(*angiogram())
    assert (quality.verdict, quality.reasons) == ("ok", ())
    assert quality.measures["agreement"] is None


def test_bright_contrast_is_refused():
    quality = assess_frame(*angiogram(dark=False))
    assert quality.verdict == "refused"
    assert "contrast_not_dark" in quality.reasons


def test_a_field_of_a_fifth_of_the_frame_is_refused():
    frame, probability = angiogram()
    frame[:, 26:] = 0
    quality = assess_frame(frame, probability)
    assert quality.verdict == "refused"
    assert "tiny_field" in quality.reasons
    assert quality.measures["field_share"] == pytest.approx(26 / 128, abs=1e-3)


def test_a_burnt_out_fifth_is_to_be_reviewed():
    frame, probability = angiogram()
    frame[:26] = 255
    quality = assess_frame(frame, probability)
    assert (quality.verdict, quality.reasons) == ("review", ("saturated",))


def test_what_the_header_says_is_a_reason_where_it_matters():
    quality = assess_frame(*angiogram(), concerns=["subtracted", "burned_in_annotation"])
    assert (quality.verdict, quality.reasons) == ("review", ("subtracted",))
    assert assess_frame(*angiogram(), concerns=["anisotropic"]).reasons == ("anisotropic",)


@pytest.mark.parametrize("agreement, reasons", [(0.64, ("views_disagree",)), (0.66, ())])
def test_views_that_disagree_are_to_be_reviewed(agreement, reasons):
    assert assess_frame(*angiogram(), agreement=agreement).reasons == reasons


def test_nothing_found_is_no_contrast():
    frame, probability = angiogram()
    quality = assess_frame(frame, np.zeros_like(probability))
    assert (quality.verdict, quality.reasons) == ("review", ("no_contrast",))
    assert quality.measures["fitness"] == 0


def test_a_catheter_alone_is_no_contrast():
    frame, probability = angiogram()
    probability[61:] = 0  # one line of 1 x 128 is left, 0.8% of the frame
    assert assess_frame(frame, probability).reasons == ("no_contrast",)


def test_vessel_is_measured_against_the_field_and_less_than_two_percent_lowers_fitness():
    probability = np.zeros((100, 100))
    probability[50] = 1
    whole, half = vessel_likeness(probability), vessel_likeness(probability, field_share=0.5)
    assert (whole.vessel_share, half.vessel_share) == pytest.approx((0.01, 0.02))
    assert (whole.fitness, half.fitness) == pytest.approx((0.5, 1.0))


def test_many_pieces_are_no_coronary_tree():
    frame, probability = angiogram()
    probability[::10] = 0
    probability[:, ::12] = 0
    probability[:, 1::12] = 0
    assert "not_coronary" in assess_frame(frame, probability).reasons


def test_a_constant_frame_is_refused_without_an_error():
    quality = assess_frame(np.full((64, 64), 7.0), np.zeros((64, 64)))
    assert quality.verdict == "refused"


def test_sure_share_is_that_of_what_may_be_vessel():
    assert vessel_likeness(np.array([[0.05, 0.1, 0.5, 0.9, 1.0]])).sure_share == 2 / 4


def test_equal_pieces_count_as_many_and_specks_hardly():
    equal = np.zeros((10, 10))
    equal[[1, 4, 7], 1:9] = 1
    assert vessel_likeness(equal).pieces == pytest.approx(3)
    speck = np.zeros((10, 10))
    speck[1:4, 1:10], speck[9, 0] = 1, 1
    assert vessel_likeness(speck).pieces == pytest.approx(28**2 / (27**2 + 1))
    assert vessel_likeness(np.zeros((4, 4))).pieces == 0


def test_fitness_falls_with_the_pieces_beyond_three():
    rows = np.zeros((20, 20))
    rows[1:20:3, 1:] = 1  # seven lines
    likeness = vessel_likeness(rows)
    assert likeness.pieces == pytest.approx(7)
    assert likeness.fitness == pytest.approx(3 / 7)


def test_sizes_that_differ_are_named():
    with pytest.raises(ValueError, match=r"\(4, 4\), \(4, 5\)"):
        assess_frame(np.zeros((4, 4)), np.zeros((4, 5)))


def test_inputs_are_not_modified():
    frame, probability = angiogram()
    copies = frame.copy(), probability.copy()
    assess_frame(frame, probability)
    np.testing.assert_array_equal(frame, copies[0])
    np.testing.assert_array_equal(probability, copies[1])
