"""One synthetic cine run and what is true of it: a pure function of (seed, patient, run), its size and length."""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from data_prep.synthetic.bolus import FILLED_CONCENTRATION, Bolus, draw_bolus
from data_prep.synthetic.frame import (
    DEFAULT_MIN_CALIBRE_MM,
    USUAL_ANGLES_DEG,
    catheter_balls,
    draw_patient,
    reflux,
    table_shift_mm,
)
from data_prep.synthetic.motion import Motion, draw_motion, electrocardiogram
from data_prep.synthetic.projection import Balls, CArmView, lumen_mask, path_length_mm, tube_balls
from data_prep.synthetic.scanner import Exposure, Map, draw_background_layers, draw_exposure, draw_wires
from data_prep.synthetic.stenosis import Stenosis, draw_stenoses, narrow
from data_prep.synthetic.tree import CoronaryTree, Side
from data_prep.synthetic.vendors import VENDORS, Vendor
from data_prep.synthetic.xa_file import LOG_RANGE, RectangularShutter, XAFacts

ECG_RATE_HZ = 300
MIN_FRAMES = 8
# Keeps a run's random numbers apart from those of the patient (0) and of single frames (1 + frame).
_CINE_STREAM, _CINE_PATIENT_STREAM = 1_000_003, 1_000_033
# From this size on, a pixel is finer than the blur, so that one ray in each is enough.
_OVERSAMPLED_BELOW_PX = 400
_CATHETER_FOLLOWS_MM = 45.0


@dataclass(frozen=True)
class Centreline:
    """A branch as far as the mask marks it: sampled about every half millimetre, from its origin on."""

    branch: str
    points_px: NDArray[np.float64]
    """(F, N, 2) column and row at every frame, 0 at the first pixel's centre; may lie outside the picture."""
    diameter_mm: NDArray[np.float64]
    """(N,) lumen diameter in the patient."""
    diameter_px: NDArray[np.float64]
    """(F, N) diameter as projected, with the magnification at its depth."""
    distance_mm: NDArray[np.float64]
    """(N,) way from the ostium along the vessels."""


@dataclass(frozen=True)
class VesselTruth:
    """What is true of the arteries in a run."""

    masks: NDArray[np.uint8]
    """(F, size, size): 1 where the pixel's centre lies in a projected artery that is filled at that frame, else 0."""
    filling: NDArray[np.float64]
    """(F,) share, by length, of the marked arteries that is filled."""
    opacity: NDArray[np.float64]
    """(F,) concentration of the agent, as a share of the undiluted one, in the mean over the marked arteries."""
    centrelines: tuple[Centreline, ...]


@dataclass(frozen=True)
class SyntheticCine:
    """A run and its exact truth."""

    frames: NDArray[Any]
    """(F, size, size) uint8 or uint16 stored values, row 0 at the top."""
    truth: VesselTruth
    stenoses: tuple[Stenosis, ...]
    """Those that lie where the mask marks."""
    reference_frame: int
    """Of the frames whose opacity is at least 95% of the best one's, the one in which the heart is least contracted."""
    r_wave_frames: tuple[int, ...]
    spacing_mm: float
    """Pixel size in the plane of the isocentre."""
    tree: CoronaryTree
    side: Side
    view: CArmView
    vendor: Vendor
    motion: Motion
    bolus: Bolus | None
    """None where no agent was given."""
    facts: XAFacts
    """For `write_xa`."""


def synthesize_cine(
    seed: int,
    patient: int,
    run: int,
    *,
    size: int = 512,
    frames: int = 64,
    min_calibre_mm: float = DEFAULT_MIN_CALIBRE_MM,
    contrast: bool | None = None,
    stenoses_percent: Sequence[float] | None = None,
) -> SyntheticCine:
    """Make run `run` of patient `patient` of the data set `seed`.

    All runs of a patient show the same artery tree, with the same stenoses, from other angles, by the same X-ray
    system; heartbeat, breath, injection, background and noise are the run's own. The injection takes its share of the
    run, however many frames that has. Same arguments, same bytes (on the same numpy and OpenCV).

    Args:
        seed: names the data set; 0 or more.
        patient: 0 or more.
        run: 0 or more, within the patient.
        size: width and height in pixels.
        frames: 8 or more.
        min_calibre_mm: the mask holds an artery up to where its healthy diameter falls below this (0 to 3); the picture
            shows all of it. 0 marks every twig.
        contrast: is agent injected? None: not in every eighth run, those in which `patient + 3 * run` is 5 modulo 8.
        stenoses_percent: diameter stenoses of the patient, at random places; None draws up to two of 30 to 85%.
    Raises:
        ValueError: fewer frames than 8, a calibre that no artery has, or stenoses that the tree has no room for.
    """
    if frames < MIN_FRAMES:
        raise ValueError(f"`frames` must be {MIN_FRAMES} or more, got {frames}")
    if not 0 <= min_calibre_mm <= 3:
        raise ValueError(f"`min_calibre_mm` must be 0 to 3 (then only trunks are left), got {min_calibre_mm}")
    asked = None if stenoses_percent is None else tuple(stenoses_percent)
    tree, stenoses, angles = _draw_cine_patient(seed, patient, asked)
    vendor = VENDORS[patient % len(VENDORS)]
    rng = np.random.default_rng([seed, patient, run, _CINE_STREAM])
    noise_rng = rng.spawn(1)[0]
    primary, secondary = np.array(angles[run % len(angles)]) + rng.normal(0, 5, 2)
    # To the tenth of a degree that headers give.
    view = CArmView(
        round(float(primary), 1), round(float(secondary), 1), field_mm=rng.uniform(*vendor.look.field_mm), size=size
    )
    view = replace(view, shift_mm=table_shift_mm(rng, tree, view, 0.0))
    motion = draw_motion(rng, frames, vendor.frame_time_ms)
    bolus: Bolus | None = draw_bolus(rng, frames * vendor.frame_time_ms, max(b.distance_mm[-1] for b in tree.branches))
    if contrast is False or (contrast is None and (patient + 3 * run) % 8 == 5):
        bolus = None
    exposure = draw_exposure(rng, view, vendor.look)
    if bolus is None:
        # Like fluoroscopy, which uses a fraction of the dose.
        exposure = replace(exposure, quanta=exposure.quanta / 3)

    body = _Body(rng, view, tree)
    agent = _Agent(rng, view, tree, motion, bolus)
    signals = (exposure.detect(noise_rng, view, body.at(motion, f), agent.at(f)) for f in range(frames))
    stored = np.stack([_store(signal, exposure, vendor) for signal in signals])
    truth = vessel_truth(tree, view, motion, bolus, min_calibre_mm=min_calibre_mm)
    marked = {line.branch: len(line.diameter_mm) for line in truth.centrelines}
    cine = SyntheticCine(
        frames=stored,
        truth=truth,
        stenoses=tuple(s for s in stenoses if s.point < marked.get(branch_label(tree, s.branch), 0)),
        reference_frame=_reference_frame(truth.opacity, motion),
        r_wave_frames=motion.r_wave_frames,
        spacing_mm=view.pixel_mm,
        tree=tree,
        side=tree.side,
        view=view,
        vendor=vendor,
        motion=motion,
        bolus=bolus,
        facts=XAFacts(),
    )
    return replace(cine, facts=_facts(cine, seed, patient, run, exposure, rng))


def vessel_truth(
    tree: CoronaryTree,
    view: CArmView,
    motion: Motion,
    bolus: Bolus | None,
    *,
    min_calibre_mm: float = DEFAULT_MIN_CALIBRE_MM,
) -> VesselTruth:
    """Masks, filling and centrelines of a tree in a run; where `bolus` is None nothing is filled."""
    frames = len(motion.contraction)
    marked, lines = [], []
    for index, branch in enumerate(tree.branches):
        wide = np.flatnonzero(2 * branch.healthy_radius_mm >= min_calibre_mm)
        # A tube needs two points.
        if len(wide) and wide[-1] > 0:
            to = slice(wide[-1] + 1)
            marked.append(tube_balls(branch.points_mm[to], branch.radius_mm[to], branch.distance_mm[to]))
            lines.append(
                (branch_label(tree, index), branch.points_mm[to], 2 * branch.radius_mm[to], branch.distance_mm[to])
            )
    balls = Balls.join(marked)
    distance_mm = np.concatenate([line[3] for line in lines])
    masks = np.zeros((frames, view.size, view.size), dtype=np.uint8)
    filling, opacity = np.zeros(frames), np.zeros(frames)
    for frame in range(frames):
        if bolus is None:
            break
        time_ms = frame * motion.frame_time_ms
        filled = bolus.concentration(time_ms, balls.weight) >= FILLED_CONCENTRATION
        concentration = bolus.concentration(time_ms, distance_mm)
        filling[frame], opacity[frame] = (concentration >= FILLED_CONCENTRATION).mean(), concentration.mean()
        moved = replace(balls, centre_mm=motion.move(balls.centre_mm, tree.heart, frame))
        masks[frame] = lumen_mask(moved.where(filled), view)
    centrelines = []
    for name, points_mm, diameter_mm, along_mm in lines:
        projected = [view.project(motion.move(points_mm, tree.heart, frame)) for frame in range(frames)]
        magnification = np.stack([scale for _, scale in projected])
        centrelines.append(
            Centreline(
                name,
                points_px=np.stack([place for place, _ in projected]),
                diameter_mm=diameter_mm,
                diameter_px=diameter_mm * magnification / view.pixel_mm,
                distance_mm=along_mm,
            )
        )
    return VesselTruth(masks, filling, opacity, tuple(centrelines))


def branch_label(tree: CoronaryTree, index: int) -> str:
    """The name of the tree's `index`-th branch, numbered from the second of that name on."""
    name = tree.branches[index].name
    earlier = sum(branch.name == name for branch in tree.branches[:index])
    return name if earlier == 0 else f"{name} {earlier + 1}"


@lru_cache(maxsize=8)
def _draw_cine_patient(
    seed: int, patient: int, stenoses_percent: tuple[float, ...] | None
) -> tuple[CoronaryTree, tuple[Stenosis, ...], list[tuple[float, float]]]:
    """The tree with its stenoses, and the angles in the order in which the runs take them."""
    trees, _ = draw_patient(seed, patient)
    rng = np.random.default_rng([seed, patient, _CINE_PATIENT_STREAM])
    side: Side = "left" if rng.random() < 0.6 else "right"
    usual = USUAL_ANGLES_DEG[side]
    angles = [usual[index] for index in rng.permutation(len(usual))]
    drawn = tuple(float(percent) for percent in np.rint(rng.uniform(30, 85, rng.integers(0, 3))))
    stenoses = draw_stenoses(rng, trees[side], drawn if stenoses_percent is None else stenoses_percent)
    return narrow(trees[side], stenoses), stenoses, angles


class _Body:
    """The background: drawn once, then moved in layers."""

    def __init__(self, rng: Generator, view: CArmView, tree: CoronaryTree) -> None:
        layers = draw_background_layers(rng, view, tree.heart)
        self.view = view
        self.still = draw_wires(rng, view) + sum(
            layer for kind, layer in layers if kind in ("tissue", "spine", "fibres")
        )
        none = np.zeros_like(self.still)
        self.moving = {
            kind: sum((layer for name, layer in layers if name == kind), none)
            for kind in ("heart", "diaphragm", "ribs")
        }
        self.heart_px = view.project(np.zeros((1, 3)))[0][0]

    def at(self, motion: Motion, frame: int) -> Map:
        """(size, size) attenuation at a frame."""
        right_mm, up_mm = self.view.axes[:2] @ motion.breathing_mm[frame]
        breath_px = np.array([right_mm, -up_mm]) / self.view.pixel_mm
        heart_scale = 1 - 0.6 * motion.contraction[frame]
        total = self.still.copy()
        # The diaphragm's dome goes further down than the heart on it; ribs rise a little as the chest widens.
        for kind, scale, shift in (("heart", heart_scale, 1.0), ("diaphragm", 1.0, 1.5), ("ribs", 1.0, -0.3)):
            total += _moved(self.moving[kind], scale, self.heart_px, shift * breath_px)
        return total


def _moved(layer: Map, scale: float, about_px: NDArray[np.float64], shift_px: NDArray[np.float64]) -> Map:
    """The layer scaled about a point and shifted (right, down); its edge goes on outwards."""
    offset = (1 - scale) * about_px + shift_px
    matrix = np.array([[scale, 0, offset[0]], [0, scale, offset[1]]])
    moved = cv2.warpAffine(layer, matrix, layer.shape[::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(moved, dtype=np.float32)


class _Agent:
    """Contrast agent in arteries, catheter and aortic root."""

    def __init__(self, rng: Generator, view: CArmView, tree: CoronaryTree, motion: Motion, bolus: Bolus | None) -> None:
        fade_mm = rng.uniform(200, 900)
        parts = []
        strengths = []
        for branch in tree.branches:
            balls = tube_balls(branch.points_mm, branch.radius_mm, branch.distance_mm)
            parts.append(balls)
            strength = 1 if branch.distance_mm[0] == 0 else rng.uniform(0.85, 1.1)
            strengths.append(strength * np.exp(-balls.weight / fade_mm))
        self.arteries, self.strength = Balls.join(parts), np.concatenate(strengths)
        self.catheter = catheter_balls(rng, tree, 0.0)
        steps = np.linalg.norm(np.diff(self.catheter.centre_mm, axis=0), axis=1)
        # The tip goes with the ostium, the shaft in the aorta hardly.
        self.follows = np.exp(-np.concatenate([[0.0], np.cumsum(steps)]) / _CATHETER_FOLLOWS_MM)
        self.ostium_mm = tree.branches[0].points_mm[:1]
        self.iodine_per_mm = np.clip(rng.lognormal(np.log(0.18), 0.3), 0.09, 0.35)
        self.cloud = reflux(rng, tree, 0.0, view)
        if rng.random() < 0.6:
            self.cloud *= 0
        self.view, self.heart, self.motion, self.bolus = view, tree.heart, motion, bolus
        self.rays = replace(view, size=view.size * (2 if view.size < _OVERSAMPLED_BELOW_PX else 1))

    def at(self, frame: int) -> Map:
        """(size, size) attenuation at a frame."""
        time_ms = frame * self.motion.frame_time_ms
        injection = 0.0 if self.bolus is None else self.bolus.injection(time_ms)
        ostium_moves = self.motion.move(self.ostium_mm, self.heart, frame)[0] - self.ostium_mm[0]
        balls = [
            Balls(
                self.catheter.centre_mm + self.follows[:, None] * ostium_moves,
                self.catheter.radius_mm,
                # Its wall alone is dark, too.
                (0.45 + 0.55 * injection) * self.catheter.weight,
            )
        ]
        if self.bolus is not None:
            concentration = self.bolus.concentration(time_ms, self.arteries.weight)
            some = concentration > 0.01
            arteries = replace(self.arteries, weight=self.strength * concentration).where(some)
            moved_mm = self.motion.move(arteries.centre_mm, self.heart, frame)
            balls.append(replace(arteries, centre_mm=moved_mm))
        length_mm = path_length_mm(Balls.join(balls), self.rays)
        if self.rays.size != self.view.size:
            to_size = (self.view.size, self.view.size)
            length_mm = np.asarray(cv2.resize(length_mm, to_size, interpolation=cv2.INTER_AREA), dtype=np.float32)
        return np.asarray(self.iodine_per_mm * length_mm + injection * self.cloud, dtype=np.float32)


def _store(signal: Map, exposure: Exposure, vendor: Vendor) -> NDArray[Any]:
    """(size, size) signal → stored values in the vendor's relation to the beam's intensity."""
    share = np.maximum(signal, 0) * (exposure.level / 255)
    shown: NDArray[Any]
    if vendor.intensity_relationship == "LOG":
        shown = 1 + np.log(np.maximum(share, 1 / LOG_RANGE)) / np.log(LOG_RANGE)
    elif vendor.intensity_relationship == "DISP":
        shown = np.maximum(signal, 0) ** exposure.gamma * (exposure.level / 255)
    else:
        shown = share + exposure.offset / 255
    highest = 2**vendor.bits_stored - 1
    grey = exposure.enhance(shown.astype(np.float32)) * highest
    return np.clip(np.rint(grey), 0, highest).astype(np.uint8 if vendor.bits_stored == 8 else np.uint16)


def _reference_frame(opacity: NDArray[np.float64], motion: Motion) -> int:
    full = np.flatnonzero(opacity >= 0.95 * opacity.max())
    return int(full[np.argmin(motion.contraction[full])])


def _widened(limits: NDArray[np.float64]) -> NDArray[np.float64]:
    """(2,) lower and upper limit, a tenth of their distance further apart at either end."""
    return np.asarray(limits + 0.1 * np.ptp(limits) * np.array([-1, 1]))


def _facts(cine: SyntheticCine, seed: int, patient: int, run: int, exposure: Exposure, rng: Generator) -> XAFacts:
    vendor, view = cine.vendor, cine.view
    source_to_patient_mm = 750.0
    source_to_detector_mm = float(np.rint(rng.uniform(950, 1150)))
    magnification = source_to_detector_mm / source_to_patient_mm
    known = vendor.spacing != "none"
    highest = 2**vendor.bits_stored - 1
    opening = exposure.opening > 0.5
    low, high = _widened(np.percentile(cine.frames[:: max(1, len(cine.frames) // 8), opening], [0.2, 99.8]))
    day = datetime.date(2020, 1, 1) + datetime.timedelta(days=patient % 3000)
    columns, rows = np.flatnonzero(opening.any(axis=0)) + 1, np.flatnonzero(opening.any(axis=1)) + 1
    edges = (int(columns[0]), int(columns[-1]), int(rows[0]), int(rows[-1]))
    return XAFacts(
        patient_name=f"Synthetic^Patient {patient}",
        patient_id=f"synthetic_{seed}_{patient:05d}",
        study_date=f"{day:%Y%m%d}",
        study_time=f"{8 + run // 60 % 12:02d}{run % 60:02d}00",
        study_description="Synthetic coronary angiography",
        series_number=run + 1,
        uid_seed=f"synthetic cine {seed} {patient}",
        manufacturer=vendor.name,
        manufacturer_model_name=vendor.model,
        bits_stored=vendor.bits_stored,
        pixel_intensity_relationship=vendor.intensity_relationship,
        window=None if high - low > 0.8 * highest else (float(np.rint((low + high) / 2)), float(np.rint(high - low))),
        frame_time_ms=vendor.frame_time_ms,
        r_wave_frames=cine.r_wave_frames if vendor.tells_r_waves else None,
        ecg=electrocardiogram(cine.motion, ECG_RATE_HZ) if vendor.tells_ecg else None,
        ecg_rate_hz=ECG_RATE_HZ,
        primary_angle_deg=view.primary_deg,
        secondary_angle_deg=view.secondary_deg,
        imager_pixel_spacing_mm=view.pixel_mm * magnification if known else None,
        pixel_spacing_mm=view.pixel_mm if vendor.spacing == "calibrated" else None,
        pixel_spacing_calibration="GEOMETRY" if vendor.spacing == "calibrated" else None,
        source_to_detector_mm=source_to_detector_mm if known else None,
        source_to_patient_mm=source_to_patient_mm if known else None,
        estimated_magnification=magnification if vendor.spacing == "factor" else None,
        shutter=RectangularShutter(*edges) if vendor.tells_shutter and not opening.all() else None,
        contrast_agent=None if cine.bolus is None else "Iodine",
    )
