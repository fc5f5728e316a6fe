"""R waves from a pointer or an ECG curve."""

import numpy as np
import pytest
from pydicom.dataset import Dataset

from cmunet_monai.xa.ecg import find_r_waves, r_wave_frames
from cmunet_monai.xa.header import Header

BEATS_S = (0.5, 1.3, 2.2, 3.0)


def ecg(rate_hz, beats_s=BEATS_S, length_s=4.0, noise=5.0):
    """Narrow R waves, broad T waves 0.3 s later, a drifting base line and noise."""
    time = np.arange(int(length_s * rate_hz)) / rate_hz
    values = 300 + 50 * np.sin(2 * np.pi * 0.3 * time) + noise * np.random.default_rng(0).normal(size=len(time))
    for beat in beats_s:
        values += 200 * np.exp(-(((time - beat) / 0.012) ** 2)) + 60 * np.exp(-(((time - beat - 0.3) / 0.06) ** 2))
    return values


def header(values=None, step=300, pointer=None):
    dataset = Dataset()
    if pointer is not None:
        dataset.RWavePointer = pointer
    if values is not None:
        for element, vr, value in (
            (0x0005, "US", 2),
            (0x0010, "US", len(values)),
            (0x0020, "CS", "ECG"),
            (0x0103, "US", 0),
            (0x0110, "US", [0, 1]),
            (0x0114, "US", step),
            (0x3000, "OW", np.asarray(values).astype("<u2").tobytes()),
        ):
            dataset.add_new((0x5002, element), vr, value)
    return Header(dataset)


@pytest.mark.parametrize("rate_hz", [100, 300, 1200])
@pytest.mark.parametrize("sign", [1, -1])
def test_r_waves_are_found_where_they_were_put(rate_hz, sign):
    found = find_r_waves(sign * ecg(rate_hz), rate_hz)
    np.testing.assert_allclose(found, BEATS_S, atol=0.02)


def test_flat_curve_and_noise_have_no_r_waves():
    assert find_r_waves(np.full(1200, 2.0), 300) is None
    for seed in range(5):
        assert find_r_waves(np.random.default_rng(seed).normal(size=1200), 300) is None


def test_pointer_counts_from_one():
    assert r_wave_frames(header(pointer=[1, 20, 53]), 60, 33.0) == (0, 19, 52)


def test_pointer_outside_the_run_is_not_used():
    assert r_wave_frames(header(pointer=[1, 99]), 60, 33.0) is None
    from_curve = r_wave_frames(header(ecg(300)), 60, 4000 / 60)
    assert from_curve is not None
    assert r_wave_frames(header(ecg(300), pointer=[0]), 60, 4000 / 60) == from_curve


def test_curve_in_points_per_second_gives_frames():
    # 66.7 ms a frame: 0.5 s is frame 7.5, 1.3 s 19.5, 2.2 s 33, 3 s 45
    found = np.asarray(r_wave_frames(header(ecg(300)), 60, 4000 / 60))
    assert np.abs(found - [7.5, 19.5, 33, 45]).max() <= 0.5


def test_curve_in_points_per_frame_gives_frames():
    found = np.asarray(r_wave_frames(header(ecg(600), step=40), 60, 4000 / 60))
    assert np.abs(found - [7.5, 19.5, 33, 45]).max() <= 0.5


def test_curve_that_lasts_otherwise_than_the_run_is_not_used():
    assert r_wave_frames(header(ecg(300)), 60, 200.0) is None
    assert r_wave_frames(header(ecg(300)), 60, None) is None
