"""Draw the pictures in docs/images from synthetic angiograms: `python docs/pictures.py`, from a checkout, in a minute.

`overlay.gif` is what `cmunet predict` makes of a synthetic cine. `methods/NAME.png` shows what a pre-training method
gives the network, and what it asks for: the training samples that the bundle's own configs draw.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from cmunet_monai.bundle import config_parser
from cmunet_monai.methods.base import hide
from cmunet_monai.writers.overlay import OUTLINE

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs" / "images"
CONFIGS = ROOT / "bundles" / "coronary_xa_pretraining" / "configs"
PATCH_SIZE = 16
SIDE, GAP = 192, 4


def main() -> None:
    (IMAGES / "methods").mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        draw_overlay(folder)
        draw_methods(folder)


def draw_overlay(folder: Path) -> None:
    """Arteries found in a synthetic cine, every frame in which the tree is filled."""
    cine = ("--cine", "--patients", "1", "--runs-per-patient", "1", "--frames", "24", "--size", "384", "--seed", "3")
    make("data_prep", "synthesize", *cine, "--output", folder / "export")
    (run,) = (folder / "export" / "dicom").rglob("*.dcm")
    make("cmunet_monai", "predict", "-i", run, "-o", folder / "results", "--frames", "all")
    paths = sorted((folder / "results" / "overlays").glob("*.png"))[3:17]
    frames = [Image.open(path).convert("RGB").resize((373, 384), Image.Resampling.LANCZOS) for path in paths]
    frames = frames[8:] + frames[:8]  # where nothing moves, a filled tree is shown
    greys = np.linspace(0, 255, 40)[:, None].repeat(3, axis=1)
    outlines = np.linspace(0.2, 1, 16)[:, None] * [OUTLINE]  # few colours, but those of the outline among them
    palette = Image.new("P", (1, 1))
    palette.putpalette(np.concatenate([greys, outlines]).round().astype(np.uint8).tobytes())
    first, *others = (frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames)
    first.save(IMAGES / "overlay.gif", save_all=True, append_images=others, duration=130, loop=0, optimize=True)


def draw_methods(folder: Path) -> None:
    """A row of pictures for each method, from one synthetic frame."""
    frames = ("--frames", "4", "--frames-per-patient", "1", "--size", "256", "--seed", "5")
    make("data_prep", "synthesize", *frames, "--output", folder / "data")
    make("data_prep", "trees", "--trees", "8", "--size", "256", "--seed", "1", "--output", folder / "trees")
    row = json.loads((folder / "data" / "datalist.json").read_text())["training"][-1]
    (folder / "unlabelled.json").write_text(json.dumps({"pretraining": [{"id": row["id"], "image": row["image"]}]}))

    views = sample(folder)
    save("cm_unet", views["view_a"], hidden(views["view_a"], views["mask"]), views["view_b"])
    views = sample(folder, "mae")
    save("mae", views["image"], hidden(views["image"], views["mask"]))
    views = sample(folder, "moco_v2")
    save("moco_v2", views["view_a"], views["view_b"])
    views = sample(folder, "models_genesis")
    save("models_genesis", views["distorted"], views["image"])
    views = sample(folder, "vaso_mim")
    save("vaso_mim", views["image"], views["prior"])
    views = sample(folder, "vessel_prior")
    save("vessel_prior", hidden(views["image"], views["mask"]), views["prior"])
    views = sample(folder, "painted_arteries", synthetic_share=0.0)
    save("painted_arteries", views["image"], views["label"])


def sample(folder: Path, method: str | None = None, **options: float) -> Mapping[str, torch.Tensor]:
    """The first training sample of a method; each tensor is (1, H, W)."""
    overlays = [CONFIGS / "methods" / f"{method}.json"] if method else []
    places = {
        "bundle_root": str(CONFIGS.parent),
        "dataset_dir": str(folder / "data"),
        "datalist": str(folder / "unlabelled.json"),
        "output_dir": str(folder / "run"),
        "bank_dir": str(folder / "trees"),
    }
    parser = config_parser([CONFIGS / "train.json", CONFIGS / "compact.json", *overlays], places | options)
    return parser.get_parsed_content("train#dataset")[0]


def hidden(image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The image with its hidden patches at 0, as the network sees it."""
    return hide(image[None], mask[None], PATCH_SIZE)[0]


def save(name: str, *pictures: torch.Tensor) -> None:
    """Write pictures side by side, each stretched to its own range."""
    parts = []
    for view in pictures:
        values = np.asarray(view[0], dtype=np.float32)
        low, high = np.percentile(values, (0.5, 99.5))
        grey = 255 * np.clip((values - low) / max(high - low, 1e-6), 0, 1)
        picture = Image.fromarray(grey.round().astype(np.uint8)).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        parts += [np.pad(np.asarray(picture), GAP, constant_values=255)]
    Image.fromarray(np.concatenate(parts, axis=1)).save(IMAGES / "methods" / f"{name}.png")


def make(module: str, *words: str | Path) -> None:
    """Run a command of this project."""
    subprocess.run([sys.executable, "-m", module, *map(str, words)], cwd=ROOT, check=True)


if __name__ == "__main__":
    main()
