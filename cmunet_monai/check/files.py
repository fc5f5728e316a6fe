"""Files that a run needs: folders, weights, data lists, and every image and label of the lists that it reads."""

import inspect
import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations, product
from pathlib import Path
from typing import Any

from monai.data import load_decathlon_datalist
from monai.handlers import CheckpointLoader
from monai.transforms import LoadImaged
from monai.utils import ensure_tuple
from torch.utils.data import DataLoader

from cmunet_monai.check.components import Call
from cmunet_monai.check.config import UNKNOWN, RunConfig, load_file
from cmunet_monai.check.labels import check_labels
from cmunet_monai.check.names import show_id, some, suggestion
from cmunet_monai.readers import list_frames, load_rows
from cmunet_monai.readers.frame_folder import find_frames, unless_around
from cmunet_monai.transforms import LoadLabeld

# what reads a list -> its arguments for the file, the list's name, and the folder that paths start from
_LIST_READERS: dict[Any, tuple[str, str, str]] = {
    load_decathlon_datalist: ("data_list_file_path", "data_list_key", "base_dir"),
    load_rows: ("datalist", "split", "dataset_dir"),
}
_SAME = {"image": "image", "id": "id", "patient_id": "patient", "group": "near-duplicate group"}
_FILE = re.compile(r"^datalist$|(^|_)weights$|checkpoint$|ckpt$")


def check_files(config: RunConfig, calls: Sequence[Call]) -> tuple[dict[str, int], list[str]]:
    """Name what is missing, unreadable, empty or in two lists.

    Returns:
        The number of rows of each list that is read, and what a person should look at, though the run can start.
    """
    for name in config.parser.get():
        config.problems += _wrong_path(name, config.value(name))
    for call in calls:
        path, source, left_out = map(call.value, ("load_path", "source", "leave_out"))
        is_missing = isinstance(path, str) and not os.path.isfile(path)
        if call.function is CheckpointLoader and is_missing and not config.value(f"{call.where}::_disabled_"):
            config.mistake(call.where, f"no such checkpoint: {path}")
        if call.function is list_frames and isinstance(source, str) and left_out is not UNKNOWN:
            try:
                find_frames(source, leave_out=unless_around(left_out, source))
            except (FileNotFoundError, ValueError) as error:
                config.mistake(call.where, str(error))
    return _check_lists(config, calls)


def _wrong_path(name: str, value: Any) -> Iterator[str]:
    if name == "output_dir" and value is not UNKNOWN:
        path = Path(str(value)).absolute()
        folder = next(folder for folder in (path, *path.parents) if folder.exists())
        if not value or not isinstance(value, (str, os.PathLike)):
            yield f"`output_dir` must be a folder, got {value!r}"
        elif not folder.is_dir():
            yield f"`output_dir`: {value} cannot be made: {folder} is not a folder"
        elif not os.access(folder, os.W_OK | os.X_OK):
            yield f"`output_dir`: {value} cannot be written: no permission in {folder}"
    elif name == "dataset_dir" and isinstance(value, str) and not os.path.isdir(value):
        yield f"`dataset_dir`: no such folder: {value}"
    elif _FILE.search(name) and value and isinstance(value, str) and not os.path.isfile(value):
        yield f"`{name}`: no such file: {value}"


# Lists ----------------------------------------------------------------------------------------------------------------


def _check_lists(config: RunConfig, calls: Sequence[Call]) -> tuple[dict[str, int], list[str]]:
    readers = [call for call in calls if call.function in (LoadImaged, LoadLabeld)]
    loads = [call for call in readers if "label" in ensure_tuple(call.value("keys"))]
    for call in loads:
        if str(call.value("reader")).endswith("FrameReader"):
            turns = "which is for frames and turns colours and palettes into luminance"
            instead = "load it by cmunet_monai.transforms.LoadLabeld after the image"
            config.mistake(call.where, f"`label` is loaded by FrameReader, {turns}: {instead}")
    with_labels = any(not call.value("allow_missing_keys") for call in loads)
    # where something is left out without rows, the config itself says that there may be none
    may_be_empty = {it for name, needed in config.needs.items() if name.endswith("_disabled_") for it in needed}
    lists: dict[str, dict[str, Any] | None] = {}
    rows_of: dict[str, tuple[str, int]] = {}  # id of what reads a list -> its name, number of rows
    remarks: list[str] = []
    for call in (call for call in calls if call.function in _LIST_READERS):
        file, name, folder = map(call.value, _LIST_READERS[call.function])
        if UNKNOWN in (file, name, folder) or file is None:
            continue
        if not os.path.isfile(file := str(file)):
            if file != str(config.value("datalist")):  # which is named already
                config.mistake(call.where, f"no such data list: {file}")
            continue
        if file not in lists:
            lists[file] = load_file(file, config.problems, load=lambda file: json.loads(Path(file).read_bytes()))
            config.problems += _overlaps(file, lists[file] or {})
        content, name, folder = lists[file], str(name or "training"), Path(folder or Path(file).parent)
        if content is not None:
            where = f"{file}: list `{name}` (read by `{show_id(call.where)}`)"
            labelled, rows = with_labels and name != "pretraining", content.get(name)
            if not isinstance(rows, list):
                near = suggestion(name, content) or f"; there are {some(f'`{it}`' for it in content) or 'no lists'}"
                config.problems.append(f"{where} is not there{near}")
            elif not rows and call.where not in may_be_empty:
                config.problems.append(f"{where} is empty")
            rows = rows if isinstance(rows, list) else []
            config.problems += _wrong_rows(rows, where, folder, keys=("image", "label") if labelled else ("image",))
            if labelled:
                wrong, odd = check_labels(rows, folder, where=f"{file}: list `{name}`")
                config.problems += wrong
                remarks += odd
            rows_of[call.where] = name, len(rows)
    for call in (call for call in calls if inspect.isclass(call.function) and issubclass(call.function, DataLoader)):
        sources, size = [rows_of[it] for it in config.reach(call.where) & rows_of.keys()], call.value("batch_size")
        if len(sources) == 1 and call.value("drop_last") is True and isinstance(size, int) and 0 < sources[0][1] < size:
            few = f"list `{sources[0][0]}` has {sources[0][1]} rows, fewer than one batch of {size}"
            config.mistake(call.where, f"{few}, and incomplete batches are dropped")
    return dict(rows_of.values()), remarks


def _wrong_rows(rows: list[Any], where: str, folder: Path, *, keys: Sequence[str]) -> Iterator[str]:
    good = [row for row in rows if isinstance(row, Mapping) and row.get("image")]
    if len(good) < len(rows):
        numbers = [number for number, row in enumerate(rows) if row not in good]
        yield f"{where} has {len(numbers)} row(s) without an image: number {some(numbers)}"
    for key in keys:
        paths = [str(row[key]) for row in good if row.get(key)]
        if len(paths) < len(good):
            lacking = [row.get("id", row["image"]) for row in good if not row.get(key)]
            yield f"{where} has {len(lacking)} row(s) without a {key}: {some(lacking)}"
        missing = [path for path in paths if not (folder / path).is_file()]
        if missing:
            yield f"{where}: {len(missing)} of {len(paths)} {key}s are missing in {folder}: {some(missing)}"


def _overlaps(file: str, lists: Mapping[str, Any]) -> Iterator[str]:
    """Rows that two lists share, by image, id, patient or near-duplicate group; images listed twice in one."""
    names = [name for name in ("pretraining", "training", "validation", "test") if isinstance(lists.get(name), list)]
    values = {
        (name, key): [str(row[key]) for row in lists[name] if isinstance(row, Mapping) and row.get(key)]
        for name, key in product(names, _SAME)
    }
    for name, key in product(names, ("image", "id")):
        twice = [value for value, count in Counter(values[name, key]).items() if count > 1]
        if twice:
            yield f"{file}: list `{name}` has {len(twice)} {key}(s) twice: {some(twice)}"
    for (first, second), (key, word) in product(combinations(names, 2), _SAME.items()):
        shared = sorted(set(values[first, key]) & set(values[second, key]))
        if shared:
            yield f"{file}: lists `{first}` and `{second}` share {len(shared)} {word}(s): {some(shared)}"
