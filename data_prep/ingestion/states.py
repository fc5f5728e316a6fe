"""What is done already: one small file for each source, so that an interrupted ingestion goes on."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from cmunet_monai.files.atomic import write_text_atomic
from data_prep.ingestion.frames import Job, Record

_FOLDER = "states"


def fingerprint(job: Job, record_run: str | None) -> str:
    """Changes when the file, the settings, or what a person has reviewed of it change; tells nothing of them."""
    reviewed = record_run in job.reviewed
    text = json.dumps([job.source.fingerprint, asdict(job.settings), reviewed])
    return hashlib.sha256(text.encode()).hexdigest()


def read_state(job: Job) -> Record | None:
    """The record of a finished source that is as it was; None for a new or changed one, and where a file is gone."""
    path = _path(job.output, job.file)
    if not path.is_file():
        return None
    state = json.loads(path.read_text(encoding="utf-8"))
    record = _record(state)
    whole = all((job.output / row["image"]).is_file() for row in record.frames)
    return record if whole and not record.again and state["fingerprint"] == fingerprint(job, record.run) else None


def write_state(job: Job, record: Record) -> None:
    """Note a source as finished."""
    state = {"fingerprint": fingerprint(job, record.run), **asdict(record)}
    write_text_atomic(_path(job.output, job.file), json.dumps(state) + "\n")


def forget(output: Path, record: Record) -> None:
    """Remove the note of a source."""
    _path(output, record.file).unlink(missing_ok=True)


def all_records(output: Path) -> Iterator[Record]:
    """Every finished source of an output folder, ordered by pseudonym."""
    for path in sorted((output / _FOLDER).glob("*.json")):
        yield _record(json.loads(path.read_text(encoding="utf-8")))


def _path(output: Path, file: str) -> Path:
    return output / _FOLDER / f"{file}.json"


def _record(state: dict) -> Record:
    fields = {name: value for name, value in state.items() if name != "fingerprint"}
    return Record(**fields | {"frames": tuple(fields["frames"]), "filling": tuple(fields["filling"])})
