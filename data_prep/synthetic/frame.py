"""One synthetic angiogram: a pure function of (seed, patient, frame)."""

from dataclasses import dataclass, replace
from functools import lru_cache

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from data_prep.synthetic.projection import Balls, CArmView, lumen_mask, path_length_mm, tube_balls
from data_prep.synthetic.scanner import LOOKS, Look, acquire, draw_background, draw_wires
from data_prep.synthetic.tree import CoronaryTree, Side, draw_heart, grow_tree, smooth_path

# The angles (LAO positive, cranial positive) in which the two arteries are looked at in practice.
USUAL_ANGLES_DEG: dict[Side, tuple[tuple[float, float], ...]] = {
    "left": ((-30, -22), (-5, -28), (-30, 25), (0, 35), (45, 25), (45, -28), (-20, 0), (-35, 5)),
    "right": ((42, 0), (-30, 0), (0, 30), (30, 22), (88, 0)),
}
_OVERSAMPLING = 2
DEFAULT_MIN_CALIBRE_MM = 1.2


@dataclass(frozen=True)
class SyntheticFrame:
    """A frame and its exact mask."""

    image: NDArray[np.uint8]
    """(size, size), row 0 at the top."""
    mask: NDArray[np.uint8]
    """(size, size): 255 where the pixel's centre lies in a projected artery, else 0."""
    agent_mm: NDArray[np.float32]
    """(size, size): length of each ray in undiluted contrast agent: arteries, catheter and reflux."""
    side: Side
    look: str
    view: CArmView


def synthesize_frame(
    seed: int,
    patient: int,
    frame: int,
    *,
    size: int = 256,
    min_calibre_mm: float = DEFAULT_MIN_CALIBRE_MM,
    round_corners: bool | None = None,
) -> SyntheticFrame:
    """Make frame `frame` of patient `patient` of the data set `seed`.

    The patient's heart, both arteries and the X-ray system are drawn from (seed, patient); view, heart phase, contrast
    agent, background and noise from (seed, patient, frame). Same arguments, same bytes (on the same numpy and OpenCV).

    Args:
        seed: names the data set; 0 or more.
        patient: 0 or more.
        frame: 0 or more, within the patient.
        size: width and height in pixels. The scene is the same at any size; only its sampling and noise differ.
        min_calibre_mm: the mask holds an artery up to where its healthy diameter falls below this; the picture shows
            all of it. 0 marks every twig. People who annotate leave thin side branches out.
        round_corners: dark corners of a round image intensifier; None leaves it to the patient's X-ray system.
    """
    trees, look = draw_patient(seed, patient)
    rng = np.random.default_rng([seed, patient, 1 + frame])
    side: Side = "left" if rng.random() < 0.6 else "right"
    usual = USUAL_ANGLES_DEG[side]
    primary, secondary = np.array(usual[rng.integers(len(usual))]) + rng.normal(0, 6, 2)
    view = CArmView(float(primary), float(secondary), field_mm=rng.uniform(*look.field_mm), size=size)
    tree = trees[side]
    systole = rng.uniform(0.0, 0.14)
    view = replace(view, shift_mm=table_shift_mm(rng, tree, view, systole))

    arteries, labelled = _artery_balls(rng, tree, systole, min_calibre_mm)
    devices = catheter_balls(rng, tree, systole)
    fine = replace(view, size=size * _OVERSAMPLING)
    length_mm = cv2.resize(
        path_length_mm(Balls.join([arteries, devices]), fine), (size, size), interpolation=cv2.INTER_AREA
    )
    iodine_per_mm = np.clip(rng.lognormal(np.log(0.16), 0.35), 0.06, 0.35)
    agent = (iodine_per_mm * length_mm).astype(np.float32)
    if rng.random() < 0.3:
        agent += reflux(rng, tree, systole, view)

    background = draw_background(rng, view, tree.heart)
    image = acquire(rng, view, look, background, agent + draw_wires(rng, view), round_corners=round_corners)
    mask = np.where(lumen_mask(labelled, view), np.uint8(255), np.uint8(0))
    return SyntheticFrame(image, mask, agent / np.float32(iodine_per_mm), side, look.name, view)


@lru_cache(maxsize=8)
def draw_patient(seed: int, patient: int) -> tuple[dict[Side, CoronaryTree], Look]:
    """Both arteries of a patient, and the X-ray system of the hospital."""
    rng = np.random.default_rng([seed, patient, 0])
    heart = draw_heart(rng)
    trees: dict[Side, CoronaryTree] = {"left": grow_tree(rng, heart, "left"), "right": grow_tree(rng, heart, "right")}
    return trees, LOOKS[rng.choice(len(LOOKS), p=[0.45, 0.25, 0.2, 0.1])]


def table_shift_mm(rng: Generator, tree: CoronaryTree, view: CArmView, systole: float) -> tuple[float, float]:
    """Put the main branches near the middle of the picture, as the operator does, more or less."""
    points = np.concatenate([b.points_mm for b in tree.branches if b.name != "twig"])
    place, _ = view.project(tree.heart.contracted_mm(points, systole))
    middle = (place.min(axis=0) + place.max(axis=0)) / 2 - (view.size - 1) / 2
    right, down = middle * view.pixel_mm + rng.normal(0, 0.06 * view.field_mm, 2)
    return -float(right), float(down)


def _artery_balls(rng: Generator, tree: CoronaryTree, systole: float, min_calibre_mm: float) -> tuple[Balls, Balls]:
    """The contrast-filled arteries, and the part of them that the mask marks."""
    fade_mm = rng.uniform(120, 800)
    filled, labelled = [], []
    for branch in tree.branches:
        points = tree.heart.contracted_mm(branch.points_mm, systole)
        balls = tube_balls(points, branch.radius_mm, branch.distance_mm)
        distance_mm, strength = balls.weight, 1 if branch.distance_mm[0] == 0 else rng.uniform(0.85, 1.1)
        balls = replace(balls, weight=strength * np.exp(-distance_mm / fade_mm))
        filled.append(balls)
        wide = 2 * branch.healthy_radius_mm >= min_calibre_mm
        if wide.any():
            labelled.append(balls.where(distance_mm <= branch.distance_mm[wide][-1]))
    return Balls.join(filled), Balls.join(labelled)


def catheter_balls(rng: Generator, tree: CoronaryTree, systole: float) -> Balls:
    """A catheter of 5 to 7 French from the ascending aorta into the ostium."""
    artery = tree.heart.contracted_mm(tree.branches[0].points_mm, systole)
    inside = min(int(rng.uniform(2, 10)), len(artery) - 1)
    ostium = artery[0]
    root = tree.heart.point_mm(np.zeros(1), np.full(1, -30.0), np.full(1, 0.05))[0]
    inward = root - ostium
    controls = np.stack(
        [
            artery[inside],
            artery[inside // 2],
            ostium,
            ostium + rng.uniform(0.3, 0.9) * inward + rng.normal(0, 3, 3),
            ostium + rng.uniform(0.7, 1.3) * inward + np.array([0, 0, rng.uniform(8, 22)]) + rng.normal(0, 3, 3),
            root + np.array([rng.normal(-4, 6), rng.normal(4, 6), rng.uniform(35, 55)]),
            root + np.array([rng.normal(0, 12), rng.normal(8, 8), 130.0]),
        ]
    )
    controls = smooth_path(controls)
    radius = np.full(len(controls), rng.uniform(0.8, 1.15))
    return tube_balls(controls, radius, np.full(len(controls), rng.uniform(0.6, 1.4)))


def reflux(rng: Generator, tree: CoronaryTree, systole: float, view: CArmView) -> NDArray[np.float32]:
    """A cloud of contrast agent in the aortic root, beside the ostium."""
    origin = tree.heart.contracted_mm(tree.branches[0].points_mm[:1], systole)
    ostium, magnification = view.project(origin + rng.normal(0, 4, (1, 3)))
    rows, columns = np.mgrid[: view.size, : view.size].astype(np.float32)
    spread = rng.uniform(3, 8, 2) * magnification[0] / view.pixel_mm
    distance2 = ((columns - ostium[0, 0]) / spread[0]) ** 2 + ((rows - ostium[0, 1]) / spread[1]) ** 2
    return (rng.uniform(0.05, 0.35) * np.exp(-distance2)).astype(np.float32)
