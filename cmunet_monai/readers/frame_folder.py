"""The frames of a folder, as rows of a data list."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from cmunet_monai.pseudonyms import Pseudonyms, write_map
from cmunet_monai.readers.frame_choice import Frames, check_frames, choose_frames
from cmunet_monai.readers.xa_errors import XAReadError
from cmunet_monai.readers.xa_identity import read_identity
from cmunet_monai.readers.xa_polarity import contrast_may_be_bright
from cmunet_monai.readers.xa_run import XARun, read_frames, read_run
from cmunet_monai.readers.xa_spacing import check_spacing

logger = logging.getLogger(__name__)

SUFFIXES = (".png", ".nii", ".nii.gz")


def find_frames(
    folder: str | os.PathLike[str], *, leave_out: str | os.PathLike[str] | None = None
) -> tuple[list[Path], list[Path]]:
    """PNG and NIfTI files, and DICOM files, in a folder and the folders below it, each sorted by path.

    Args:
        folder: where the frames are. Hidden files and folders are passed over, and so are zip archives and what lies
            behind links to folders. A DICOM file may have any name; without the preamble of PS3.10 it counts as none.
        leave_out: a folder whose files are no frames, such as the output folder of an earlier run in the same place.
    Raises:
        FileNotFoundError: if there is no such folder, or nothing in it that could be a frame.
        ValueError: if the folder lies in the one that is left out.
    """
    root = Path(folder)
    if not root.is_dir():
        raise FileNotFoundError(f"no folder at {root}")
    left_out = Path(leave_out).resolve() if leave_out is not None else None
    if left_out is not None and root.resolve().is_relative_to(left_out):
        raise ValueError(f"the frames in {root} lie in the output folder {leave_out}: choose another output folder")
    pictures, runs, others = [], [], 0
    for path in sorted(root.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
        if hidden or not path.is_file() or (left_out is not None and path.resolve().is_relative_to(left_out)):
            continue
        if path.name.lower().endswith(SUFFIXES):
            pictures.append(path)
        elif _is_dicom(path):
            runs.append(path)
        else:
            others += 1
    if not pictures and not runs:
        raise FileNotFoundError(f"no frame ({', '.join(SUFFIXES)}, DICOM) in {root}, which holds {others} other files")
    logger.info("%s: %d frames, %d DICOM files, %d others passed over", root, len(pictures), len(runs), others)
    return pictures, runs


def list_frames(
    folder: str | os.PathLike[str],
    *,
    leave_out: str | os.PathLike[str] | None = None,
    frames: Frames | int = "fullest",
    require_xa: bool = True,
    spacing_mm: float | None = None,
    key: str | os.PathLike[str] | None = None,
) -> list[dict[str, Any]]:
    """A row for every frame of a folder: PNG and NIfTI files, and the chosen frames of XA DICOM files.

    DICOM is named by the pseudonym of its run, as `data_prep dicom` names it with the same key, in rows and in the log;
    whom it stands for is written beside the key. A DICOM file that gives no frame is passed over and logged: another
    SOP class, a damaged file, no filled coronary tree. A run that is subtracted, looks inverted or declares burned-in
    text is taken, with a warning. Where the best frame is asked for, each run is decoded once.

    Args:
        folder: as of `find_frames`.
        leave_out: as of `find_frames`.
        frames: of a DICOM file: `fullest`, `measure`, `all`, or numbers from 0.
        require_xa: take X-Ray Angiographic and Enhanced XA objects only.
        spacing_mm: size of a pixel at the patient, for DICOM files that do not know it.
        key: file of the secret key of the pseudonyms, made where there is none; needed where there is DICOM.
    Returns:
        Rows `{"id": path relative to the folder, "image": path}` of PNG and NIfTI files, and of DICOM
        `{"id": <run>_<frame>, "image": path, "frame_index": number from 0, "spacing_mm", "spacing_source"}`.
    Raises:
        FileNotFoundError: if there is no such folder, or no frame in it.
        ValueError: if an option cannot be, the key is missing or lies in `leave_out`, or as by `find_frames`.
    """
    which = check_frames(frames)
    check_spacing(spacing_mm)
    pictures, files = find_frames(folder, leave_out=leave_out)
    rows: list[dict[str, Any]] = [{"id": path.relative_to(folder).as_posix(), "image": str(path)} for path in pictures]
    if files:
        if key is None:
            raise ValueError(f"{folder} holds {len(files)} DICOM files: `key` must name a file for their secret")
        pseudonyms = Pseudonyms.open(key, output=leave_out if leave_out is not None else folder)
        rows += _run_rows(files, Path(folder), pseudonyms, which, require_xa=require_xa, spacing_mm=spacing_mm)
    if not rows:
        raise FileNotFoundError(f"no frame in {folder}: its {len(files)} DICOM files were passed over, see the log")
    return rows


def _run_rows(
    files: list[Path], root: Path, pseudonyms: Pseudonyms, frames: Frames, *, require_xa: bool, spacing_mm: float | None
) -> Iterator[dict[str, Any]]:
    originals: dict[str, str] = {}
    for path in tqdm(files, desc="choosing frames", unit="file", disable=None):
        place = path.relative_to(root).as_posix()
        file = pseudonyms.source(place)
        originals[file] = str(path)
        try:
            run = read_run(path, require_xa=require_xa, spacing_mm=spacing_mm)
            with path.open("rb") as stream:
                uid = read_identity(stream).sop_instance_uid
            name = pseudonyms.run(uid or place)
            if name in originals:
                logger.warning("%s passed over: it is run %s again", file, name)
                continue
            chosen = choose_frames(path, run, frames, require_xa=require_xa)
            readable = [index for index in chosen if _is_readable(path, index, name, run, require_xa=require_xa)]
            for concern in _concerns(path, run, require_xa=require_xa):
                logger.warning("%s %s", name, concern)
        except XAReadError as error:
            logger.warning("%s passed over: %s", file, error)
            continue
        except OSError as error:  # its text holds the path
            logger.warning("%s passed over: it cannot be read (%s)", file, type(error).__name__)
            continue
        if readable:
            originals[name] = uid or str(path)  # a damaged copy does not stand for a whole one
        for index in readable:
            spacing = run.frame_spacing[index] if run.frame_spacing else run.spacing
            yield {
                "id": f"{name}_{index:04d}",
                "image": str(path),
                "frame_index": index,
                "spacing_mm": spacing.value_mm,
                "spacing_source": spacing.source,
            }
    write_map(pseudonyms, originals)


def _is_readable(path: Path, index: int, name: str, run: XARun, *, require_xa: bool) -> bool:
    """Whether a frame is there and can be decoded; logged if not."""
    if index >= run.frames:
        logger.warning("%s: there is no frame %d, it has %d", name, index, run.frames)
        return False
    try:
        next(read_frames(path, [index], require_xa=require_xa, windowed=False))
    except XAReadError as error:
        logger.warning("%s: frame %d passed over: %s", name, index, error)
        return False
    return True


def _concerns(path: Path, run: XARun, *, require_xa: bool) -> Iterator[str]:
    """Why the mask of a run may be nonsense, or its picture show more than the frame."""
    if run.subtracted:
        yield "is subtracted (DSA): its masks mean little"
    if run.burned_in_annotation:
        yield "declares burned-in annotations: overlays show them"
    numbers = sorted({round(share * (run.frames - 1) / 7) for share in range(8)})
    sample = np.stack(list(read_frames(path, numbers, require_xa=require_xa, windowed=False)))
    if contrast_may_be_bright(sample):
        yield "looks as if its contrast were bright, not dark: its masks mean little then"


def _is_dicom(path: Path) -> bool:
    """Whether the four letters behind the preamble say so (PS3.10, section 7.1)."""
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return True  # is looked into under its pseudonym, and logged there
