"""An export worked through, file by file: what the verbs that read XA DICOM share."""

import argparse
import os
import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from tqdm import tqdm

from cmunet_monai.files.atomic import write_text_atomic
from cmunet_monai.pseudonyms import Pseudonyms, lock_file, map_file, write_map
from cmunet_monai.verbs import add_input
from data_prep.ingestion.frames import Job, Record, Settings, inspect
from data_prep.ingestion.pool import Lost, Work, cluster, processes
from data_prep.ingestion.sources import Unreadable, find_sources
from data_prep.ingestion.states import all_records, forget, read_state, write_state

_MEMORY_BYTES = 8 * 1024**3
_MADE_BY = Path("states") / "made_by.txt"


def add_archive_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options that say what is read, where it goes, and with how many processes."""
    add_input(parser, "--source", required=True, metavar="EXPORT", help="folder (or file) of the export")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="folder to write")
    parser.add_argument("--key", type=Path, metavar="FILE", help="secret key of the pseudonyms (default: OUTPUT.key)")
    parser.add_argument("--reviewed", type=Path, metavar="FILE", help="pseudonyms of runs that a person has cleared")
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, metavar="N", help="processes (default: all processors)"
    )
    parser.add_argument("--seconds", type=float, default=300, metavar="S", help="time limit of one file (default: 300)")
    parser.add_argument("--dask", metavar="ADDRESS", help="use a dask.distributed cluster that sees the same folders")


@dataclass(frozen=True)
class Archive:
    """The files of an export and where the outputs go.

    Attributes:
        output: folder of the outputs.
        jobs: the files that can be opened.
        closed: records of what could not be looked into.
    """

    output: Path
    jobs: tuple[Job, ...]
    closed: tuple[Record, ...]


def open_archive(args: argparse.Namespace, settings: Settings, *, verb: str) -> Archive:
    """Find the files of the export, and open the key.

    Raises:
        FileNotFoundError: if there is no export, or no file of reviewed runs.
        ValueError: for a bad argument, or an output that was made with another key or by another verb.
    """
    if args.workers < 1 or not args.seconds > 0:
        raise ValueError(f"--workers and --seconds must be positive, got {args.workers} and {args.seconds}")
    source, output = args.source.resolve(), args.output.resolve()
    if not source.exists():
        raise FileNotFoundError(f"no export at {args.source}")
    if source.is_relative_to(output):
        raise ValueError(f"the export {args.source} is inside --output {args.output}: give another --output")
    if output.exists() and not output.is_dir():
        raise ValueError(f"--output {args.output} is a file: expected a folder")
    reviewed = _read_reviewed(args.reviewed) if args.reviewed else frozenset()
    key = args.key or Path(f"{args.output}.key")
    if (args.output / _MADE_BY).is_file() and not key.exists():
        raise ValueError(
            f"{args.output} was made with a key that is not at {key}: give it by --key, or another --output"
        )
    pseudonyms = Pseudonyms.open(key, output=args.output)
    _check_maker(pseudonyms, args.output, verb)
    jobs, closed, names = [], [], {}
    for item in find_sources(args.source, leave_out=[args.output, key, map_file(pseudonyms), lock_file(pseudonyms)]):
        if isinstance(item, Unreadable):
            closed.append(Record(pseudonyms.source(item.name), "failed", item.reason))
            names[closed[-1].file] = item.name
        else:
            jobs.append(Job(item, pseudonyms, args.output, settings, reviewed))
    write_map(pseudonyms, names | {job.file: job.source.name for job in jobs})
    return Archive(args.output, tuple(jobs), tuple(closed))


def _read_reviewed(path: Path) -> frozenset[str]:
    """Pseudonyms of runs, apart by blanks, lines or commas."""
    names = path.read_bytes().decode("utf-8-sig", errors="replace").replace(",", " ").split()
    wrong = [name for name in names if not re.fullmatch(r"R[0-9a-f]{16}", name)]
    if wrong:
        raise ValueError(
            f"{path} must contain only pseudonyms of runs (R and 16 digits), but {len(wrong)} words are something else"
        )
    return frozenset(names)


def work_through(
    archive: Archive,
    function: Callable[[tuple[Job, Record]], Record],
    args: argparse.Namespace,
    *,
    title: str,
    outputs: Sequence[str],
) -> list[Record]:
    """Look at the headers of all files that are not done, then do each run once.

    Args:
        archive: what `open_archive` found.
        function: from a file and what `inspect` says of it to its record; it writes the outputs of the run.
        args: `workers` and `seconds`, or `dask`.
        title: of the second progress bar.
        outputs: patterns of what `function` writes; files of these that no record lists are removed.
    Returns:
        the records of all files, of earlier exports into the same folder too, ordered by pseudonym.
    """
    todo = _unfinished(archive)
    files = len(archive.jobs) + len(archive.closed)
    print(f"{files} files, {len(archive.jobs) - len(todo)} of them done already")
    how: AbstractContextManager[Work] = (
        cluster(args.dask) if args.dask else processes(args.workers, seconds=args.seconds, memory_bytes=_MEMORY_BYTES)
    )
    with how as work:
        while todo:
            _work(archive, todo, work, function, title)
            states = [(job, read_state(job)) for job in archive.jobs]
            todo = _orphans(archive, states)  # a duplicate comes into its own where the original has failed
    _forget_superseded(archive)
    records = sorted([*all_records(archive.output), *archive.closed], key=lambda record: record.file)
    _sweep(archive.output, records, outputs)
    present = {job.file for job in archive.jobs} | {record.file for record in archive.closed}
    failed = sum(record.status == "failed" for record in records)
    vanished = sum(record.file not in present for record in records)
    if failed:
        print(f"{failed} files failed: the table says why")
    if vanished:
        print(f"{vanished} records are of files that are no longer in the export; their outputs are kept")
    return records


def _work(
    archive: Archive,
    todo: Sequence[Job],
    work: Work,
    function: Callable[[tuple[Job, Record]], Record],
    title: str,
) -> None:
    taken = _runs_held(archive, todo)
    kept = [(job, state) for job in archive.jobs if (state := read_state(job)) and state.status == "kept"]
    damaged = {state.run: (job, state) for job, state in kept if state.damaged and job not in todo}
    runs: list[tuple[Job, Record]] = []
    originals: dict[str, str] = {}
    bar = partial(tqdm, unit="file", disable=None)
    for job, outcome in bar(work(inspect, todo), total=len(todo), desc="headers"):
        if isinstance(outcome, Lost):
            found = Record(job.file, "failed", outcome.reason, again=True)
        else:
            found, stands_for = outcome
            originals |= stands_for
        if found.status == "kept" and found.run in taken:
            found = Record(job.file, "duplicate", "the same object is in another file", found.run, found.patient)
        if found.status == "kept":
            taken.add(found.run)
            runs.append((job, found))
        else:
            write_state(job, found)
    write_map(todo[0].pseudonyms, originals)
    for (job, found), record in bar(work(function, runs), total=len(runs), desc=title):
        if isinstance(record, Lost):
            record = Record(job.file, "failed", record.reason, found.run, found.patient, again=True)
        write_state(job, record)
        if record.status == "kept" and record.run in damaged:
            _supersede(*damaged[record.run])


def _unfinished(archive: Archive) -> list[Job]:
    """New and changed files, and duplicates whose original is among these: it may hold something else now."""
    states = [(job, read_state(job)) for job in archive.jobs]
    todo = [job for job, state in states if state is None]
    return todo + _orphans(archive, states, todo)


def _orphans(archive: Archive, states: Sequence[tuple[Job, Record | None]], todo: Sequence[Job] = ()) -> list[Job]:
    """Duplicates of which no other file holds the run, or only one with damaged frames."""
    duplicates = [(job, state) for job, state in states if state and state.status == "duplicate"]
    whole = _runs_held(archive, todo) if duplicates else set()
    held = _runs_held(archive, todo, damaged=True) if duplicates else set()
    return [job for job, state in duplicates if state.run not in (held if state.damaged else whole)]


def _runs_held(archive: Archive, todo: Sequence[Job], *, damaged: bool = False) -> set[str | None]:
    """Runs that belong to a finished file of this export; of those with damaged frames only on request."""
    files = {job.file for job in archive.jobs} - {job.file for job in todo}
    records = (record for record in all_records(archive.output) if damaged or not record.damaged)
    return {r.run for r in records if r.file in files and r.status in ("kept", "passed over", "quarantined")}


def _supersede(job: Job, record: Record) -> None:
    """Note a copy with damaged frames as a duplicate of another one."""
    reason = f"another copy of the object is used, since here {record.reason or 'frames are damaged'}"
    write_state(job, replace(record, status="duplicate", reason=reason, frames=()))


def _forget_superseded(archive: Archive) -> None:
    """Drop the notes of vanished files whose runs are in files of this export: the same export, moved or renamed."""
    present = {job.file for job in archive.jobs}
    records = list(all_records(archive.output))
    runs = {record.run for record in records if record.file in present and record.run}
    for record in records:
        if record.file not in present and record.run in runs:
            forget(archive.output, record)


def _sweep(output: Path, records: Sequence[Record], patterns: Sequence[str]) -> None:
    """Remove outputs that no record lists: of files that have changed, and of runs that were interrupted."""
    listed = {output / row["image"] for record in records for row in record.frames}
    names = {row["id"] for record in records for row in record.frames}
    for pattern in patterns:
        for path in output.glob(pattern):
            if path not in listed and not (path.suffix == ".png" and path.stem in names):
                path.unlink()


def _check_maker(pseudonyms: Pseudonyms, output: Path, verb: str) -> None:
    """Refuse to go on with another key (every patient would be there twice), or in the folder of another verb."""
    path, mark = output / _MADE_BY, f"{verb} {pseudonyms.source('which key')}"
    if not path.is_file():
        write_text_atomic(path, mark + "\n")
        return
    before = path.read_text(encoding="utf-8").strip()
    if before.split()[0] != verb:
        raise ValueError(f"{output} was made by `data_prep {before.split()[0]}`: give another --output")
    if before != mark:
        raise ValueError(f"{output} was made with another key: give that key, or another --output")
