"""The frames of a file or folder, as rows of a data list."""

import csv
import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from nibabel.affines import voxel_sizes
from numpy.typing import NDArray
from tqdm import tqdm

from cmunet_monai.files.atomic import write_csv_atomic
from cmunet_monai.files.nifti import known_spacing_mm
from cmunet_monai.files.own_results import MARK, RESEARCH_USE, is_marked
from cmunet_monai.files.walk import NotOpened, walk
from cmunet_monai.pseudonyms import Pseudonyms, write_map
from cmunet_monai.readers.frame_reader import FrameReader
from cmunet_monai.xa.errors import XAReadError
from cmunet_monai.xa.frame_choice import Frames, check_frames, choose_frames
from cmunet_monai.xa.identity import read_identity
from cmunet_monai.xa.run import XARun, read_run, read_sound_frames
from cmunet_monai.xa.spacing import check_spacing, is_oblong

logger = logging.getLogger(__name__)

SUFFIXES = (".png", ".nii", ".nii.gz")
MOST_GREY = 2.0**32
LONGEST_NAME = 230  # of 255 that file systems take: results add to it, and temporary files too


def find_frames(
    source: str | os.PathLike[str], *, leave_out: str | os.PathLike[str] | None = None
) -> tuple[Path, list[Path], list[Path], list[Path]]:
    """PNG and NIfTI files, DICOM files, and what cannot be opened, in a folder and those below it, sorted by path.

    Args:
        source: a folder, or one file. Hidden files and folders are passed over, and so are zip archives, results of
            earlier runs, and links below the folder. A DICOM file may have any name; without the preamble of PS3.10 it
            counts as none.
        leave_out: a folder whose files are no frames.
    Returns:
        The folder, that of the file if there is one; the pictures in it; the DICOM files in it; the folders in it
        that cannot be opened, and links, which are not followed.
    Raises:
        FileNotFoundError: if there is no such file or folder, or nothing in it that could be a frame.
        ValueError: if it is a folder of results, or the frames lie in the folder that is left out.
    """
    root = Path(source)
    if not root.exists():
        raise FileNotFoundError(f"no file or folder at {root}")
    left_out = Path(leave_out).resolve() if leave_out is not None else None
    if left_out is not None and root.resolve().is_relative_to(left_out):
        raise ValueError(f"the frames in {root} lie in {leave_out}, which is left out: choose another output folder")
    files: list[Path] = []
    locked: list[Path] = []
    if root.is_file():
        files, root = [root], root.parent
    else:
        if is_marked(root.resolve()):
            raise ValueError(f"{root} contains results of an earlier run, not frames (see {MARK} beside it)")
        for item in walk(root, leave_out=lambda path: _is_none_of_ours(path, left_out)):
            if isinstance(item, NotOpened):
                locked.append(item.path)
            else:
                files.append(item[1])
    pictures, runs, others = [], [], 0
    for path in files:
        picture = path.name.lower().endswith(SUFFIXES)
        if _is_dicom(path, unreadable=not picture):  # whatever its name, which may be a patient's
            runs.append(path)
        elif picture:
            pictures.append(path)
        else:
            others += 1
    if not pictures and not runs:
        raise FileNotFoundError(
            f"no frame ({', '.join(SUFFIXES)}, DICOM) in {source}, which holds {others} other files"
            + (f" and {len(locked)} folders that cannot be opened" if locked else "")
        )
    logger.info("%d frames, %d DICOM files, %d others passed over", len(pictures), len(runs), others)
    return root, pictures, runs, sorted(locked)


def _is_none_of_ours(path: Path, left_out: Path | None) -> bool:
    """Whether a file or folder is hidden, left out, or results of an earlier run."""
    return path.name.startswith(".") or path.resolve() == left_out or (path.is_dir() and is_marked(path))


def list_frames(
    source: str | os.PathLike[str],
    *,
    leave_out: str | os.PathLike[str] | None = None,
    frames: Frames | int = "fullest",
    require_xa: bool = True,
    spacing_mm: float | None = None,
    key: str | os.PathLike[str] | None = None,
    passed_over: str | os.PathLike[str] | None = None,
) -> list[dict[str, Any]]:
    """A row for every frame of a file or folder: PNG and NIfTI files, and the chosen frames of XA DICOM files.

    DICOM is named by the pseudonym of its run, as `data_prep dicom` names it with the same key, in rows and in the log;
    whom it stands for is written beside the key. A file that gives no frame is passed over and logged: damaged, no
    single grey frame, another SOP class, no filled coronary tree. Where the best frame is asked for, each run is
    decoded once.

    Args:
        source: as of `find_frames`.
        leave_out: the output folder: what lies in it is no frame. Where the frames lie in it themselves, only what
            earlier runs have written there is left out.
        frames: of a DICOM file: `fullest`, `measure`, `all`, or numbers from 0.
        require_xa: take X-Ray Angiographic, Enhanced XA and X-Ray Radiofluoroscopic objects only.
        spacing_mm: size of a pixel at the patient, for files that do not know it and whose pixels are square.
        key: file of the secret key of the pseudonyms, made where there is none; needed where there is DICOM.
        passed_over: CSV to write of what is passed over, and why; removed where there is nothing to write.
    Returns:
        Rows `{"id": path relative to the folder, "image": path, "spacing_mm", "spacing_source"}` of PNG and NIfTI
        files (the source is `frame_file` for NIfTI that this project wrote with a known size), and of DICOM
        `{"id": <run>_<frame>, "image": path, "spacing_mm", "spacing_source", "run": pseudonym, "frame_index": number
        from 0, "frame_time_ms", "concerns": list of words}`; the concerns are `subtracted`, `burned_in_annotation` and
        `anisotropic` (pixels that are not square), which NIfTI files may have too.
    Raises:
        FileNotFoundError: if there is no such file or folder, or no frame in it.
        ValueError: if an option cannot be, the key is missing or lies in `leave_out`, or as by `find_frames`.
    """
    which = check_frames(frames)
    check_spacing(spacing_mm)
    root, pictures, files, locked = find_frames(source, leave_out=unless_around(leave_out, source))
    lost: dict[str, str] = {}
    rows = list(_picture_rows(pictures, root, lost, spacing_mm=spacing_mm))
    if files:
        if key is None:
            raise ValueError(f"{source} holds {len(files)} DICOM files: `key` must name a file for their secret")
        pseudonyms = Pseudonyms.open(key, output=leave_out if leave_out is not None else root)
        rows += run_rows(files, root, pseudonyms, which, lost, require_xa=require_xa, spacing_mm=spacing_mm)
    lost = report_passed_over(lost, locked, root, passed_over)
    if not rows:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in list(lost.items())[:3])
        raise FileNotFoundError(f"no frame in {source}: all {len(lost)} files were passed over ({reasons})")
    return rows


def unless_around(
    folder: str | os.PathLike[str] | None, source: str | os.PathLike[str]
) -> str | os.PathLike[str] | None:
    """`folder`, or None where `source` is or lies in it."""
    if folder is None or Path(source).resolve().is_relative_to(Path(folder).resolve()):
        return None
    return folder


def _picture_rows(
    pictures: list[Path], root: Path, lost: dict[str, str], *, spacing_mm: float | None
) -> Iterator[dict[str, Any]]:
    reader = FrameReader()
    source = "user" if spacing_mm is not None else "unknown"
    for path in tqdm(pictures, desc="reading frames", unit="file", disable=None):
        name = path.relative_to(root).as_posix()
        if len(os.fsencode(path.name)) > LONGEST_NAME:
            lost[name] = f"its name is longer than {LONGEST_NAME} bytes, and results are named by it: rename it"
            continue
        try:
            values, _ = reader.get_data((str(path),))
            _check_grey_levels(values)
            known_mm, oblong = _nifti_spacing_mm(path)
        except Exception as error:  # whatever it is, it costs this frame alone
            lost[name] = without_path(
                error, path, "it cannot be read as a PNG or NIfTI frame: damaged, or something else"
            )
            continue
        if oblong:
            size = {"spacing_mm": None, "spacing_source": "unknown"}
            yield {"id": name, "image": str(path), **size, "concerns": ["anisotropic"]}
        elif known_mm is not None:
            yield {"id": name, "image": str(path), "spacing_mm": known_mm, "spacing_source": "frame_file"}
        else:
            yield {"id": name, "image": str(path), "spacing_mm": spacing_mm, "spacing_source": source}


def without_path(error: BaseException, path: Path, otherwise: str) -> str:
    """What an error says, in one line, with the name of the file in place of its path.

    Args:
        error: the error.
        path: of the file that it is about.
        otherwise: what to say where the text is empty, or still names the folder, which may be a patient's.
    """
    said = str(error)
    folder = os.fspath(path.absolute().parent)
    for text in (os.fspath(path.absolute()), os.fspath(path)):
        for form in (text, repr(text)[1:-1], ascii(text)[1:-1], _as_text(text), text.replace("'", "\\'")):
            said = said.replace(form, path.name)
    names_folder = any(form in said for form in (folder, repr(folder)[1:-1], ascii(folder)[1:-1]))
    return otherwise if not said.strip() or (names_folder and len(folder) > 1) else " ".join(said.split())


def add_passed_over(lost: Mapping[str, str], table: Path) -> None:
    """Log further frames that were passed over, and add them to the table that `report_passed_over` wrote."""
    if not lost:
        return
    found = {_as_text(name): _as_text(reason) for name, reason in lost.items()}
    for name, reason in found.items():
        logger.warning("%s passed over: %s", name, reason)
    rows: list[dict[str, Any]] = []
    if table.is_file():
        with table.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    rows += [{"name": name, "reason": reason, "use": RESEARCH_USE} for name, reason in found.items()]
    write_csv_atomic(table, rows)


def report_passed_over(
    lost: Mapping[str, str], locked: list[Path], root: Path, table: str | os.PathLike[str] | None
) -> dict[str, str]:
    """Log what was passed over, and write it to a table.

    Args:
        lost: name -> reason.
        locked: folders that cannot be opened, and links, below `root`; they are named by number.
        root: the folder that was read.
        table: CSV to write; removed where there is nothing to write.
    Returns:
        Name -> reason of all, as text: bytes of a file name that are none have no place in a log.
    """
    found = dict(lost)
    for number, folder in enumerate(locked, start=1):  # its name may be a patient's
        depth = len(folder.relative_to(root).parts)
        if folder.is_symlink():
            found[f"link {number} of {len(locked)}"] = (
                f"a link, {depth} below the source, which is not followed: give the file or folder itself"
            )
            continue
        found[f"folder {number} of {len(locked)}"] = (
            f"it cannot be opened, {depth} below the source: see its permissions"
        )
    found = {_as_text(name): _as_text(reason) for name, reason in found.items()}
    for name, reason in found.items():
        logger.warning("%s passed over: %s", name, reason)
    if table is not None:
        rows = [{"name": name, "reason": reason, "use": RESEARCH_USE} for name, reason in found.items()]
        Path(table).unlink(missing_ok=True)
        if rows:
            write_csv_atomic(table, rows)
    return found


def _as_text(name: str) -> str:
    return name.encode("utf-8", "backslashreplace").decode()


def _check_grey_levels(values: NDArray[Any]) -> None:
    if not np.isfinite(values).all() or values.min() < 0:
        raise ValueError(f"grey levels must be finite and not negative, got {values.min():g} to {values.max():g}")
    if values.max() > MOST_GREY:
        raise ValueError(f"grey levels must be at most {MOST_GREY:g}, got up to {values.max():g}: no scanner's values")


def _nifti_spacing_mm(path: Path) -> tuple[float | None, bool]:
    """The size of a pixel that this project wrote into a NIfTI file, None in any other; whether pixels are not square.

    Raises:
        ValueError: if a NIfTI file's geometry is broken.
    """
    if not path.name.lower().endswith((".nii", ".nii.gz")):
        return None, False
    image: Any = nibabel.load(path)  # of the affine, MONAI's meta data hold a mended one
    if not np.isfinite(image.affine).all() or np.linalg.matrix_rank(image.affine[:3, :3]) < 3:
        raise ValueError(
            "the geometry in its header (pixel sizes, qform, sform) is zero or no numbers: write the file again"
        )
    width, height = voxel_sizes(image.affine)[:2]
    return known_spacing_mm(image.header), is_oblong(height, width)


def run_rows(
    files: list[Path],
    root: Path,
    pseudonyms: Pseudonyms,
    frames: Frames,
    lost: dict[str, str],
    *,
    require_xa: bool = True,
    spacing_mm: float | None = None,
) -> Iterator[dict[str, Any]]:
    """The rows that `list_frames` gives of DICOM files; afterwards the map beside the key holds their pseudonyms.

    Args:
        files: below `root`.
        root: what the paths are relative to that pseudonyms of files stand for.
        pseudonyms: of runs and files.
        frames: as of `check_frames`.
        lost: gets pseudonym -> reason of each file, and `run, frame` of each frame, that is passed over.
        require_xa, spacing_mm: as of `list_frames`.
    """
    originals: dict[str, str] = {}
    found: dict[str, tuple[dict[str, str], list[dict[str, Any]]]] = {}  # of each run: damaged frames, and rows
    for path in tqdm(files, desc="choosing frames", unit="file", disable=None):
        place = path.relative_to(root).as_posix()
        file = pseudonyms.source(place)
        originals[file] = place
        notes: dict[str, str] = {}
        try:
            run = read_run(path, require_xa=require_xa, spacing_mm=spacing_mm)
            with path.open("rb") as stream:
                uid = read_identity(stream).sop_instance_uid
            name = pseudonyms.run(uid or place)
            if name in found and not found[name][0]:
                lost[file] = f"it is run {name} again"
                continue
            damaged: dict[int, str] = {}
            chosen = choose_frames(path, run, frames, require_xa=require_xa, damaged=damaged)
            notes = {f"{name}, frame {number}": reason for number, reason in damaged.items()}
            readable = [index for index in chosen if _is_readable(path, index, name, run, notes, require_xa=require_xa)]
        except XAReadError as error:
            lost[file] = str(error)
            continue
        except Exception as error:  # whatever it is, it costs this file alone; its text may hold the path
            why = (
                os.strerror(error.errno) if isinstance(error, OSError) and error.errno else "damaged in an unknown way"
            )
            lost[file] = f"it cannot be read: {why}"
            continue
        if name in found and len(notes) >= len(found[name][0]):
            lost[file] = f"it is run {name} again"
            continue
        originals[name] = uid or place
        found[name] = notes, list(_rows_of_run(path, run, name, readable))  # of two copies the less damaged one
    for notes, rows in found.values():
        lost |= notes
        yield from rows
    write_map(pseudonyms, originals)


def _rows_of_run(path: Path, run: XARun, name: str, indices: list[int]) -> Iterator[dict[str, Any]]:
    for index in indices:
        spacing = run.frame_spacing[index] if run.frame_spacing else run.spacing
        concerns = {
            "subtracted": run.subtracted,
            "burned_in_annotation": bool(run.burned_in_annotation),
            "anisotropic": "anisotropic" in spacing.notes,
        }
        yield {
            "id": f"{name}_{index:04d}",
            "image": str(path),
            "spacing_mm": spacing.value_mm,
            "spacing_source": spacing.source,
            "run": name,
            "frame_index": index,
            "frame_time_ms": run.frame_time_ms,
            "concerns": [word for word, holds in concerns.items() if holds],
        }


def _is_readable(path: Path, index: int, name: str, run: XARun, lost: dict[str, str], *, require_xa: bool) -> bool:
    """Whether a frame is there and can be decoded; noted if not."""
    if index >= run.frames:
        lost[f"{name}, frame {index}"] = f"there is no such frame, it has {run.frames}"
        return False
    damaged: dict[int, str] = {}
    try:
        for _ in read_sound_frames(path, [index], damaged=damaged, require_xa=require_xa, windowed=False):
            pass
    except XAReadError as error:
        lost[f"{name}, frame {index}"] = damaged.get(index, str(error))
        return False
    return True


def _is_dicom(path: Path, *, unreadable: bool) -> bool:
    """Whether the four letters behind the preamble say so (PS3.10, section 7.1), or what an unreadable file is."""
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return unreadable  # is looked into under its pseudonym, and logged there
