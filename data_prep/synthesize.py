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

With --cine it makes angiography runs instead, for trying `data_prep dicom` and what follows without a patient's data:
OUTPUT/dicom/PATIENT/RUN.dcm (multi-frame XA), OUTPUT/masks/RUN.nii.gz (uint8, (column, row, frame), 1 where an artery
is filled), OUTPUT/truth/RUN.json (centrelines with diameters in mm, stenoses, filling and contraction of every frame, R
waves, spacing) and OUTPUT/cines.json, which lists them. --patients and --runs-per-patient say how many, --frames how
long each run is. All runs of a patient show one artery tree from several angles, by one of five made-up X-ray systems
(8 or 12 bits, LIN, LOG or DISP); about one run in eight has no contrast agent. The bytes of a run depend on --seed, its
patient, its number, --frames and --size.
"""

import argparse
import io
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cmunet_monai.files.atomic import atomic_path
from data_prep.datalist import Row, datalist_text, write_datalist
from data_prep.synthetic import synthesize_frame
from data_prep.synthetic.cine_files import CineSettings, write_cines
from data_prep.synthetic.folder import check_folder
from data_prep.synthetic.options import add_scene_arguments, check_scene_arguments
from data_prep.synthetic.xa_file import TRANSFER_SYNTAX_NAMES
from data_prep.workers import each

TEST_PATIENT_CYCLE = 5
_FRAME_OPTIONS = ("frames_per_patient", "round_corners")
_CINE_OPTIONS = ("patients", "runs_per_patient", "transfer_syntax")
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
        if self.frames_per_patient < 1:
            raise ValueError(f"--frames-per-patient must be 1 or more, got {self.frames_per_patient}")

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
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="the dataset folder to write")
    parser.add_argument("--cine", action="store_true", help="make angiography runs as DICOM, not single frames")
    parser.add_argument(
        "--frames",
        type=int,
        default=64,
        metavar="N",
        help="number of frames in all, or with --cine in each run (default: 64)",
    )
    parser.add_argument(
        "--frames-per-patient", type=int, metavar="N", help="frames (views) of each patient (default: 4)"
    )
    parser.add_argument("--patients", type=int, metavar="N", help="with --cine: number of patients (default: 4)")
    parser.add_argument(
        "--runs-per-patient",
        type=int,
        metavar="N",
        help="with --cine: number of runs (views) of each patient (default: 2)",
    )
    parser.add_argument(
        "--transfer-syntax",
        choices=tuple(TRANSFER_SYNTAX_NAMES),
        help="with --cine: how the DICOM files are stored; the jpeg ones need imagecodecs (default: explicit)",
    )
    parser.add_argument(
        "--round-corners",
        choices=tuple(_ROUND_CORNERS),
        help="dark corners of a round image intensifier: as the X-ray systems have them (mixed, the default), on all "
        "frames, on none; not with --cine",
    )
    add_scene_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Write the data set, its list last, and print the counts.

    Raises:
        ValueError: a bad argument, or `--output` holds another data set.
    """
    for name in _FRAME_OPTIONS if args.cine else _CINE_OPTIONS:
        if getattr(args, name) is not None:
            flag = f"--{name.replace('_', '-')}"
            raise ValueError(f"{flag} cannot be given with --cine" if args.cine else f"{flag} needs --cine")
    check_scene_arguments(args)
    if args.cine:
        _run_cines(args)
    else:
        _run_frames(args)


def _run_cines(args: argparse.Namespace) -> None:
    settings = CineSettings(
        patients=4 if args.patients is None else args.patients,
        runs_per_patient=2 if args.runs_per_patient is None else args.runs_per_patient,
        frames=args.frames,
        size=args.size,
        seed=args.seed,
        min_calibre_mm=args.min_calibre_mm,
        transfer_syntax="explicit" if args.transfer_syntax is None else args.transfer_syntax,
    )
    listing = write_cines(args.output, settings, workers=args.workers)
    runs = settings.patients * settings.runs_per_patient
    print(f"{runs} runs of {settings.frames} frames of {settings.patients} patients")
    print(f"written to {listing}")


def _run_frames(args: argparse.Namespace) -> None:
    settings = Settings(
        args.frames,
        args.size,
        args.seed,
        4 if args.frames_per_patient is None else args.frames_per_patient,
        args.min_calibre_mm,
        "mixed" if args.round_corners is None else args.round_corners,
    )
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
    files = [name for row in rows for name in (row.image, row.label) if name is not None]
    check_folder(
        args.output, [*files, "datalist.json"], listing="datalist.json", key="synthesize", settings=asdict(settings)
    )
    if datalist_path.is_file() and datalist_path.read_text(encoding="utf-8") != datalist_text(lists, header):
        datalist_path.unlink()

    write = partial(_write_frame, args.output, settings)
    chunk = settings.frames_per_patient  # a patient's trees are grown once a process
    each(write, range(settings.frames), workers=args.workers, title="synthesizing", unit="frame", chunk=chunk)
    write_datalist(datalist_path, lists, header)
    for name, listed in lists.items():
        print(f"{name:12} {len(listed):5} frames of {len({row.patient_id for row in listed})} patients")
    print(f"written to {datalist_path}")


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
