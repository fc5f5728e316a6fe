"""From stored values to intensities."""

import math

import numpy as np
import pytest
from pydicom.dataset import Dataset

from cmunet_monai.xa.errors import DamagedDicomError
from cmunet_monai.xa.header import Header
from cmunet_monai.xa.pixels import PixelFormat, intensities, to_intensities

EIGHT = PixelFormat(1, 5, 8, 8, 7, False, "MONOCHROME2")
SIGNED = PixelFormat(1, 5, 16, 12, 11, True, "MONOCHROME2")


def header(**values):
    dataset = Dataset()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return Header(dataset)


def table(entries, first=0, bits=8):
    item = Dataset()
    item.LUTDescriptor = [len(entries), first, bits]
    item["LUTDescriptor"].VR = "US"
    item.add_new("LUTData", "US", entries)
    return item


def apply(values, form=EIGHT, *, angiography=False, **tags):
    how = intensities(header(**tags), form, angiography=angiography)
    return to_intensities(np.asarray([values], np.float32), how)[0].tolist(), how.flags


def test_values_without_window_are_as_stored():
    assert apply([0, 1, 255]) == ([0, 1, 255], ())


def test_rescale_is_applied_where_intensity_is_linear():
    assert apply([0, 10], PixelIntensityRelationship="LIN", RescaleSlope=2, RescaleIntercept=-5)[0] == [-5, 15]
    assert apply([0, 10], RescaleSlope=2, RescaleIntercept=-5)[0] == [-5, 15]


@pytest.mark.parametrize("angiography", [True, False])
@pytest.mark.parametrize("relationship", ["LOG", "DISP"])
def test_modality_lut_that_leads_back_to_the_beam_is_not_applied(relationship, angiography):
    assert_not_applied(PixelIntensityRelationship=relationship, angiography=angiography)


@pytest.mark.parametrize("relationship", ["LIN", "SQRT", "OTHER", "NONSENSE", None])
def test_modality_lut_of_angiography_is_not_applied_whatever_the_relationship(relationship):
    assert_not_applied(PixelIntensityRelationship=relationship, angiography=True)


def assert_not_applied(**tags):
    flags = ("modality_lut_not_applied",)
    assert apply([0, 10], RescaleSlope=2, RescaleIntercept=-5, **tags) == ([0, 10], flags)
    assert apply([0, 10], RescaleIntercept=-1024, **tags) == ([0, 10], flags)
    assert apply([0, 1], ModalityLUTSequence=[table([7, 9])], **tags) == ([0, 1], flags)
    # and what is based on it is not: a window holds for the values as stored
    read, _ = apply([75, 125], RescaleSlope=2, WindowCenter=100.5, WindowWidth=51, **tags)
    assert read == pytest.approx([0, 255])


def test_a_rescale_that_changes_nothing_is_not_flagged():
    assert apply([0, 10], angiography=True, RescaleSlope=1, RescaleIntercept=0) == ([0, 10], ())


def test_modality_table_continues_with_its_end_entries():
    read = apply([0, 2, 3, 4, 9], ModalityLUTSequence=[table([70, 90, 40], first=2)])
    assert read == ([70, 70, 90, 40, 40], ())


def test_table_of_a_signed_picture_may_begin_below_zero():
    lut = table([10, 20, 30], first=65535)  # -1 in 16 bits
    assert apply([-2, -1, 0, 1], SIGNED, VOILUTSequence=[lut])[0] == [10, 10, 20, 30]


def test_linear_window_is_the_line_of_the_standard_and_cuts_nothing():
    # PS3.3 C.11.2.1.2: ((x - (c - 0.5)) / (w - 1) + 0.5) (ymax - ymin); c = 100.5, w = 51: 0 at 75, 255 at 125
    read, _ = apply([75, 100, 125, 50, 200], WindowCenter=100.5, WindowWidth=51)
    assert read == pytest.approx([0, 127.5, 255, -127.5, 637.5])


def test_linear_exact_window_has_neither_half_nor_one_taken_off():
    read, _ = apply([75, 100, 125], WindowCenter=100, WindowWidth=50, VOILUTFunction="LINEAR_EXACT")
    assert read == pytest.approx([0, 127.5, 255])


def test_sigmoid_window_is_that_of_the_standard():
    read, _ = apply([100, 150], WindowCenter=100, WindowWidth=200, VOILUTFunction="SIGMOID")
    assert read == pytest.approx([127.5, 255 / (1 + math.exp(-4 * 50 / 200))])


def test_voi_table_comes_before_a_window_and_the_first_window_before_others():
    read = apply([0, 1], VOILUTSequence=[table([7, 9])], WindowCenter=100, WindowWidth=50)
    assert read[0] == [7, 9]
    assert apply([0, 255], WindowCenter=[128, 10], WindowWidth=[256, 5])[0] == pytest.approx([0, 255])


@pytest.mark.parametrize(
    "window", [{"WindowWidth": 0}, {"WindowWidth": 1}, {"WindowWidth": -5}, {"WindowWidth": 9, "VOILUTFunction": "X"}]
)
def test_invalid_window_is_flagged_and_not_applied(window):
    assert apply([0, 255], WindowCenter=100, **window) == ([0, 255], ("window_invalid",))


def test_monochrome1_is_turned_round_within_what_values_can_be():
    inverted = PixelFormat(1, 5, 16, 12, 11, False, "MONOCHROME1")
    assert apply([0, 1000, 4095], inverted)[0] == [4095, 3095, 0]
    # -5 to 8185 is what 0 to 4095 can become: 8180 - x
    assert apply([0, 4095], inverted, RescaleSlope=2, RescaleIntercept=-5)[0] == [8185, -5]
    assert apply([0, 1], inverted, VOILUTSequence=[table([7, 9])])[0] == [248, 246]
    signed = PixelFormat(1, 5, 16, 12, 11, True, "MONOCHROME1")
    assert apply([-2048, 2047], signed)[0] == [2047, -2048]


def test_damaged_table_is_an_error():
    for lut in (Dataset(), table([1, 2])):
        if "LUTData" in lut:
            lut.LUTDescriptor = [9, 0, 8]
        with pytest.raises(DamagedDicomError, match="lookup table"):
            apply([0], VOILUTSequence=[lut])


def test_input_is_not_modified():
    stored = np.arange(5, dtype=np.float32)[None]
    to_intensities(stored, intensities(header(WindowCenter=1, WindowWidth=9), EIGHT))
    assert stored[0].tolist() == [0, 1, 2, 3, 4]
