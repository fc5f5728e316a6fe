"""Files that a run needs: folders, weights, the data list, and every image and label of the lists in use."""

import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import monai.data
import torch.utils.data
from monai.bundle import ReferenceResolver
from monai.handlers import CheckpointLoader
from monai.transforms import LoadImaged

from cmunet_monai.check.components import Call
from cmunet_monai.check.config import MergedConfig
from cmunet_monai.check.labels import check_labels
from cmunet_monai.check.names import show_id, some, suggestion
from cmunet_monai.check.values import NotPlain, plain_value
from cmunet_monai.readers import list_frames, load_rows
from cmunet_monai.readers.frame_folder import find_frames, unless_around
from cmunet_monai.transforms import LoadLabeld

LISTS = ("pretraining", "training", "validation", "test")
# what reads a list -> its arguments for the file, the name of the list, and the folder that paths start from
_LIST_READERS: dict[Callable[..., Any], tuple[str, str, str]] = {
    monai.data.load_decathlon_datalist: ("data_list_file_path", "data_list_key", "base_dir"),
    load_rows: ("datalist", "split", "dataset_dir"),
}
_SAME = {"image": "image", "id": "id", "patient_id": "patient", "group": "near-duplicate group"}


@dataclass(frozen=True)
class ListUse:
    """One reading of a list: its name, the file and the folder that its paths start from, and the id that reads it."""

    name: str
    file: Path
    base_dir: Path
    where: str


def check_files(config: MergedConfig, calls: Iterable[Call], remarks: list[str]) -> dict[str, int]:
    """Name what is missing, unreadable, empty or in two lists; return the number of rows of each list in use.

    Args:
        config: gets the mistakes.
        calls: of the components.
        remarks: gets what a person should look at, though the run can start.
    """
    calls = list(calls)
    problems: list[str] = list(_check_paths(config))
    problems += _check_checkpoints(config, calls)
    problems += _check_frame_folders(config, calls)
    uses = _list_uses(config, calls)
    contents: dict[Path, dict[str, list[Any]] | None] = {}
    for use in uses:
        if use.file not in contents:
            contents[use.file] = _read_lists(use.file, problems)
            problems += _overlaps(use.file, contents[use.file] or {})
    with_labels = _loads_labels(config, calls)
    problems += _labels_as_frames(config, calls)
    optional = _lists_that_may_be_empty(config)
    counts = {}
    for use in dict.fromkeys(uses):
        content = contents[use.file]
        if content is not None:
            rows = content.get(use.name)
            problems += _check_list(
                use,
                rows,
                content,
                with_labels=with_labels and use.name != "pretraining",
                may_be_empty=use.where in optional,
            )
            if with_labels and use.name != "pretraining":
                wrong, outliers = check_labels(rows or [], use.base_dir, where=f"{use.file}: list `{use.name}`")
                problems += wrong
                remarks += outliers
            counts[use.name] = len(rows or [])
            problems += _too_few_for_a_batch(config, calls, use, len(rows or []))
    config.problems += dict.fromkeys(problems)
    return counts


# Folders and weights --------------------------------------------------------------------------------------------------


def _check_paths(config: MergedConfig) -> Iterator[str]:
    top: dict[str, Any] = config.parser.get() or {}
    for name, content in top.items():
        if name.startswith("_"):
            continue
        try:
            value = plain_value(config.parser, content)
        except NotPlain:
            continue
        if name == "output_dir":
            yield from _unwritable(value)
        elif name == "dataset_dir" and not (isinstance(value, str) and os.path.isdir(value)):
            yield f"`dataset_dir`: no such folder: {value}"
        elif name == "datalist" and not (isinstance(value, str) and os.path.isfile(value)):
            yield f"`datalist`: no such file: {value}"
        elif _is_weights(name) and isinstance(value, str) and value and not os.path.isfile(value):
            yield f"`{name}`: no such file: {value}"


def _is_weights(name: str) -> bool:
    return name == "weights" or name.endswith(("_weights", "checkpoint", "ckpt"))


def _unwritable(value: Any) -> Iterator[str]:
    if not isinstance(value, (str, os.PathLike)) or not str(value):
        yield f"`output_dir` must be a folder, got {value!r}"
        return
    folder = Path(value).absolute()
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if not folder.is_dir():
        yield f"`output_dir`: {value} cannot be made: {folder} is not a folder"
    elif not os.access(folder, os.W_OK | os.X_OK):
        yield f"`output_dir`: {value} cannot be written: no permission in {folder}"


def _check_checkpoints(config: MergedConfig, calls: Iterable[Call]) -> Iterator[str]:
    for call in calls:
        if call.function is CheckpointLoader:
            try:
                disabled = plain_value(config.parser, config.parser.get(f"{call.where}#_disabled_", False))
                path = plain_value(config.parser, call.arguments.get("load_path"))
            except NotPlain:
                continue
            if not disabled and not os.path.isfile(str(path)):
                yield f"`{show_id(call.where)}`: no such checkpoint: {path}"


def _check_frame_folders(config: MergedConfig, calls: Iterable[Call]) -> Iterator[str]:
    for call in calls:
        if call.function is list_frames:
            try:
                folder = plain_value(config.parser, call.arguments.get("source"))
                left_out = plain_value(config.parser, call.arguments.get("leave_out"))
            except NotPlain:
                continue
            if os.path.exists(str(folder)):
                try:
                    find_frames(folder, leave_out=unless_around(left_out, folder))
                except (FileNotFoundError, ValueError) as error:
                    yield f"`{show_id(call.where)}`: {error}"


# Lists ----------------------------------------------------------------------------------------------------------------


def _list_uses(config: MergedConfig, calls: Iterable[Call]) -> list[ListUse]:
    uses = []
    for call in calls:
        if call.function not in _LIST_READERS:
            continue
        file_key, name_key, base_key = _LIST_READERS[call.function]
        try:
            file = plain_value(config.parser, call.arguments.get(file_key))
            name = plain_value(config.parser, call.arguments.get(name_key, "training"))
            base_dir = plain_value(config.parser, call.arguments.get(base_key))
        except NotPlain:
            continue
        if os.path.isfile(str(file)):
            uses.append(ListUse(str(name), Path(file), Path(base_dir or Path(file).parent), call.where))
        elif _reference(call.arguments.get(file_key)) != "datalist":
            config.problems.append(f"`{show_id(call.where)}`: no such data list: {file}")
    return uses


def _read_lists(file: Path, problems: list[str]) -> dict[str, list[Any]] | None:
    try:
        content = json.loads(file.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        problems.append(f"{file}:{error.lineno}:{error.colno}: not valid JSON: {error.msg}")
        return None
    except (OSError, UnicodeDecodeError) as error:
        problems.append(f"{file}: {error}")
        return None
    except RecursionError:
        problems.append(f"{file}: not valid JSON: nested too deep")
        return None
    if not isinstance(content, dict):
        problems.append(f"{file}: must hold a dictionary of lists, got a {type(content).__name__}")
        return None
    return {name: rows for name, rows in content.items() if isinstance(rows, list)}


def _overlaps(file: Path, content: dict[str, list[Any]]) -> Iterator[str]:
    """Rows that two lists share, by image, id, patient or near-duplicate group; images listed twice in one."""
    values = {
        name: {key: [row[key] for row in content[name] if isinstance(row, dict) and row.get(key)] for key in _SAME}
        for name in LISTS
        if name in content
    }
    for name, by_key in values.items():
        for key in ("image", "id"):
            seen: set[Any] = set()
            twice = [value for value in by_key[key] if value in seen or seen.add(value)]  # type: ignore[func-returns-value]
            if twice:
                yield f"{file}: list `{name}` has {len(twice)} {_SAME[key]}(s) twice: {some(twice)}"
    for first, second in combinations(values, 2):
        for key, word in _SAME.items():
            shared = sorted(set(map(str, values[first][key])) & set(map(str, values[second][key])))
            if shared:
                yield f"{file}: lists `{first}` and `{second}` share {len(shared)} {word}(s): {some(shared)}"


def _check_list(
    use: ListUse, rows: list[Any] | None, content: dict[str, list[Any]], *, with_labels: bool, may_be_empty: bool
) -> Iterator[str]:
    where = f"{use.file}: list `{use.name}` (read by `{show_id(use.where)}`)"
    if rows is None:
        near = suggestion(use.name, content) or f"; there are {some(f'`{name}`' for name in content) or 'no lists'}"
        yield f"{where} is not there{near}"
        return
    if not rows and not may_be_empty:
        yield f"{where} is empty"
    wrong = [index for index, row in enumerate(rows) if not isinstance(row, dict) or not row.get("image")]
    if wrong:
        yield f"{where} has {len(wrong)} row(s) without an image: number {some(wrong)}"
    good = [row for row in rows if isinstance(row, dict) and row.get("image")]
    if with_labels:
        unlabelled = [row.get("id", row["image"]) for row in good if not row.get("label")]
        if unlabelled:
            yield f"{where} has {len(unlabelled)} row(s) without a label: {some(unlabelled)}"
    for key in ("image", "label") if with_labels else ("image",):
        paths = [str(row[key]) for row in good if row.get(key)]
        missing = [path for path in paths if not (use.base_dir / path).is_file()]
        if missing:
            yield f"{where}: {len(missing)} of {len(paths)} {key}s are missing in {use.base_dir}: {some(missing)}"


def _loads_labels(config: MergedConfig, calls: Iterable[Call]) -> bool:
    """Whether some transform of the config loads `label`, and does not allow that it is missing."""
    for call in calls:
        if call.function in (LoadImaged, LoadLabeld):
            try:
                keys = plain_value(config.parser, call.arguments.get("keys"))
                optional = plain_value(config.parser, call.arguments.get("allow_missing_keys", False))
            except NotPlain:
                continue
            if "label" in ([keys] if isinstance(keys, str) else keys or []) and not optional:
                return True
    return False


def _labels_as_frames(config: MergedConfig, calls: Iterable[Call]) -> Iterator[str]:
    """Where labels are loaded by the reader of frames, which turns colours and palettes into luminance."""
    for call in calls:
        if call.function is LoadImaged:
            try:
                keys = plain_value(config.parser, call.arguments.get("keys"))
                reader = plain_value(config.parser, call.arguments.get("reader"))
            except NotPlain:
                continue
            if "label" in ([keys] if isinstance(keys, str) else keys or []) and str(reader).endswith("FrameReader"):
                yield (
                    f"`{show_id(call.where)}`: `label` is loaded by FrameReader, which is for frames and turns colours "
                    "and palettes into luminance: load it by cmunet_monai.transforms.LoadLabeld after the image"
                )


def _lists_that_may_be_empty(config: MergedConfig) -> set[str]:
    """Ids that a `_disabled_` depends on: there, the config itself says what is left out without rows."""
    found: set[str] = set()
    for config_id, value in config.items():
        if config_id.endswith("_disabled_") and isinstance(value, str):
            found.update(ReferenceResolver.match_refs_pattern(value))
    return found


def _too_few_for_a_batch(config: MergedConfig, calls: Iterable[Call], use: ListUse, count: int) -> Iterator[str]:
    """A loader that drops the last batch makes no batch at all of fewer rows than `batch_size`."""
    by_id = {call.where: call for call in calls}
    for call in calls:
        if not (isinstance(call.function, type) and issubclass(call.function, torch.utils.data.DataLoader)):
            continue
        dataset = by_id.get(_reference(call.arguments.get("dataset")))
        if dataset is None or _reference(dataset.arguments.get("data")) != use.where:
            continue
        try:
            drop_last = plain_value(config.parser, call.arguments.get("drop_last", False))
            batch_size = plain_value(config.parser, call.arguments.get("batch_size", 1))
        except NotPlain:
            continue
        if drop_last and isinstance(batch_size, int) and 0 < count < batch_size:
            yield (
                f"`{show_id(call.where)}`: list `{use.name}` has {count} rows, fewer than one batch of {batch_size}, "
                "and incomplete batches are dropped"
            )


def _reference(value: Any) -> str:
    """The id that `@id` names; an empty text for anything else."""
    return next(iter(ReferenceResolver.match_refs_pattern(value)), "") if isinstance(value, str) else ""
