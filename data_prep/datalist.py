"""The datalist all verbs share: MONAI's decathlon JSON with lists of rows, read, checked and written here."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from cmunet_monai.files.atomic import write_text_atomic
from cmunet_monai.files.frame_size import frame_size
from cmunet_monai.files.label import may_fit, read_label_of_frame
from cmunet_monai.files.nifti import is_nifti, read_nifti
from cmunet_monai.files.picture import read_picture
from cmunet_monai.xa.spacing import is_spacing_mm

LIST_NAMES = ("pretraining", "training", "validation", "test")
_ROW_KEYS = ("id", "image", "label", "group", "patient_id", "spacing_mm", "spacing_source")


@dataclass(frozen=True)
class Row:
    """One frame of a datalist. Paths are relative to the dataset folder, with forward slashes."""

    id: str
    image: str
    label: str | None = None
    group: str | None = None
    patient_id: str | None = None
    spacing_mm: float | None = None
    spacing_source: str = "unknown"
    extra: Mapping[str, Any] = field(default_factory=dict)
    """What else the row carried; kept as it is."""

    @property
    def unit(self) -> str:
        """What must not be torn apart between lists: the patient where known, else the near-duplicate group."""
        return f"patient {self.patient_id}" if self.patient_id is not None else f"group {self.group}"

    def without_label(self) -> "Row":
        """The same frame for pre-training, which must not see a label."""
        return replace(self, label=None)

    def to_json(self) -> dict[str, Any]:
        """The row as it is written: keys without a value are left out, except `spacing_mm`."""
        row = {key: getattr(self, key) for key in _ROW_KEYS if key == "spacing_mm" or getattr(self, key) is not None}
        return {**row, **self.extra}


@dataclass(frozen=True)
class Datalist:
    """A datalist that was read and checked."""

    path: Path
    dataset_dir: Path
    sha256: str
    """Of the file's bytes."""
    lists: Mapping[str, tuple[Row, ...]]
    """`pretraining`, `training`, `validation`, `test`; a list the file lacks is empty."""
    header: Mapping[str, Any]
    """Everything in the file besides the four lists."""


def validate_datalist(
    path: str | os.PathLike[str], dataset_dir: str | os.PathLike[str] | None = None, deep: bool = False
) -> Datalist:
    """Read a datalist and check it against the files it names.

    Checked: the JSON and its rows; ids, images and labels given once only; a label in every row of `training`,
    `validation` and `test`; a patient or group in every row, none of which is in two of these lists or in `test` and
    `pretraining`; that every file exists, and that a label has its image's size (from the file headers).

    Args:
        path: the datalist.
        dataset_dir: the folder its paths are relative to; by default the datalist's own.
        deep: also decode every file (finds truncated ones) and refuse labels without a foreground pixel.
    Raises:
        FileNotFoundError: the datalist or a file it names is missing.
        ValueError: anything else above; up to ten faults are named, each with its file.
    """
    path = Path(path)
    dataset_dir = path.parent if dataset_dir is None else Path(dataset_dir)
    document, sha256 = read_json_object(path)
    lists = {name: _read_rows(path, name, document.get(name, [])) for name in LIST_NAMES}
    if not any(lists.values()):
        raise ValueError(f"{path} has no rows: expected at least one of the lists {', '.join(LIST_NAMES)}")
    _check_rows(path, lists)
    faults: list[str] = []
    missing = False
    for rows in lists.values():
        for row in rows:
            try:
                _check_files(row, dataset_dir, deep)
            except FileNotFoundError as error:
                missing = True
                faults.append(str(error))
            except ValueError as error:
                faults.append(str(error))
    if faults:
        message = f"{path} does not fit {dataset_dir}, the folder its paths are relative to:\n{join_faults(faults)}"
        raise FileNotFoundError(message) if missing else ValueError(message)
    header = {key: value for key, value in document.items() if key not in LIST_NAMES}
    return Datalist(path, dataset_dir, sha256, lists, header)


def write_datalist(
    path: str | os.PathLike[str], lists: Mapping[str, tuple[Row, ...]], header: Mapping[str, Any]
) -> None:
    """Write a datalist, whole or not at all; one with the same text is left alone."""
    path = Path(path)
    text = datalist_text(lists, header)
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        write_text_atomic(path, text)


def datalist_text(lists: Mapping[str, tuple[Row, ...]], header: Mapping[str, Any]) -> str:
    """The datalist as JSON text, as it is written: the header, then the four lists in their order."""
    document = {**header, **{name: [row.to_json() for row in lists.get(name, ())] for name in LIST_NAMES}}
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def read_json_object(path: Path) -> tuple[dict[str, Any], str]:
    """Read a JSON file that must hold one object.

    Returns:
        The object and the SHA-256 of the file's bytes.
    Raises:
        FileNotFoundError: no such file.
        ValueError: cut off, not JSON, or not an object.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: expected a JSON file there")
    content = path.read_bytes()
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{path} is not valid JSON, perhaps cut off in copying ({error}; {len(content)} bytes): fetch it again"
        ) from error
    if not isinstance(document, dict):
        raise ValueError(f"{path} must hold a JSON object, got {type(document).__name__}")
    return document, hashlib.sha256(content).hexdigest()


def load_image(path: Path) -> Image.Image:
    """Open an image file and decode all of it.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not an image, truncated or damaged.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing")
    try:
        return read_picture(path)
    except ValueError as error:
        raise ValueError(f"{path} is truncated or damaged ({error}): fetch it again") from error


def join_faults(faults: list[str], limit: int = 10) -> str:
    """One fault a line; what exceeds the limit is counted."""
    shown = [f"  {fault}" for fault in faults[:limit]]
    if len(faults) > limit:
        shown.append(f"  ... and {len(faults) - limit} more")
    return "\n".join(shown)


def _read_rows(path: Path, name: str, rows: object) -> tuple[Row, ...]:
    if not isinstance(rows, list):
        raise ValueError(f"{path}: list `{name}` must be a JSON list, got {type(rows).__name__}")
    return tuple(_read_row(f"{path}: `{name}` row {place}", row) for place, row in enumerate(rows))


def _read_row(where: str, row: object) -> Row:
    if not isinstance(row, dict):
        raise ValueError(f"{where} must be a JSON object, got {type(row).__name__}")
    for key in ("id", "image"):
        if not isinstance(row.get(key), str) or not row[key]:
            raise ValueError(f"{where}: `{key}` must be a non-empty string, got {row.get(key)!r}")
    for key in ("label", "group", "patient_id", "spacing_source"):
        if key in row and row[key] is not None and (not isinstance(row[key], str) or not row[key]):
            raise ValueError(f"{where} ({row['id']}): `{key}` must be a non-empty string, got {row[key]!r}")
    for key in ("image", "label"):
        path = PurePosixPath(row.get(key) or "")
        if path.is_absolute() or ".." in path.parts:
            raise ValueError(f"{where} ({row['id']}): `{key}` must lie inside the dataset folder, got {row[key]!r}")
    if row.get("group") is None and row.get("patient_id") is None:
        raise ValueError(f"{where} ({row['id']}): expected `patient_id` or `group`, got neither")
    spacing_mm = row.get("spacing_mm")
    # bool is an int in Python
    if spacing_mm is not None and not is_spacing_mm(spacing_mm):
        raise ValueError(f"{where} ({row['id']}): `spacing_mm` must be a positive number or null, got {spacing_mm!r}")
    extra = {key: value for key, value in row.items() if key not in _ROW_KEYS}
    known = {key: row[key] for key in _ROW_KEYS if row.get(key) is not None}
    return Row(**known, extra=extra)


def _check_rows(path: Path, lists: Mapping[str, tuple[Row, ...]]) -> None:
    for key in ("id", "image", "label"):
        seen: dict[str, str] = {}
        for name, rows in lists.items():
            for row in rows:
                value = getattr(row, key)
                if value in seen:
                    raise ValueError(f"{path}: {key} {value!r} is given twice, in `{seen[value]}` and in `{name}`")
                if value is not None:
                    seen[value] = name
    for name in ("training", "validation", "test"):
        for row in lists[name]:
            if row.label is None:
                raise ValueError(
                    f"{path}: row {row.id} in `{name}` has no `label`; frames without one belong in `pretraining`"
                )
    units = {name: {row.unit: row.id for row in rows} for name, rows in lists.items()}
    apart = (("test", "training"), ("test", "validation"), ("test", "pretraining"), ("training", "validation"))
    for one, other in apart:
        for unit in sorted(units[one].keys() & units[other].keys()):
            raise ValueError(
                f"{path}: {unit} is in `{one}` ({units[one][unit]}) and in `{other}` ({units[other][unit]}); "
                f"drop it from one of them"
            )


def _check_files(row: Row, dataset_dir: Path, deep: bool) -> None:
    image = dataset_dir / row.image
    image_size = _size_px(image, row.id)
    if deep:
        _decode(image)
    if row.label is None:
        return
    label = dataset_dir / row.label
    label_size = _size_px(label, row.id)
    if not may_fit(label, image):
        raise ValueError(
            f"{label}: label of {row.id} is {_times(label_size)} (width x height), expected {_times(image_size)}, "
            f"the size of its image {row.image}"
        )
    if deep and not read_label_of_frame(label, image).classes.any():
        raise ValueError(f"{label}: label of {row.id} has no foreground pixel")


def _size_px(path: Path, row_id: str) -> tuple[int, int]:
    if not path.is_file():
        raise FileNotFoundError(f"{path} of row {row_id} is missing")
    return frame_size(path)


def _decode(path: Path) -> None:
    if not is_nifti(path):
        load_image(path)
        return
    try:
        np.asarray(read_nifti(path).dataobj)
    except ValueError as error:
        raise ValueError(f"{path} is truncated or damaged ({error}): fetch it again") from error


def _times(size: tuple[int, ...]) -> str:
    return "x".join(str(length) for length in size)
