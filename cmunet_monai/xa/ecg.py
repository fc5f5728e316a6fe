"""The frames of a run at which the heart's R waves fall."""

import numpy as np
from numpy.typing import NDArray
from scipy import signal

from cmunet_monai.xa.header import CURVE_GROUPS, Header

_TYPES = {0: "u2", 1: "i2", 2: "f4", 3: "f8", 4: "i4"}  # Data Value Representation (PS3.3-2004 C.10.2.1.2)
_MIN_RATE_HZ, _MIN_BEAT_S, _MAX_BEAT_S = 50.0, 0.3, 2.0
_LOWEST_HUMP = 0.3**2  # a beat has at least 0.3 of the slope of the steepest


def r_wave_frames(header: Header, frames: int, frame_time_ms: float | None) -> tuple[int, ...] | None:
    """Frames at R waves, from R Wave Pointer, else from an ECG curve; None where neither tells.

    Args:
        header: of the file.
        frames: how many there are.
        frame_time_ms: from one frame to the next; without it a curve is of no use.
    Returns:
        frame numbers from 0 (the file counts from 1), rising.
    """
    pointers = sorted({int(number) - 1 for number in header.numbers("RWavePointer")})
    inside = tuple(number for number in pointers if 0 <= number < frames)
    if inside and len(inside) == len(pointers):
        return inside
    if frame_time_ms is None or frames < 2:
        return None
    for group in CURVE_GROUPS:
        curve = _ecg(header, group)
        if curve is None:
            continue
        values, step = curve
        rate_hz = _sampling_rate(len(values), step, frames, frame_time_ms)
        if rate_hz is None or (times_s := find_r_waves(values, rate_hz)) is None:
            continue
        numbers = np.rint(times_s * 1000 / frame_time_ms).astype(int)
        found = tuple(sorted({int(number) for number in numbers if 0 <= number < frames}))
        return found or None
    return None


def find_r_waves(ecg: NDArray[np.float64], rate_hz: float) -> NDArray[np.float64] | None:
    """Seconds from the start of an ECG to its R waves.

    After Pan and Tompkins (IEEE Trans. Biomed. Eng. 32, 1985), shortened: slopes in the band of the QRS complex,
    squared and averaged over 0.12 s, give one hump for each beat; its largest deflection from the median is the R wave.

    Args:
        ecg: (time,) in any unit.
        rate_hz: samples in a second.
    Returns:
        (beat,), or None where the humps are no heart's: the ECG is flat or noise, or there are less than 30 or more
        than 200 beats in a minute.
    """
    if rate_hz < _MIN_RATE_HZ or len(ecg) < rate_hz * _MIN_BEAT_S or np.ptp(ecg) == 0:
        return None
    band = signal.butter(2, [8, min(25, 0.45 * rate_hz)], "bandpass", fs=rate_hz, output="sos")
    slopes = np.gradient(signal.sosfiltfilt(band, ecg, padlen=min(len(ecg) - 1, int(rate_hz))))
    window = max(3, int(0.12 * rate_hz))
    energy = np.convolve(slopes**2, np.ones(window) / window, "same")
    humps, _ = signal.find_peaks(
        np.pad(energy, 1), height=_LOWEST_HUMP * np.percentile(energy, 98), distance=max(1, int(_MIN_BEAT_S * rate_hz))
    )
    deflection = np.abs(ecg - np.median(ecg))
    peaks = []
    for hump in humps - 1:
        first = max(0, hump - window)
        peaks.append(first + int(np.argmax(deflection[first : hump + window])))
    beats = np.diff(peaks) / rate_hz
    # What stands out of noise does not stand out by much
    clear = len(peaks) > 0 and np.median(energy[np.clip(humps - 1, 0, None)]) > 8 * np.median(energy)
    if not clear or (len(beats) and (beats.min() < _MIN_BEAT_S or beats.max() > _MAX_BEAT_S)):
        return None
    return np.asarray(peaks) / rate_hz


def _ecg(header: Header, group: int) -> tuple[NDArray[np.float64], float] | None:
    """Values and step of the curve of a group, if it is an ECG (the retired Curve Module, PS3.3-2004 C.10.2)."""

    def value(element: int) -> object:
        tag = group << 16 | element
        return header.dataset[tag].value if tag in header.dataset else None

    try:
        kind = str(value(0x0020) or "").strip().upper()
        data, step = value(0x3000), float(str(value(0x0114)))
        dtype = np.dtype(_TYPES[int(str(value(0x0103)))]).newbyteorder("<" if header.little_endian else ">")
    except (KeyError, TypeError, ValueError):
        return None
    if kind != "ECG" or not isinstance(data, bytes) or not 0 < step < 1e6:
        return None
    values = np.frombuffer(data, dtype, len(data) // dtype.itemsize).astype(np.float64)
    points = header.dataset.get((group, 0x0010))
    dimensions = header.dataset.get((group, 0x0005))
    described = header.dataset.get((group, 0x0110))
    if points is not None and isinstance(points.value, int) and dimensions is not None and dimensions.value == 2:
        # One dimension is even steps, the other is in the data; both in the data is another kind of curve
        if described is None or list(described.value) != [0, 1]:
            return None
        values = values[: points.value]
    return (values, step) if len(values) > 2 and np.isfinite(values).all() else None


def _sampling_rate(points: int, step: float, frames: int, frame_time_ms: float) -> float | None:
    """Points in a second, of a curve whose step is in points per second or per frame: vendors differ.

    The reading is taken by which the curve lasts as long as the run, give or take 20%; none if neither does.
    """
    run_s = frames * frame_time_ms / 1000
    for rate_hz in (step, step * 1000 / frame_time_ms):
        if 0.8 <= points / rate_hz / run_s <= 1.2:
            return rate_hz
    return None
