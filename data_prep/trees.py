"""Project synthetic coronary trees once, for the pre-training method that paints them into unlabelled angiograms.

Writes OUTPUT/trees/*.npz and OUTPUT/trees.json, which lists them. A file holds four maps, (row, column):
  agent_mm  float16  length of each ray in contrast agent: arteries, catheter, reflux
  devices   float16  attenuation of sheaths, leads, wires and collimator edges, as the exponent of Beer-Lambert's law
  mask      uint8    1 where the pixel's centre lies inside a projected artery of at least --min-calibre-mm, else 0
  frame     uint8    a wholly synthetic angiogram of the same tree, without these devices

Each tree is another patient, in one view. A file depends on --seed, its number, --size and --min-calibre-mm, not on how
many are asked for. An interrupted command goes on when it is given again.
"""

import argparse
import json
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np

from cmunet_monai.files.atomic import atomic_path, write_text_atomic
from data_prep.synthetic import synthesize_frame
from data_prep.synthetic.devices import draw_devices
from data_prep.synthetic.folder import check_folder
from data_prep.synthetic.options import add_scene_arguments, check_scene_arguments
from data_prep.workers import each

LISTING = "trees.json"
_DEVICE_STREAM = 1_000_037  # keeps the devices' random numbers apart from those of frames and runs


@dataclass(frozen=True)
class Settings:
    """What determines every byte of the bank."""

    trees: int
    size: int
    seed: int
    min_calibre_mm: float

    def file(self, index: int) -> str:
        """The file of a tree, relative to the bank's folder."""
        return f"trees/tree_{self.seed}_{index:05d}.npz"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's options."""
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="the folder of the bank")
    parser.add_argument(
        "--trees", type=int, default=2000, metavar="N", help="how many (default: 2000, about 150 MB at 256 px)"
    )
    add_scene_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Project the trees that are not there yet, and write the list last.

    Raises:
        ValueError: a bad argument, or `--output` holds another data set.
    """
    check_scene_arguments(args)
    if args.trees < 1:
        raise ValueError(f"--trees must be 1 or more, got {args.trees}")
    settings = Settings(args.trees, args.size, args.seed, args.min_calibre_mm)
    files = [settings.file(index) for index in range(settings.trees)]
    check_folder(args.output, [*files, LISTING], listing=LISTING, key="settings", settings=asdict(settings))
    missing = [index for index, name in enumerate(files) if not (args.output / name).is_file()]
    each(partial(_write, args.output, settings), missing, workers=args.workers, title="projecting", unit="tree")
    write_text_atomic(
        args.output / LISTING, json.dumps({"settings": asdict(settings), "trees": files}, indent=1) + "\n"
    )
    print(f"{settings.trees} trees, {len(missing)} of them new, in {args.output}")


def _write(output: Path, settings: Settings, index: int) -> None:
    frame = synthesize_frame(
        settings.seed,
        index,
        0,
        size=settings.size,
        min_calibre_mm=settings.min_calibre_mm,
        round_corners=False,  # frames lose them before they reach the network
    )
    devices = draw_devices(np.random.default_rng([settings.seed, index, _DEVICE_STREAM]), frame.view)
    with atomic_path(output / settings.file(index)) as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file,
            agent_mm=frame.agent_mm.astype(np.float16),
            devices=devices.astype(np.float16),
            mask=frame.mask // np.uint8(255),
            frame=frame.image,
        )
