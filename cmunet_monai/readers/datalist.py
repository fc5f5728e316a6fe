"""One list of a data list."""

import json
import os
from pathlib import Path
from typing import Any


def load_rows(
    datalist: str | os.PathLike[str], split: str, dataset_dir: str | os.PathLike[str]
) -> list[dict[str, Any]]:
    """The rows of one list, `image` and `label` as paths; an empty list is an error.

    MONAI's `load_decathlon_datalist` does the same for lists that have rows; an empty `test` list gives an IndexError.

    Args:
        datalist: JSON file with lists of rows.
        split: name of the list, such as `test`.
        dataset_dir: what the paths of the rows are relative to.
    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it has no such list, or no row in it; the lists that have rows are named.
    """
    path = Path(datalist)
    if not path.is_file():
        raise FileNotFoundError(f"no data list at {path}")
    lists = json.loads(path.read_text(encoding="utf-8"))
    rows = lists.get(split)
    if not isinstance(rows, list) or not rows:
        filled = [name for name, value in lists.items() if isinstance(value, list) and value]
        state = "is empty" if isinstance(rows, list) else "does not exist"
        raise ValueError(f"the list `{split}` of {path} {state}; lists with rows: {', '.join(filled) or 'none'}")
    keys = ("image", "label")
    return [row | {key: str(Path(dataset_dir) / row[key]) for key in keys if row.get(key)} for row in rows]
