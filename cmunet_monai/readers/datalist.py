"""One list of a data list."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cmunet_monai.files.frame_size import frame_size
from cmunet_monai.files.label import may_fit
from cmunet_monai.xa.spacing import is_spacing_mm


def load_rows(
    datalist: str | os.PathLike[str],
    split: str,
    dataset_dir: str | os.PathLike[str],
    *,
    labelled: bool = False,
    may_be_empty: bool = False,
) -> list[dict[str, Any]]:
    """The rows of one list, `image` and `label` as paths, each row looked at before anything is made of it.

    MONAI's `load_decathlon_datalist` names neither the file that is cut nor the row that lacks something; an empty
    list gives an IndexError, and a label of another size than its frame is trained on out of place.

    Args:
        datalist: JSON file with lists of rows.
        split: name of the list, such as `test`.
        dataset_dir: what the paths of the rows are relative to.
        labelled: whether every row must have a label, of its frame's size.
        may_be_empty: whether a list without rows is right.
    Raises:
        FileNotFoundError: if there is no such data list; with `labelled`, if a frame or label is not there.
        ValueError: if the data list is no JSON object, lacks the list or rows in it (the lists that have rows are
            named), or a row lacks its image or label, has a label of another size, or a `spacing_mm` that is no
            positive number.
    """
    path = Path(datalist)
    if not path.is_file():
        raise FileNotFoundError(f"no data list at {path}")
    try:
        lists = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not valid JSON (cut, or nested too deep?): {error}") from error
    if not isinstance(lists, dict):
        raise ValueError(f"{path} must hold a JSON object with lists of rows, got {type(lists).__name__}")
    rows = lists.get(split)
    if not isinstance(rows, list) or not (rows or may_be_empty):
        filled = [name for name, value in lists.items() if isinstance(value, list) and value]
        state = "is empty" if isinstance(rows, list) else "does not exist"
        raise ValueError(f"the list `{split}` of {path} {state}; lists with rows: {', '.join(filled) or 'none'}")
    names = (f"{path}: row {number} of `{split}`" for number in range(len(rows)))
    return [_row(row, where, Path(dataset_dir), labelled) for row, where in zip(rows, names, strict=True)]


def _row(row: Any, where: str, dataset_dir: Path, labelled: bool) -> dict[str, Any]:
    """`row` with paths in place of names."""
    if not isinstance(row, Mapping):
        raise ValueError(f"{where} must be a JSON object, got {row!r}")
    for key in ("image", "label") if labelled else ("image",):
        if not isinstance(row.get(key), str) or not row[key]:
            raise ValueError(f"{where} ({row.get('id', 'without id')}) has no `{key}`, got {row.get(key)!r}")
    spacing_mm = row.get("spacing_mm")
    if spacing_mm is not None and not is_spacing_mm(spacing_mm):
        identity = row.get("id", "without id")
        raise ValueError(f"{where} ({identity}): `spacing_mm` must be a positive number or null, got {spacing_mm!r}")
    found = dict(row) | {key: str(dataset_dir / row[key]) for key in ("image", "label") if row.get(key)}
    if labelled:
        (width, height), expected = frame_size(found["label"]), frame_size(found["image"])
        if not may_fit(found["label"], found["image"]):
            raise ValueError(
                f"{found['label']}: the label of {row.get('id', row['image'])} is {width} x {height} (width x height), "
                f"its frame {expected[0]} x {expected[1]}: give the label at the frame's size"
            )
    return found
