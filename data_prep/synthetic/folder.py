"""The folder that a synthetic data set goes to."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from data_prep.datalist import read_json_object


def check_folder(output: Path, files: Iterable[str], *, listing: str, key: str, settings: Mapping[str, Any]) -> None:
    """Refuse a folder that holds anything but (a part of) the same data set.

    Args:
        output: the folder; it need not exist.
        files: all files of the data set, relative to `output`.
        listing: the file among them that is written last and holds the settings.
        key: where in the listing they stand.
        settings: those that are asked for now.
    Raises:
        ValueError: `output` is a file, holds another data set, or a file that this one does not have.
    """
    if output.exists() and not output.is_dir():
        raise ValueError(f"--output {output} is a file: expected a folder")
    if (output / listing).is_file():
        found = read_json_object(output / listing)[0].get(key)
        if found != settings:
            made = "not by this command" if found is None else f"with {found}"
            raise ValueError(
                f"{output} holds another data set, made {made}; now asked for {settings}: give another --output"
            )
    expected = {Path(name) for name in files}
    expected |= {folder for path in expected for folder in path.parents}
    for path in sorted(output.rglob("*")):
        # An interrupted run leaves files of this data set and at most some temporary ones.
        if path.relative_to(output) not in expected and not path.name.startswith(".tmp-"):
            raise ValueError(f"{output} holds {path}, which this data set does not have: give another --output")
