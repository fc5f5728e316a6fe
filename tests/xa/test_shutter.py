"""The part of a frame that its shutters leave open."""

import numpy as np
from pydicom.dataset import Dataset

from cmunet_monai.xa.header import Header
from cmunet_monai.xa.shutter import Shutter, read_shutter, valid_region


def test_no_shutter_leaves_all_open():
    assert valid_region(None, 2, 3).tolist() == [[True] * 3] * 2


def test_rectangle_lies_between_its_edges_counted_from_one():
    region = valid_region(Shutter(rectangle=(2, 5, 1, 3)), 4, 6)
    expected = np.zeros((4, 6), bool)
    expected[:2, 2:4] = True  # columns 3 and 4, and rows up to 2: the upper edge is the picture's border
    np.testing.assert_array_equal(region, expected)


def test_edges_at_the_border_of_the_picture_cover_nothing():
    for rectangle in ((1, 6, 1, 4), (0, 7, 0, 5)):
        assert valid_region(Shutter(rectangle=rectangle), 4, 6).all()


def test_circle_is_centred_on_row_and_column():
    region = valid_region(Shutter(circle=(2, 4, 1)), 3, 6)
    assert np.argwhere(region).tolist() == [[0, 3], [1, 2], [1, 3], [1, 4], [2, 3]]


def test_polygon_is_given_by_row_and_column():
    region = valid_region(Shutter(polygon=((1, 1), (1, 5), (5, 1))), 5, 6)
    row, column = np.mgrid[:5, :6]
    np.testing.assert_array_equal(region, row + column <= 4)


def test_shutters_are_combined_by_what_all_leave_open():
    shutter = Shutter(rectangle=(0, 4, 0, 99), circle=(5, 5, 3))
    expected = valid_region(Shutter(rectangle=(0, 4, 0, 99)), 9, 9) & valid_region(Shutter(circle=(5, 5, 3)), 9, 9)
    np.testing.assert_array_equal(valid_region(shutter, 9, 9), expected)
    assert 0 < expected.sum() < 81


def test_shutters_are_read_from_the_header():
    dataset = Dataset()
    dataset.ShutterShape = ["RECTANGULAR", "CIRCULAR", "POLYGONAL"]
    dataset.ShutterLeftVerticalEdge, dataset.ShutterRightVerticalEdge = 2, 30
    dataset.ShutterUpperHorizontalEdge, dataset.ShutterLowerHorizontalEdge = 3, 20
    dataset.CenterOfCircularShutter, dataset.RadiusOfCircularShutter = [11, 15], 9
    dataset.VerticesOfThePolygonalShutter = [1, 1, 1, 30, 20, 30]
    assert read_shutter(Header(dataset)) == Shutter((2, 30, 3, 20), (11, 15, 9), ((1, 1), (1, 30), (20, 30)))


def test_shutter_without_its_numbers_is_noted():
    dataset = Dataset()
    dataset.ShutterShape = "CIRCULAR"
    header = Header(dataset)
    assert read_shutter(header) is None
    assert header.unreadable == {"ShutterShape"}
