import numpy as np
import pytest

from data_prep.synthetic import devices
from data_prep.synthetic.projection import CArmView

VIEW = CArmView(30.0, -20.0, field_mm=128.0, size=128, shift_mm=(5.0, -3.0))


@pytest.mark.parametrize(
    "draw", [devices._sheath, devices._pacing_lead, devices._guide_wire, devices._sternal_wires, devices._clips]
)
def test_each_device_attenuates_a_small_part_of_the_field(draw):
    maps = np.stack([draw(np.random.default_rng(seed), VIEW) for seed in range(20)])
    assert maps.min() >= 0
    assert 0 < np.mean(maps > 0.02) < 0.1


def test_a_tube_in_the_picture_lies_where_it_was_put():
    path = np.array([[-20.0, 10.0], [20.0, 10.0]])  # 10 mm above the middle; a pixel is 1 mm
    tube = devices._tube(path, 2.0, VIEW)
    rows, columns = np.nonzero(tube)
    assert rows.mean() == pytest.approx(63.5 - 10, abs=0.1)
    assert (columns.min(), columns.max()) == pytest.approx((63.5 - 22, 63.5 + 22), abs=1)
    assert tube.max() == pytest.approx(2 * (2**2 - 0.5**2) ** 0.5, abs=0.1)  # the nearest rays pass half a mm beside it


def test_a_sheath_is_hollow_and_a_lead_is_not():
    across = devices._tube(np.array([[-60.0, 0.0], [60.0, 0.0]]), 3.0, VIEW)
    hollow = across - devices._tube(np.array([[-60.0, 0.0], [60.0, 0.0]]), 2.0, VIEW)
    assert hollow[62, 64] < hollow[61, 64]
    assert across[62, 64] > across[61, 64]


def test_a_collimator_darkens_a_side_and_not_the_middle():
    for seed in range(10):
        band = devices._collimator(np.random.default_rng(seed), VIEW)
        assert band[64, 64] < 0.01
        assert max(band[0].mean(), band[-1].mean(), band[:, 0].mean(), band[:, -1].mean()) > 0.1


def test_the_same_numbers_give_the_same_devices_and_some_frames_have_none():
    maps = [devices.draw_devices(np.random.default_rng(seed), VIEW) for seed in range(60)]
    assert np.array_equal(maps[7], devices.draw_devices(np.random.default_rng(7), VIEW))
    assert 0.2 < np.mean([not item.any() for item in maps]) < 0.6
