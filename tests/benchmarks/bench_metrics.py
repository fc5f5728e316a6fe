"""Time of all metrics of a pair of 512x512 masks: the plain scikit-image and KD-tree way beside this package's.

    python tests/benchmarks/bench_metrics.py

Masks are synthetic trees of tapering branches; the prediction is the reference moved by two pixels, with ragged walls,
a part missing and a part too many. Both ways run in turn on the same masks, and their values are compared. "Each metric
by itself" finds skeletons and contours anew for every metric, as single functions do; "skeletons and contours shared"
is the best that plain code does without changing how a value is found.
"""

import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from monai.metrics import compute_dice, compute_iou
from scipy.spatial import KDTree
from skimage.draw import disk, line
from skimage.measure import find_contours
from skimage.morphology import skeletonize

from cmunet_monai.metrics import compute_all

SIZE = 512
SEEDS = (0, 1, 2)
REPEATS = 11
NAMES = (
    "dice",
    "iou",
    "cl_dice",
    "modified_hausdorff",
    "diameter_pred",
    "diameter_ref",
    "pointwise_diameter_error",
    "unmatched_share",
)


def tree(rng: np.random.Generator, branches: int = 9) -> np.ndarray:
    """A branching tree of vessels that taper from 13 to 3 pixels and fill about 4% of the frame, (SIZE, SIZE) bool."""
    mask = np.zeros((SIZE, SIZE), dtype=bool)
    courses = [(np.array((90.0, 120.0)), 0.8, 6.5)]
    for _ in range(branches):
        start, angle, radius = courses.pop(0)
        end = np.clip(start + rng.uniform(90, 150) * np.array((np.sin(angle), np.cos(angle))), 15, SIZE - 16)
        thinner = max(radius * 0.75, 1.5)
        rows, columns = line(*start.astype(int), *end.astype(int))
        for row, column, local in zip(rows, columns, np.linspace(radius, thinner, len(rows)), strict=True):
            mask[disk((row, column), local, shape=mask.shape)] = True
        courses += [(end, angle + turn, thinner) for turn in (-rng.uniform(0.3, 0.8), rng.uniform(0.3, 0.8))]
    return mask


def masks(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Prediction and reference."""
    rng = np.random.default_rng(seed)
    y = tree(rng)
    y_pred = np.roll(y, (2, 0), axis=(0, 1)) & (rng.random(y.shape) < 0.995)
    y_pred[:, :130] = False
    return y_pred | (tree(rng) & (np.arange(SIZE) > 350)), y


def contour_points(mask: np.ndarray) -> np.ndarray:
    """Points of all contours at level 0.5, without the repeated first point that closes one."""
    contours = find_contours(mask.astype(float), 0.5)
    return np.concatenate([c[:-1] if (c[0] == c[-1]).all() else c for c in contours])


def cleared(mask: np.ndarray) -> np.ndarray:
    mask = mask.copy()
    mask[[0, -1]] = mask[:, [0, -1]] = False
    return mask


def plain_values(y_pred: np.ndarray, y: np.ndarray, *, shared: bool) -> dict[str, float]:
    """The metrics with scikit-image and KD-trees on whole frames; `shared` keeps skeletons and contours."""
    kept: dict[tuple[str, int], np.ndarray] = {}

    def once(function: Callable[[np.ndarray], np.ndarray], mask: np.ndarray, name: int) -> np.ndarray:
        if not shared:
            return function(mask)
        return kept.setdefault(key, function(mask)) if (key := (function.__name__, name)) not in kept else kept[key]

    y_pred_tensor, y_tensor = torch.from_numpy(y_pred)[None, None], torch.from_numpy(y)[None, None]
    skeleton_pred, skeleton_ref = once(skeletonize, y_pred, 0), once(skeletonize, y, 1)
    precision, sensitivity = y[skeleton_pred].mean(), y_pred[skeleton_ref].mean()

    contour_pred, contour_ref = once(contour_points, y_pred, 0), once(contour_points, y, 1)
    to_ref = KDTree(contour_ref).query(contour_pred)[0].mean()
    to_pred = KDTree(contour_pred).query(contour_ref)[0].mean()

    def skeleton_and_diameters(mask: np.ndarray, name: int) -> tuple[np.ndarray, np.ndarray]:
        inner = cleared(mask)  # the trees of this script touch no border, so that clearing changes nothing
        points = np.argwhere(once(skeletonize, inner, name))
        return points, 2 * KDTree(once(contour_points, inner, name)).query(points)[0]

    diameters_pred, diameters_ref = skeleton_and_diameters(y_pred, 0)[1], skeleton_and_diameters(y, 1)[1]

    points_pred, local_pred = skeleton_and_diameters(y_pred, 0)
    points_ref, local_ref = skeleton_and_diameters(y, 1)
    distances, indices = KDTree(points_pred).query(points_ref, k=8)
    tied = distances == distances[:, :1]
    matched = distances[:, 0] <= np.maximum(local_ref / 2, 1.5)
    matched_pred = (local_pred[indices] * tied).sum(axis=1) / tied.sum(axis=1)
    values = (
        compute_dice(y_pred_tensor, y_tensor).item(),
        compute_iou(y_pred_tensor, y_tensor).item(),
        2 * precision * sensitivity / (precision + sensitivity),
        max(to_ref, to_pred),
        diameters_pred.mean(),
        diameters_ref.mean(),
        np.abs(matched_pred - local_ref)[matched].mean(),
        1 - matched.mean(),
    )
    return dict(zip(NAMES, map(float, values), strict=True))


def our_values(y_pred: np.ndarray, y: np.ndarray) -> dict[str, float]:
    result = compute_all(torch.from_numpy(y_pred)[None, None], torch.from_numpy(y)[None, None])
    return {name: getattr(result, name).item() for name in NAMES}


WAYS: dict[str, Callable[[np.ndarray, np.ndarray], dict[str, float]]] = {
    "plain, each metric by itself": lambda y_pred, y: plain_values(y_pred, y, shared=False),
    "plain, skeletons and contours shared": lambda y_pred, y: plain_values(y_pred, y, shared=True),
    "cmunet_monai.metrics.compute_all": our_values,
}


def compare(pairs: list[tuple[np.ndarray, np.ndarray]], repeats: int = REPEATS) -> None:
    """Print the median times of all ways, in turn on the same pairs, and the largest difference of their values."""
    seconds: dict[str, list[float]] = {name: [] for name in WAYS}
    largest = dict.fromkeys(NAMES, 0.0)
    for y_pred, y in pairs:
        for repeat in range(repeats + 1):
            values = []
            for name, way in WAYS.items():
                start = time.perf_counter()
                values.append(way(y_pred, y))
                if repeat:  # the first round warms up
                    seconds[name].append(time.perf_counter() - start)
        for name in NAMES:
            largest[name] = max(largest[name], *(abs(other[name] - values[-1][name]) for other in values[:-1]))
    median = {name: statistics.median(times) for name, times in seconds.items()}
    ours = list(median.values())[-1]
    print(f"all metrics of a pair, median of {len(pairs)} pairs x {repeats} repeats")
    for name, time_s in median.items():
        print(f"  {name:40s} {1000 * time_s:7.1f} ms   ours takes {ours / time_s:4.2f} of it")
    print("largest difference between the values (float32 results against float64):")
    for name, difference in largest.items():
        print(f"  {name:40s} {difference:.1e}")


def main() -> None:
    torch.set_num_threads(1)
    pairs = [masks(seed) for seed in SEEDS]
    shares = ", ".join(f"{100 * y.mean():.1f}%" for _, y in pairs)
    print(f"{len(pairs)} pairs of {SIZE}x{SIZE} masks, vessels fill {shares} of the reference")
    compare(pairs)


if __name__ == "__main__":
    main()
