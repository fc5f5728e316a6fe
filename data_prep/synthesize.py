"""Make synthetic coronary angiograms with exact masks, for tests, demonstrations and pre-training without real data.

Writes OUTPUT/images/*.png and OUTPUT/labels/*.png (8 bits, 0 and 255) and OUTPUT/datalist.json with the lists
`training` and `test`; every fifth patient, from the second on, is in `test`. Each patient has a heart, a left and a
right coronary artery and one X-ray system, and is seen in several views (--frames-per-patient).

A frame depends on --seed, its patient and its number within the patient, not on how many frames are asked for: the same
command writes the same bytes (with the same numpy, OpenCV and Pillow on the same kind of processor), and a longer data
set begins with the shorter one.

A mask is 255 where the pixel's centre lies inside a projected artery. The picture shows all arteries; the mask, like
that of a person who annotates, leaves out what is thinner than --min-calibre-mm (0 marks everything). The catheter, the
aortic root and wires are never in the mask. No millimetres are given with the frames (`spacing_mm` is null).
"""

import argparse
import io
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from cmunet_monai.atomic import atomic_path
from data_prep.datalist import Row, datalist_text, read_json_object, write_datalist
from data_prep.synthetic import DEFAULT_MIN_CALIBRE_MM, synthesize_frame

MIN_SIZE_PX, MAX_SIZE_PX = 64, 2048
TEST_PATIENT_CYCLE = 5
_ROUND_CORNERS = {"mixed": None, "all": True, "none": False}


@dataclass(frozen=True)
class Settings:
    """What determines every byte of the data set."""

    frames: int
    size: int
    seed: int
    frames_per_patient: int
    min_calibre_mm: float
    round_corners: str

    def __post_init__(self) -> None:
        if self.frames < 1:
            raise ValueError(f"--frames must be 1 or more, got {self.frames}")
        if not MIN_SIZE_PX <= self.size <= MAX_SIZE_PX:
            raise ValueError(f"--size must be {MIN_SIZE_PX} to {MAX_SIZE_PX} pixels, got {self.size}")
        if self.seed < 0:
            raise ValueError(f"--seed must be 0 or more, got {self.seed}")
        if self.frames_per_patient < 1:
            raise ValueError(f"--frames-per-patient must be 1 or more, got {self.frames_per_patient}")
        if not 0 <= self.min_calibre_mm <= 3:
            raise ValueError(f"--min-calibre-mm must be 0 to 3 (then only trunks are left), got {self.min_calibre_mm}")

    def place(self, index: int) -> tuple[int, int]:
        """Patient and frame within the patient of the data set's `index`-th frame."""
        return divmod(index, self.frames_per_patient)

    def row(self, index: int) -> Row:
        """The datalist row of the data set's `index`-th frame."""
        patient, frame = self.place(index)
        patient_id = f"synthetic_{self.seed}_{patient:05d}"
        row_id = f"{patient_id}_{frame:03d}"
        return Row(id=row_id, image=f"images/{row_id}.png", label=f"labels/{row_id}.png", patient_id=patient_id)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's options."""
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="the dataset folder to write")
    parser.add_argument("--frames", type=int, default=64, help="how many frames (default: 64)")
    parser.add_argument("--size", type=int, default=256, help="width and height in pixels (default: 256)")
    parser.add_argument("--seed", type=int, default=0, help="names the data set (default: 0)")
    parser.add_argument("--frames-per-patient", type=int, default=4, metavar="N", help="views of one (default: 4)")
    parser.add_argument(
        "--min-calibre-mm",
        type=float,
        default=DEFAULT_MIN_CALIBRE_MM,
        metavar="MM",
        help=f"thinner arteries are shown but not marked (default: {DEFAULT_MIN_CALIBRE_MM})",
    )
    parser.add_argument(
        "--round-corners",
        choices=tuple(_ROUND_CORNERS),
        default="mixed",
        help="dark corners of a round image intensifier: as the X-ray systems have them, on all frames, on none",
    )
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes to share the work (default: 1)")


def run(args: argparse.Namespace) -> None:
    """Write frames and masks, then the datalist, and print the counts.

    Raises:
        ValueError: a bad argument, or `--output` holds another data set.
    """
    settings = Settings(
        args.frames, args.size, args.seed, args.frames_per_patient, args.min_calibre_mm, args.round_corners
    )
    if args.workers < 1:
        raise ValueError(f"--workers must be 1 or more, got {args.workers}")
    rows = [settings.row(index) for index in range(settings.frames)]
    lists: dict[str, tuple[Row, ...]] = {"training": (), "test": ()}
    for index, row in enumerate(rows):
        name = "test" if settings.place(index)[0] % TEST_PATIENT_CYCLE == 1 else "training"
        lists[name] += (row,)
    header = {
        "name": "synthetic coronary angiograms",
        "synthesize": asdict(settings),
        "label_values": {"0": "background", "255": "vessel"},
    }
    datalist_path = args.output / "datalist.json"
    _check_output(args.output, rows, header)
    if datalist_path.is_file() and datalist_path.read_text(encoding="utf-8") != datalist_text(lists, header):
        datalist_path.unlink()

    write = partial(_write_frame, args.output, settings)
    progress = partial(tqdm, total=settings.frames, desc="synthesizing", unit="frame", disable=None)
    if args.workers == 1:
        for _ in progress(map(write, range(settings.frames))):
            pass
    else:
        # Not forked: a process forked while OpenCV or torch has threads can hang.
        with ProcessPoolExecutor(args.workers, mp_context=get_context("spawn")) as pool:
            for _ in progress(pool.map(write, range(settings.frames), chunksize=settings.frames_per_patient)):
                pass
    write_datalist(datalist_path, lists, header)
    for name, listed in lists.items():
        print(f"{name:12} {len(listed):5} frames of {len({row.patient_id for row in listed})} patients")
    print(f"written to {datalist_path}")


def _check_output(output: Path, rows: list[Row], header: dict[str, Any]) -> None:
    """Refuse a folder that holds anything but (a part of) the same data set."""
    if output.exists() and not output.is_dir():
        raise ValueError(f"--output {output} is a file: expected a folder")
    datalist_path = output / "datalist.json"
    if datalist_path.is_file():
        found = read_json_object(datalist_path)[0].get("synthesize")
        if found != header["synthesize"]:
            made = "not by this command" if found is None else f"with {found}"
            raise ValueError(
                f"{output} holds another data set, made {made}; now asked for {header['synthesize']}: "
                "give another --output"
            )
    expected = {Path(name) for row in rows for name in (row.image, row.label) if name is not None}
    expected |= {Path("images"), Path("labels"), Path("datalist.json")}
    for path in sorted(output.rglob("*")):
        # An interrupted run leaves frames of this data set and at most some temporary files.
        if path.relative_to(output) not in expected and not path.name.startswith(".tmp-"):
            raise ValueError(f"{output} holds {path}, which this data set does not have: give another --output")


def _write_frame(output: Path, settings: Settings, index: int) -> None:
    row = settings.row(index)
    frame = synthesize_frame(
        settings.seed,
        *settings.place(index),
        size=settings.size,
        min_calibre_mm=settings.min_calibre_mm,
        round_corners=_ROUND_CORNERS[settings.round_corners],
    )
    assert row.label is not None
    for name, pixels in ((row.image, frame.image), (row.label, frame.mask)):
        with atomic_path(output / name) as temporary:
            temporary.write_bytes(_png(pixels))


def _png(pixels: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()
