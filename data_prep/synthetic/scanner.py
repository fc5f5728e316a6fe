"""What lies in front of and behind the arteries, and what an X-ray system makes of it: an 8-bit picture.

Attenuation maps are in units of the exponent of Beer-Lambert's law, (size, size), row 0 at the top. Sizes are in
millimetres in the plane of the isocentre, so that the same scene can be drawn at any number of pixels.
"""

from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from data_prep.synthetic.projection import CArmView
from data_prep.synthetic.tree import Heart

Map = NDArray[np.float32]
Range = tuple[float, float]
Layer = Literal["tissue", "heart", "spine", "diaphragm", "ribs", "fibres"]


@dataclass(frozen=True)
class Look:
    """How one kind of X-ray system renders a scene; ranges are drawn from for every frame."""

    name: str
    field_mm: Range
    blur_mm: Range
    """Standard deviation of focal spot, motion and detector blur together."""
    quanta_per_mm2: Range
    gamma: Range
    sharpening: tuple[Range, Range]
    """Edge enhancement: standard deviation in mm, amount."""
    contrast: Range
    """Factor on the attenuation of the body: below 1 where the system flattens the background."""
    shutter_probability: float
    round_corner_probability: float


LOOKS = (
    Look("flat panel", (95, 135), (0.1, 0.35), (3e3, 6e3), (0.9, 1.2), ((1.0, 5.0), (0.1, 0.5)), (0.6, 1.2), 0.3, 0.0),
    Look("edge enhanced", (100, 140), (0.15, 0.4), (5e3, 1e4), (0.9, 1.3), ((2, 8), (0.6, 1.6)), (0.7, 1.4), 0.6, 0.0),
    Look("smooth", (95, 135), (0.25, 0.5), (3e3, 7e3), (0.7, 1.1), ((2, 6), (0.0, 0.2)), (0.6, 1.2), 0.3, 0.0),
    Look(
        "image intensifier", (105, 145), (0.3, 0.6), (2e3, 4e3), (0.8, 1.2), ((1, 4), (0.0, 0.5)), (0.5, 1.1), 0.1, 0.85
    ),
)


def draw_background(rng: Generator, view: CArmView, heart: Heart) -> Map:
    """Attenuation of everything but contrast agent and devices, up to a constant."""
    (_, total), *others = draw_background_layers(rng, view, heart)
    for _, layer in others:
        total = total + layer
    return total


def draw_background_layers(rng: Generator, view: CArmView, heart: Heart) -> list[tuple[Layer, Map]]:
    """Attenuation of everything but contrast agent and devices, apart by what moves together; tissue is first."""
    right, up = grid_mm(view)
    layers: list[tuple[Layer, Map]] = [("tissue", _soft_tissue(rng, view))]
    layers.append(("heart", rng.uniform(0.1, 0.6) * _heart_shadow(view, heart)))
    if rng.random() < 0.85:
        layers.append(("spine", rng.uniform(0.1, 0.6) * _spine(rng, view, right, up)))
    if rng.random() < 0.7:
        for _ in range(rng.integers(1, 3)):
            layers.append(("diaphragm", rng.uniform(0.15, 0.7) * _diaphragm(rng, view, right, up)))
    if rng.random() < 0.7:
        layers.append(("ribs", rng.uniform(0.02, 0.12) * _ribs(rng, view, right, up)))
    if rng.random() < 0.25:
        layers.append(("fibres", rng.uniform(0.01, 0.05) * _muscle_fibres(rng, view, right, up)))
    return layers


def draw_wires(rng: Generator, view: CArmView) -> Map:
    """Attenuation of cables and wires on and in the patient: none on most frames."""
    right, up = grid_mm(view)
    total = np.zeros_like(right)
    for _ in range(rng.poisson(0.15)):
        angle, offset = rng.uniform(0, np.pi), rng.uniform(-0.45, 0.45) * view.field_mm
        along, across = right * np.cos(angle) + up * np.sin(angle), up * np.cos(angle) - right * np.sin(angle)
        bend = offset + rng.normal(0, 0.002) * along**2 + rng.normal(0, 3) * np.sin(along / rng.uniform(12, 40))
        radius = rng.uniform(0.3, 0.8)
        soft = np.hypot(0.3 * view.pixel_mm, 0.2)
        total += rng.uniform(0.05, 0.35) * soft_step((radius - np.abs(across - bend)) / soft)
    return total


@dataclass(frozen=True)
class Exposure:
    """The settings of one exposure, or of all exposures of a run."""

    contrast: float
    """Factor on the attenuation of the body."""
    scatter: float
    """Share of the signal that comes from elsewhere in the body."""
    shade: Map
    """(size, size) vignetting, about 1."""
    opening: Map
    """(size, size) open part of the field, 0 to 1."""
    blur_px: float
    quanta: float
    """In a pixel of median signal."""
    noise_blur_px: float
    electronic_noise: float
    gamma: float
    sharpening_px: float
    sharpening: float
    level: float
    """Grey value, of 255, of the median signal."""
    offset: float
    """Grey value, of 255, of no signal."""

    def detect(self, rng: Generator, view: CArmView, body: Map, contrast_agent: Map) -> Map:
        """Beer-Lambert's law, scatter, blur, collimation and fresh noise.

        Args:
            rng: source of the noise.
            view: geometry, for the scale of the scatter.
            body: (size, size) attenuation of the body, up to a constant.
            contrast_agent: (size, size) attenuation of arteries, catheter and wires.
        Returns:
            (size, size) signal, 1 at the median before collimation; noise can make it negative.
        """
        signal = np.exp(-self.contrast * (body - body.mean())) * np.exp(-contrast_agent)
        signal = (1 - self.scatter) * signal + self.scatter * _blur(signal, 20 / view.pixel_mm)
        signal /= np.median(signal)
        signal = _blur(signal, self.blur_px) * self.shade * self.opening
        # Poisson noise, as its normal limit: there are thousands of quanta in a pixel.
        noise = rng.standard_normal(signal.shape, dtype=np.float32) * np.sqrt(np.maximum(signal, 0) / self.quanta)
        signal = signal + _blur(noise, self.noise_blur_px)
        signal += self.electronic_noise * rng.standard_normal(signal.shape, dtype=np.float32)
        return signal

    def enhance(self, shown: NDArray[Any]) -> NDArray[Any]:
        """Sharpen the edges."""
        return shown + self.sharpening * (shown - _blur(shown, self.sharpening_px))


def draw_exposure(rng: Generator, view: CArmView, look: Look, *, round_corners: bool | None = None) -> Exposure:
    """Draw settings within what `look` allows; `round_corners` as in `acquire`."""
    contrast, scatter = rng.uniform(*look.contrast), rng.uniform(0.2, 0.45)
    shade, opening = _collimation(rng, view, look, round_corners)
    blur_mm, quanta_per_mm2 = rng.uniform(*look.blur_mm), rng.uniform(*look.quanta_per_mm2)
    noise_blur_mm, electronic_noise = rng.uniform(0.12, 0.3), rng.uniform(0.001, 0.004)
    gamma = rng.uniform(*look.gamma)
    sharpening_mm, sharpening = (rng.uniform(*limits) for limits in look.sharpening)
    return Exposure(
        contrast=contrast,
        scatter=scatter,
        shade=shade,
        opening=opening,
        blur_px=blur_mm / view.pixel_mm,
        quanta=quanta_per_mm2 * view.pixel_mm**2,
        noise_blur_px=noise_blur_mm / view.pixel_mm,
        electronic_noise=electronic_noise,
        gamma=gamma,
        sharpening_px=sharpening_mm / view.pixel_mm,
        sharpening=sharpening,
        level=np.clip(rng.normal(112, 18), 75, 160),
        offset=rng.uniform(0, 4),
    )


def acquire(
    rng: Generator,
    view: CArmView,
    look: Look,
    background: Map,
    contrast_agent: Map,
    *,
    round_corners: bool | None = None,
) -> NDArray[np.uint8]:
    """Expose, blur, add noise, collimate, enhance and quantise.

    Args:
        rng: source of the exposure's settings and noise.
        view: geometry, for the scales.
        look: kind of system.
        background: (size, size) attenuation of the body, up to a constant.
        contrast_agent: (size, size) attenuation of arteries, catheter and wires.
        round_corners: dark corners of a round image intensifier; None leaves it to `look`.
    Returns:
        (size, size) uint8.
    """
    # Of its own, since the number of noise values depends on the size and the settings must not.
    noise_rng = rng.spawn(1)[0]
    exposure = draw_exposure(rng, view, look, round_corners=round_corners)
    signal = exposure.detect(noise_rng, view, background, contrast_agent)
    shown = exposure.enhance(np.maximum(signal, 0) ** exposure.gamma)
    return np.clip(np.rint(shown * exposure.level + exposure.offset), 0, 255).astype(np.uint8)


def _collimation(rng: Generator, view: CArmView, look: Look, round_corners: bool | None) -> tuple[Map, Map]:
    """Vignetting (about 1) and the open part of the field (0 to 1)."""
    right, up = grid_mm(view)
    half = view.field_mm / 2
    shade = 1 - rng.uniform(0, 0.12) * (right**2 + up**2) / half**2
    opening = np.ones_like(shade)
    if rng.random() < look.shutter_probability:
        angle = np.deg2rad(rng.normal(0, 0.6))
        turned_right, turned_up = right + angle * up, up - angle * right
        wide = rng.random() < 0.08
        soft = rng.uniform(0.25, 1.2)
        for distance in (turned_right, -turned_right, turned_up, -turned_up):
            if rng.random() < 0.8:
                edge = half * (1 - rng.uniform(0.01, 0.3 if wide else 0.12))
                opening *= soft_step((edge - distance) / soft)
    intensifier = rng.random() < look.round_corner_probability if round_corners is None else round_corners
    if intensifier:
        centre = rng.normal(0, 0.015 * half, 2)
        radius = half * rng.uniform(1.02, 1.2)
        distance = np.hypot(right - centre[0], up - centre[1])
        opening *= soft_step((radius - distance) / rng.uniform(0.3, 1.0))
        shade = shade * (1 - rng.uniform(0.05, 0.3) * (distance / radius) ** 2)
    leak = rng.uniform(0.0, 0.06)
    return shade.astype(np.float32), (leak + (1 - leak) * opening).astype(np.float32)


def _soft_tissue(rng: Generator, view: CArmView) -> Map:
    """Lung and soft tissue: noise of several scales, with the soft streaks of lung vessels."""
    total = 0.16 * _noise(rng, view, 70) + 0.1 * _noise(rng, view, 35)
    texture = np.exp(rng.uniform(np.log(0.3), np.log(1.3)))
    for scale_mm, weight in ((18, 0.035), (9, 0.04), (4.5, 0.04), (2.2, 0.03)):
        total += texture * weight * _noise(rng, view, scale_mm)
        streaks = np.exp(-((_noise(rng, view, 2 * scale_mm) / 0.25) ** 2))
        total += texture * rng.uniform(0, 1.2) * weight * streaks
    return total


def _heart_shadow(view: CArmView, heart: Heart) -> Map:
    """Path length through the heart's ellipsoid (parallel rays), 1 where longest."""
    right, up = grid_mm(view)
    half_axes = np.array([heart.radius_mm, heart.radius_mm, heart.length_mm * 0.75]) * 1.08
    centre, _ = view.project(np.zeros((1, 3)))
    middle = (view.size - 1) / 2
    x = right - (centre[0, 0] - middle) * view.pixel_mm
    y = up + (centre[0, 1] - middle) * view.pixel_mm
    # The ray a*x + b*y + c*t meets |.|^2 = 1 in the ellipsoid's own scaled axes.
    a, b, c = (view.axes @ heart.axes.T) / half_axes
    cc, cx, cy = c @ c, c @ a, c @ b
    root = (x * cx + y * cy) ** 2 - cc * (x * x * (a @ a) + y * y * (b @ b) + 2 * x * y * (a @ b) - 1)
    chord = np.sqrt(np.maximum(root, 0)) / np.sqrt(cc)
    return _blur((chord / max(float(chord.max()), 1e-6)).astype(np.float32), 0.8 / view.pixel_mm)


def _spine(rng: Generator, view: CArmView, right: Map, up: Map) -> Map:
    """The vertebral column, 60 to 85 mm behind the isocentre, where the view puts it."""
    column, magnification = view.project(np.array([[rng.normal(0, 5), rng.uniform(60, 85), 0.0]]))
    middle_mm = (column[0, 0] - (view.size - 1) / 2) * view.pixel_mm
    tilt, bend = rng.normal(0, 0.05), rng.normal(0, 3e-4)
    across = right - middle_mm - tilt * up - bend * up**2
    half_width = rng.uniform(15, 24) * magnification[0]
    pitch = rng.uniform(22, 32) * magnification[0]
    wave = (up / pitch + rng.random()) % 1.0
    waist = half_width * (1 - rng.uniform(0.0, 0.1) * np.sin(np.pi * wave) ** 2)
    body = soft_step((waist - np.abs(across)) / rng.uniform(0.5, 5.0))
    disc = np.exp(-(((wave - 0.5) / 0.09) ** 2))
    plates = np.exp(-(((np.abs(wave - 0.5) - 0.12) / 0.025) ** 2))
    pedicles = np.exp(-(((np.abs(across) - 0.55 * half_width) / 4) ** 2) - (((wave - 0.15) * pitch / 5) ** 2))
    spinous = np.exp(-((across / 3) ** 2) - (((wave - 0.75) * pitch / 6) ** 2))
    detail = rng.uniform(0.2, 1.0)
    return (body * (1 + detail * (0.4 * plates - 0.25 * disc + 0.3 * pedicles + 0.2 * spinous))).astype(np.float32)


def _diaphragm(rng: Generator, view: CArmView, right: Map, up: Map) -> Map:
    """A dome: path length through a flattened sphere below its upper edge."""
    radius = rng.uniform(45, 120)
    top = rng.uniform(-0.55, 0.25) * view.field_mm
    centre_right = rng.uniform(-0.5, 0.5) * view.field_mm
    squeeze = rng.uniform(0.7, 1.3)
    depth = 1 - ((right - centre_right) * squeeze / radius) ** 2 - ((up - (top - radius)) / radius) ** 2
    chord = np.sqrt(np.maximum(depth, 0)) if rng.random() < 0.6 else soft_step(depth * radius / rng.uniform(1, 4))
    return _blur(chord.astype(np.float32), rng.uniform(0.3, 1.2) / view.pixel_mm)


def _ribs(rng: Generator, view: CArmView, right: Map, up: Map) -> Map:
    """One or two sets of parallel ribs: hollow tubes with a dense cortex."""
    total = np.zeros_like(right)
    for _ in range(rng.integers(1, 3)):
        slope, curve = rng.uniform(-0.8, 0.8), rng.uniform(-0.006, 0.006)
        height = up - slope * right - curve * right**2
        steepness = np.sqrt(1 + (slope + 2 * curve * right) ** 2)
        pitch, outer = rng.uniform(22, 36), rng.uniform(4, 7)
        distance = (((height + rng.uniform(0, pitch)) % pitch) - pitch / 2) / steepness
        inner = outer - rng.uniform(0.8, 1.6)
        wall = np.sqrt(np.maximum(outer**2 - distance**2, 0)) - np.sqrt(np.maximum(inner**2 - distance**2, 0))
        fade = soft_step((rng.uniform(-0.2, 0.5) * view.field_mm - right * rng.choice([-1, 1])) / 10)
        total += fade * (wall / 4 + 0.5 * (np.abs(distance) < outer)).astype(np.float32)
    return _blur(total, rng.uniform(0.3, 0.9) / view.pixel_mm)


def _muscle_fibres(rng: Generator, view: CArmView, right: Map, up: Map) -> Map:
    """Fine oblique stripes of chest-wall muscle and skin folds in a part of the picture."""
    angle = rng.uniform(0, np.pi)
    across = right * np.cos(angle) + up * np.sin(angle) + 4 * _noise(rng, view, 60)
    stripes = np.sin(2 * np.pi * across / rng.uniform(3, 9) + 5 * _noise(rng, view, 30))
    where = soft_step(2 * _noise(rng, view, 60) - 0.8)
    return (stripes * where).astype(np.float32)


def grid_mm(view: CArmView) -> tuple[Map, Map]:
    """(right, up) of every pixel's centre from the picture's middle, in mm."""
    place = ((np.arange(view.size) - (view.size - 1) / 2) * view.pixel_mm).astype(np.float32)
    right, down = np.meshgrid(place, place)
    return right, -down


def _noise(rng: Generator, view: CArmView, scale_mm: float) -> Map:
    """Smooth random field with mean about 0, standard deviation about 1 and structures of about `scale_mm`."""
    nodes = int(np.ceil(view.field_mm / scale_mm)) + 4
    coarse = rng.standard_normal((nodes, nodes), dtype=np.float32)
    step = view.pixel_mm / scale_mm
    place = (1 + rng.random(2)[:, None] + np.arange(view.size) * step).astype(np.float32)
    columns, rows = np.meshgrid(place[0], place[1])
    field = cv2.remap(coarse, columns, rows, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(1.4 * field, dtype=np.float32)


def _blur(image: NDArray[np.float32], sigma_px: float) -> Map:
    """Gaussian blur; a wide one on a smaller copy."""
    if sigma_px < 0.05:
        return image
    if sigma_px < 6:
        blurred = cv2.GaussianBlur(image, (0, 0), sigma_px, borderType=cv2.BORDER_REFLECT_101)
        return np.asarray(blurred, dtype=np.float32)
    shrink = sigma_px / 3
    size = max(8, round(image.shape[0] / shrink))
    small = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), sigma_px * size / image.shape[0], borderType=cv2.BORDER_REFLECT_101)
    return np.asarray(cv2.resize(small, image.shape[::-1], interpolation=cv2.INTER_CUBIC), dtype=np.float32)


def soft_step(x: NDArray[Any]) -> Map:
    """0 far below, 1 far above, smooth within about one unit."""
    return (0.5 + 0.5 * np.tanh(x)).astype(np.float32)
