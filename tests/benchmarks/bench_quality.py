"""How well a bundle's `fitness` of a frame tells filled coronary frames from others: AUROC, and the verdicts given.

    python tests/benchmarks/bench_quality.py [--cines DIR] [--other DIR] [--filled DIR] [--weights FILE] [--tta]

Runs `predict` with the segmentation bundle (its own weights unless others are named) on

- runs: XA DICOM (`--cines`, else synthetic ones). Their filled frames are those in which the filling curve is at least
  80% of its maximum, their pre-contrast frames those before it first reaches 5%;
- filled frames, one a file (`--filled`), which need not be of a run;
- DICOM images that are no coronary angiograms (`--other`);
- natural pictures: those that scikit-image brings, in grey;
- noise: white and blurred, of three kinds.

AUROC is the chance that a filled frame has the higher `fitness`, ties counting half. Reported, never asserted.
"""

import argparse
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import skimage
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter
from scipy.stats import rankdata

from cmunet_monai.prediction import predict
from cmunet_monai.xa.best_frame import filling_curve
from cmunet_monai.xa.run import read_frames
from data_prep.__main__ import main as data_prep

PRE_CONTRAST = 0.05
NOISE_SIZE = 512
Record = dict[str, Any]


def auroc(higher: list[float], lower: list[float]) -> float:
    """The chance that a value of the first list is above one of the second (Mann and Whitney 1947)."""
    ranks = rankdata([*higher, *lower])[: len(higher)]
    return float((ranks.sum() - len(higher) * (len(higher) + 1) / 2) / (len(higher) * len(lower)))


def natural_pictures(folder: Path) -> None:
    for path in sorted((Path(skimage.__file__).parent / "data").iterdir()):
        if path.suffix in (".png", ".jpg"):
            with Image.open(path) as picture:
                grey = picture.convert("L")
                grey.thumbnail((NOISE_SIZE, NOISE_SIZE))
                grey.save(folder / f"{path.stem}.png")


def noise(folder: Path, rng: np.random.Generator) -> None:
    shape = (NOISE_SIZE, NOISE_SIZE)
    kinds = {"gaussian": rng.normal(size=shape), "uniform": rng.random(shape), "poisson": rng.poisson(20, shape)}
    for name, values in kinds.items():
        for sigma in (0, 1, 2, 4, 8, 16, 32):
            blurred = gaussian_filter(values.astype(np.float64), sigma)
            grey = np.clip(128 + 40 * (blurred - blurred.mean()) / blurred.std(), 0, 255)
            Image.fromarray(grey.astype(np.uint8)).save(folder / f"{name}_{sigma}.png")


def contrast_of(file: Path) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """(F,) which frames of a run are filled, and which are before the contrast agent."""
    curve = filling_curve(read_frames(file, windowed=False))
    arrived = np.maximum.accumulate(curve.filling) >= PRE_CONTRAST * curve.filling.max()
    return curve.filled, ~arrived


def run_groups(files: list[Path], output: Path, options: dict[str, Any]) -> dict[str, list[Record]]:
    """Filled and pre-contrast frames of runs."""
    groups: dict[str, list[Record]] = {"filled frames of runs": [], "pre-contrast frames of runs": []}
    for number, file in enumerate(files):
        records = predict(file, output / str(number), frames="all", **options)["records"]
        for name, chosen in zip(groups, contrast_of(file), strict=True):
            groups[name] += [record for record in records if chosen[record["frame_index"]]]
    return groups


def judged(arguments: argparse.Namespace, folder: Path) -> dict[str, list[Record]]:
    """Records of all groups, by name."""
    options: dict[str, Any] = {"overlays": False, "flips": arguments.tta}
    if arguments.weights is not None:
        options["weights"] = [arguments.weights]
    cines = arguments.cines
    if cines is None:
        cines = folder / "synthetic" / "dicom"
        command = "synthesize --cine --patients 2 --runs-per-patient 1 --frames 40 --size 512 --seed 0 --output"
        data_prep([*command.split(), str(folder / "synthetic")])
    files = sorted(path for path in cines.rglob("*.dcm") if path.is_file())
    groups = run_groups(files, folder / "runs", options)
    for name, fill in (
        ("natural pictures", natural_pictures),
        ("noise", lambda to: noise(to, np.random.default_rng(0))),
    ):
        (folder / name).mkdir()
        fill(folder / name)
        groups[name] = predict(folder / name, folder / f"{name} results", **options)["records"]
    for name, given, more in (
        ("filled frames, one a file", arguments.filled, {}),
        ("other DICOM images", arguments.other, {"require_xa": False, "frames": "all"}),
    ):
        if given is not None:
            groups[name] = predict(given, folder / f"{name} results", **options, **more)["records"]
    return groups


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cines", type=Path, metavar="DIR", help="coronary XA runs, *.dcm (default: synthetic ones)")
    parser.add_argument("--other", type=Path, metavar="DIR", help="DICOM images that are no coronary angiograms")
    parser.add_argument("--filled", type=Path, metavar="DIR", help="PNG or NIfTI frames of filled coronaries")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="default: the bundle's own")
    parser.add_argument("--tta", action="store_true", help="with test-time flips")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        groups = judged(arguments, Path(folder))
    groups = {name: records for name, records in groups.items() if records}
    filled = [name for name in groups if name.startswith("filled")]
    print(f"\n{'group':<28} {'frames':>6}  {'fitness: 5%, 50%, 95%':<22} ok, review, refused; reasons")
    for name, records in groups.items():
        low, middle, high = np.percentile([r["quality"]["measures"]["fitness"] for r in records], [5, 50, 95])
        verdicts = Counter(record["quality"]["verdict"] for record in records)
        reasons = Counter(word for record in records for word in record["quality"]["reasons"])
        counts = ", ".join(str(verdicts[word]) for word in ("ok", "review", "refused"))
        words = ", ".join(f"{word} {count}" for word, count in reasons.most_common())
        print(f"{name:<28} {len(records):>6}  {low:.2f}, {middle:.2f}, {high:.2f}       {counts}; {words}")
    print(f"\n{'AUROC of fitness':<28} " + "  ".join(f"{name:>26}" for name in filled))
    for name in groups:
        if name in filled:
            continue
        values = [
            auroc(*([r["quality"]["measures"]["fitness"] for r in groups[group]] for group in (above, name)))
            for above in filled
        ]
        print(f"{name:<28} " + "  ".join(f"{value:>26.3f}" for value in values))


if __name__ == "__main__":
    main()
