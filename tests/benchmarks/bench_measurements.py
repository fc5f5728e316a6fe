"""How right `cmunet_monai.measurements` is: diameters and narrowings against known ones, and its time.

    python tests/benchmarks/bench_measurements.py
    python tests/benchmarks/bench_measurements.py --patients 40 --weights model.safetensors --output plots
    python tests/benchmarks/bench_measurements.py --masks expert_masks

Phantoms are tubes of 4 to 30 px, straight and bent, at four angles, with one bell-shaped narrowing of 30 to 70 percent:
as a map whose walls are slopes, as a binary mask, and after a round trip from 512 to 256 pixels and back, as a soft map
and as a mask. Synthetic angiograms are runs of `data_prep.synthetic` with two stenoses a patient, in the frame of
full contrast; the truth is the projected lumen, whether or not another vessel lies over it. With --weights the same
frames are segmented by a UNet of 16 to 256 channels that was trained at 256 x 256, and measured on its probabilities.

A pointwise error is that of a measured point within 2 px of a true centreline, more than one diameter from branches,
crossings, ends and borders. A stenosis counts as found if a candidate lies within 8 px of its narrowest place; as left
out if that place is not measured (a branch, a crossing or an end within a diameter, or overlap); else as missed.
"""

import argparse
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import statistics
import tempfile
import time
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

import cv2
import numpy as np
import torch
from matplotlib.figure import Figure
from monai.bundle import ConfigParser
from PIL import Image
from scipy.ndimage import convolve
from scipy.spatial import cKDTree
from skimage.morphology import skeletonize
from torch.nn.functional import interpolate

from cmunet_monai.measurements import Measurements, find_narrowings, measure_arteries
from cmunet_monai.metrics import bland_altman
from cmunet_monai.networks import UNet, load_unet_weights
from data_prep.synthetic.cine import SyntheticCine, branch_label, synthesize_cine

BUNDLE = Path(__file__).parents[2] / "bundles" / "coronary_xa_segmentation"
NETWORK_SIZE, CHANNELS = 256, (16, 32, 64, 128, 256)
SIZE = 512
WIDTHS_PX, ANGLES_DEG, BENDS, PERCENTS = (4, 6, 10, 18, 30), (0, 20, 45, 71), (0.0, 1 / 120), (30, 50, 70)
LEAST_TRUE_PERCENT = 35
MATCH_PX, FOUND_PX, END_PX = 2.0, 8.0, 10.0


@dataclass
class Errors:
    """Measured and true values of one kind of input."""

    diameters_px: list[np.ndarray] = field(default_factory=list)
    """(N, 2) each: measured, true."""
    narrowings: list[tuple[float, float, float, float]] = field(default_factory=list)
    """Minimum in px measured and true, percent measured and true."""
    left_out: int = 0
    missed: int = 0
    others: int = 0
    """Candidates at no stenosis."""
    frames: int = 0

    def row(self, name: str) -> str:
        measured, true = np.concatenate(self.diameters_px).T
        error = measured - true
        relative = np.percentile(100 * np.abs(error) / true, 90)
        text = f"{name:30s} {len(error):7d} {error.mean():+7.2f} {np.abs(error).mean():6.2f} {relative:7.1f}%"
        found = np.array(self.narrowings).reshape(-1, 4)
        total = len(found) + self.left_out + self.missed
        text += f"   {len(found):4d}/{total:<4d} {self.left_out:4d} {self.missed:4d} {self.others / self.frames:6.2f}"
        if len(found):
            points = found[:, 2] - found[:, 3]
            minimum = np.abs(found[:, 0] - found[:, 1]).mean()
            within = 100 * (np.abs(points) <= 10).mean()
            text += f"   {minimum:6.2f} {points.mean():+6.1f} {np.abs(points).mean():6.1f} {within:5.0f}%"
        return text


HEADER = (
    f"{'':30s} {'points':>7s} {'bias':>7s} {'MAE':>6s} {'90th':>8s}   "
    f"{'found':>9s} {'out':>4s} {'miss':>4s} {'other':>6s}   {'min':>6s} {'bias':>6s} {'MAE':>6s} {'<=10':>6s}"
)
LEGEND = (
    "diameters in px (90th: percentile of the error relative to the true diameter); found, left out, missed stenoses;\n"
    "other candidates a frame; MAE of the minimum in px; percent: bias, MAE in points, share within 10 points"
)


def tube(width: float, angle_deg: float, bend: float, percent: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Course (N, 2), true diameter (N,), and map (SIZE, SIZE) of a tube through the frame's middle."""
    half = 0.45 * SIZE
    along = np.arange(-half, half, 0.25)
    heading = np.deg2rad(angle_deg) + bend * along
    course = np.cumsum(np.stack([np.sin(heading), np.cos(heading)], axis=1) * 0.25, axis=0)
    course += (SIZE - 1) / 2 + np.array([0.3, 0.1]) - course[len(course) // 2]
    taper = width * (1 - 0.15 * along / half)
    diameter = taper * (1 - percent / 100 * np.exp(-((along / max(width, 8)) ** 2)))
    pixels = np.argwhere(np.ones((SIZE, SIZE), dtype=bool))
    distance, nearest = cKDTree(course).query(pixels, distance_upper_bound=width)
    levels = np.clip(np.append(diameter / 2, 0)[nearest] - distance + 0.5, 0, 1).reshape(SIZE, SIZE)
    return course, diameter, levels


def inputs(levels: np.ndarray) -> dict[str, np.ndarray]:
    """The same vessels as they may come."""
    half, full = (SIZE // 2, SIZE // 2), (SIZE, SIZE)
    soft = cv2.resize(cv2.resize(levels, half, interpolation=cv2.INTER_AREA), full, interpolation=cv2.INTER_LINEAR)
    mask = (levels >= 0.5).astype(np.uint8)
    hard = cv2.resize(cv2.resize(mask, half, interpolation=cv2.INTER_NEAREST), full, interpolation=cv2.INTER_NEAREST)
    return {"map": levels, "mask": mask, "map by way of 256": soft.clip(0, 1), "mask by way of 256": hard}


def collect(errors: Errors, result: Measurements, course: np.ndarray, diameter: np.ndarray) -> None:
    """Add the pointwise errors against true centrelines (N, 2) and their diameters (N,)."""
    tree = cKDTree(course)
    errors.frames += 1
    for segment in result.segments:
        distance, nearest = tree.query(segment.points)
        good = segment.clear & ~np.isnan(segment.diameter_px) & (distance <= MATCH_PX)
        errors.diameters_px.append(np.stack([segment.diameter_px[good], diameter[nearest[good]]], axis=1))


def collect_stenosis(errors: Errors, result: Measurements, place: np.ndarray, true_px: float, percent: float) -> bool:
    """Add a stenosis at (row, column) that was found, left out or missed; was it found?"""
    for narrowing in result.narrowings:
        if np.hypot(narrowing.row - place[0], narrowing.column - place[1]) <= FOUND_PX:
            errors.narrowings.append((narrowing.minimum_px, true_px, narrowing.percent, percent))
            return True
    distance_px, measured = (
        min(
            (float(away[near]), bool(segment.clear[near] and not np.isnan(segment.diameter_px[near])))
            for segment in result.segments
            for away in [np.linalg.norm(segment.points - place, axis=1)]
            for near in [int(away.argmin())]
        )
        if result.segments
        else (np.inf, False)
    )
    if distance_px <= MATCH_PX and measured:
        errors.missed += 1
    else:
        errors.left_out += 1
    return False


def phantoms() -> dict[str, Errors]:
    found: dict[str, Errors] = {}
    for width, angle_deg, bend, percent in product(WIDTHS_PX, ANGLES_DEG, BENDS, PERCENTS):
        course, diameter, levels = tube(width, angle_deg, bend, percent)
        narrowest = int(np.argmin(diameter))
        for name, given in inputs(levels).items():
            errors = found.setdefault(name, Errors())
            result = measure_arteries(given)
            listed = [
                narrowing for segment in result.segments for narrowing in find_narrowings(segment, least_percent=15)
            ]
            result = Measurements(result.segments, tuple(listed), None)
            collect(errors, result, course, diameter)
            if width > 6:  # no value below a reference of 6 px
                errors.others += len(listed)
                errors.others -= collect_stenosis(errors, result, course[narrowest], diameter[narrowest], percent)
    return found


class Segmenter:
    """Probability maps by the bundle's preprocessing and the UNet of 1.9 million parameters, at 256 x 256."""

    def __init__(self, weights: Path) -> None:
        parser = ConfigParser()
        parser.read_config(str(BUNDLE / "configs" / "inference.json"))
        parser["image_size"] = [NETWORK_SIZE, NETWORK_SIZE]
        self.preprocessing = parser.get_parsed_content("preprocessing")
        self.network = UNet(channels=CHANNELS).eval()
        print(f"{weights.name}: {load_unet_weights(self.network, weights)}")

    def __call__(self, frame: np.ndarray) -> np.ndarray:
        """(H, W) uint8, square → (H, W) probabilities of "vessel"."""
        with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
            Image.fromarray(frame).save(path := Path(folder) / "frame.png")
            image = self.preprocessing({"id": "frame", "image": str(path)})["image"].as_tensor()[None]
            probability = torch.softmax(self.network(image), dim=1)[:, 1:]
            whole = interpolate(probability, size=frame.shape[::-1], mode="bilinear", align_corners=False)
        return whole[0, 0].T.numpy().clip(0, 1)


def eight_bits(cine: SyntheticCine) -> np.ndarray:
    frame = cine.frames[cine.reference_frame].astype(np.float64)
    return np.rint(frame * (255 / (2**cine.vendor.bits_stored - 1))).astype(np.uint8)


def angiograms(patients: int, segmenter: Segmenter | None) -> tuple[dict[str, Errors], list[float]]:
    found: dict[str, Errors] = {}
    seconds: list[float] = []
    for patient in range(patients):
        percents = tuple(np.random.default_rng(patient).uniform(LEAST_TRUE_PERCENT, 80, 2))
        cine = synthesize_cine(7, patient, 0, size=SIZE, frames=8, contrast=True, stenoses_percent=percents)
        frame = cine.reference_frame
        lines = {line.branch: line for line in cine.truth.centrelines}
        course = np.concatenate([line.points_px[frame, :, ::-1] for line in lines.values()])
        diameter = np.concatenate([line.diameter_px[frame] for line in lines.values()])
        given = {"angiogram, true mask": cine.truth.masks[frame]}
        if segmenter is not None:
            given["angiogram, predicted map"] = segmenter(eight_bits(cine))
        for name, levels in given.items():
            errors = found.setdefault(name, Errors())
            start = time.process_time()
            result = measure_arteries(levels, narrowings=True)
            seconds.append(time.process_time() - start)
            collect(errors, result, course, diameter)
            errors.others += len(result.narrowings)
            for stenosis in cine.stenoses:
                line = lines[branch_label(cine.tree, stenosis.branch)]
                place = line.points_px[frame, stenosis.point, ::-1]
                if ((place >= 0) & (place < SIZE)).all():
                    true_px = float(line.diameter_px[frame, stenosis.point])
                    errors.others -= collect_stenosis(errors, result, place, true_px, stenosis.percent)
    return found, seconds


def expert_masks(folder: Path) -> None:
    """Print how many candidates there are on masks of people, and how many of them lie near an end."""
    counts, seconds, near_ends, near_skeleton_ends, percents = [], [], [], [], []
    for path in sorted(folder.glob("*.png")):
        mask = np.asarray(Image.open(path).convert("L")) > 0
        start = time.process_time()
        result = measure_arteries(mask, narrowings=True)
        seconds.append(time.process_time() - start)
        skeleton = skeletonize(mask)
        neighbours = convolve(skeleton.astype(int), np.ones((3, 3), int), mode="constant")
        skeleton_ends = np.argwhere(skeleton & (neighbours == 2))
        ends = [
            point
            for segment in result.segments
            for point, kind in zip(segment.points[[0, -1]], (segment.starts_at, segment.ends_at), strict=True)
            if kind in ("end", "border")
        ]
        counts.append(len(result.narrowings))
        for narrowing in result.narrowings:
            place = (narrowing.row, narrowing.column)
            near_ends.append(_is_near(place, np.array(ends)))
            near_skeleton_ends.append(_is_near(place, skeleton_ends))
            percents.append(narrowing.percent)
    if not counts:
        raise SystemExit(f"no PNG masks in {folder}")
    print(
        f"\n{len(counts)} expert masks, {1000 * statistics.median(seconds):.0f} ms of processor time a frame (median)"
    )
    quantiles = np.percentile(counts, [50, 90, 100])
    print(f"  candidates a frame: mean {np.mean(counts):.2f}, median, 90th percentile and most {quantiles}")
    if percents:
        print(f"  percent: quartiles {np.round(np.percentile(percents, [25, 50, 75]), 1)}, most {max(percents):.0f}")
        print(f"  within {END_PX:g} px of an end of a vessel or the border: {100 * np.mean(near_ends):.1f}%")
        print(f"  within {END_PX:g} px of any end of the mask's raw skeleton: {100 * np.mean(near_skeleton_ends):.1f}%")


def _is_near(place: tuple[float, float], points: np.ndarray) -> bool:
    return bool(len(points)) and bool(np.linalg.norm(points - place, axis=1).min() < END_PX)


def draw_bland_altman(name: str, errors: Errors, path: Path) -> None:
    figure = Figure(figsize=(13.5, 3.8), layout="constrained")
    found = np.array(errors.narrowings).reshape(-1, 4)
    pairs = {
        "diameter (px)": np.concatenate(errors.diameters_px),
        "minimum diameter (px)": found[:, :2],
        "narrowing (percent)": found[:, 2:],
    }
    for axes, (title, values) in zip(figure.subplots(1, 3), pairs.items(), strict=True):
        agreement = bland_altman(values[:, 0], values[:, 1])
        shown = values[:: max(len(values) // 4000, 1)]
        axes.plot(shown.mean(axis=1), shown[:, 0] - shown[:, 1], ".", color="#0072B2", markersize=3, alpha=0.4)
        for height in (agreement.mean_difference, agreement.lower_limit, agreement.upper_limit):
            axes.axhline(
                height, color="black", linewidth=0.8, linestyle="-" if height == agreement.mean_difference else "--"
            )
        axes.set(xlabel=f"mean of measured and true {title}", ylabel="measured - true", title=f"{agreement.n} pairs")
    figure.suptitle(f"{name}: bias and 95% limits of agreement")
    figure.savefig(path, dpi=120, metadata={"Software": None})  # a package may hold no PNG with texts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, default=8, help="synthetic angiograms, one of each (default: 8)")
    parser.add_argument("--weights", type=Path, help="trained model.safetensors: also predicted maps")
    parser.add_argument("--masks", type=Path, help="folder of PNG masks drawn by people: also those (no truth)")
    parser.add_argument("--output", type=Path, help="folder for Bland-Altman plots")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    segmenter = None if arguments.weights is None else Segmenter(arguments.weights)
    rows = {f"phantom, {name}": errors for name, errors in phantoms().items()}
    drawn, seconds = angiograms(arguments.patients, segmenter)
    rows |= drawn
    print(LEGEND)
    print(HEADER)
    for name, errors in rows.items():
        print(errors.row(name))
    print(f"{1000 * statistics.median(seconds):.0f} ms of processor time a frame of {SIZE}x{SIZE} (median, one thread)")
    if arguments.masks is not None:
        expert_masks(arguments.masks)
    if arguments.output is not None:
        arguments.output.mkdir(parents=True, exist_ok=True)
        for name, errors in rows.items():
            draw_bland_altman(name, errors, arguments.output / f"{name.replace(', ', '_').replace(' ', '_')}.png")


if __name__ == "__main__":
    main()
