"""Write de-identified copies of XA DICOM: PS3.15 basic profile, dates shifted, nothing kept that is not named.

Walks any tree, zip archives included, and copies X-Ray Angiographic, Enhanced XA and X-Ray Radiofluoroscopic objects to
OUTPUT/PATIENT/RUN.dcm in their transfer syntax, by pseudonym; every other file is listed with its reason. A copy has
exactly the attributes that are listed in `data_prep/deidentification/kept.py` (geometry, angles, timing, R waves,
exposure, look-up tables), type 2 attributes are empty, everything else is gone: names, free text, codes, times of day,
private attributes, curves, overlays, comments inside compressed frames. UIDs are mapped by key, the same way in every
file and every run; all dates of a patient are shifted by one number of days, one to ten years back. An object without a
Patient ID is named and shifted by its study.

A run that declares burned-in annotations, or shows text-like structure in the darkest or brightest values over time,
is not copied but listed in OUTPUT/quarantine.csv, until a person has looked at it in a viewer of their own and names
its pseudonym in the file of --reviewed; the map beside the key says which file it is. BurnedInAnnotation is set to NO
only after this automatic check or the review by a person. The check is not reliable: in a test with drawn text it
missed about one in eight, and two in five of the texts that were 8 px high. Look at the copies before you share them.

Pseudonyms are HMAC-SHA256 with a random key, made at the first run in a file that only you can read (--key). It, and
the map of pseudonyms beside it, identify the patients: keep them apart from OUTPUT. Pseudonymised copies remain
personal data (GDPR, recital 26): whoever holds the key, or knows the anatomy, can tell whose they are.

OUTPUT/deidentified.csv says of each file what became of it; `unfit` lists attributes that were removed, wholly or in
part, because their values were invalid. `repaired` lists attributes that were corrected to the form of the standard.
`reads_otherwise` lists what the reader reports differently as a result. `damaged_frames` lists the numbers, from 0, of
frames that were left out (only with --without-damaged-frames). Values of attributes are never written.

An interrupted run goes on with the same command; a second run does nothing; a changed source file is done again.
Copies of files that are no longer in the export are kept: to leave a patient out, write to a new folder.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from cmunet_monai.files.atomic import write_csv_atomic
from data_prep.deidentification.copies import copy_run
from data_prep.ingestion.archive import add_archive_arguments, open_archive, work_through
from data_prep.ingestion.frames import Record, Settings

_OUTPUTS = ("P*/*.dcm",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's options."""
    add_archive_arguments(parser)
    parser.add_argument(
        "--without-damaged-frames",
        action="store_true",
        help="copy runs that have damaged frames, without those frames (default: do not copy such runs)",
    )


def run(args: argparse.Namespace) -> None:
    """Copy the export and print the counts.

    Raises:
        FileNotFoundError: there is no export, or no file of reviewed runs.
        ValueError: a bad argument, or the output was made with another key or by another verb.
    """
    settings = Settings(without_damaged_frames=args.without_damaged_frames)
    records = work_through(
        open_archive(args, settings, verb="deidentify"), copy_run, args, title="copies", outputs=_OUTPUTS
    )
    _write_tables(records, args.output)
    copied = sum(record.status == "kept" for record in records)
    quarantined = sum(record.status == "quarantined" for record in records)
    print(f"{copied} runs copied; {quarantined} runs wait for a person; {args.output}/deidentified.csv")


def _write_tables(records: Sequence[Record], output: Path) -> None:
    """`deidentified.csv` and `quarantine.csv`."""
    rows = [
        {
            "file": record.file,
            "status": "copied" if record.status == "kept" else record.status,
            "reason": record.reason,
            "run": record.run or "",
            "patient": record.patient or "",
            **{name: record.facts.get(name, "") for name in ("unfit", "repaired", "reads_otherwise", "damaged_frames")},
        }
        for record in records
    ]
    write_csv_atomic(output / "deidentified.csv", rows)
    waiting = [row for row in rows if row["status"] == "quarantined"]
    columns = ("run", "patient", "file", "reason")
    write_csv_atomic(
        output / "quarantine.csv", [{name: row[name] for name in columns} for row in waiting], columns=columns
    )
