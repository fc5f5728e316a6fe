"""Turn an export of XA DICOM into frames: chosen, pseudonymised, with a data list and a report.

Walks any tree, zip archives included, and keeps X-Ray Angiographic, Enhanced XA and X-Ray Radiofluoroscopic objects; if
some frames of a cine are damaged, the others are used and the damaged ones are listed by number. Every other file is
listed with its reason
(a file without the PS3.10 preamble is not read as DICOM). Of each run it writes the chosen frames as NIfTI (with the
size
of a pixel at the patient, where it is known), and into OUTPUT: datalist.json (list `pretraining`), files.csv, runs.csv
and report/index.html with a contact sheet. A run that declares burned-in annotations, or shows text-like structure, is
not written until a person has looked at it in a viewer of their own and names its pseudonym in the file of --reviewed.

Pseudonyms are HMAC-SHA256 with a random key, made at the first run in a file that only you can read (--key). The key
and the table of pseudonyms beside it identify the patients, so keep both apart from OUTPUT. Pseudonymised frames and
the
contact sheet remain personal data.

Masks that you draw go to OUTPUT/labels/ID.nii.gz (or .png), ID being the frame's name: the next run lists these frames
in `training`, and `cmunet split` writes the lists for fine-tuning.

To resume an interrupted ingestion, run the same command again. Unchanged files are not processed again; changed source
files are. Frames of files that are no longer in the export are kept. To exclude a patient, write to a new folder.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from cmunet_monai.xa.spacing import check_spacing
from data_prep.datalist import Row, write_datalist
from data_prep.ingestion.archive import add_archive_arguments, open_archive, work_through
from data_prep.ingestion.frames import CHOICES, Record, Settings, ingest
from data_prep.ingestion.report import write_reports

_OUTPUTS = ("images/*", "report/frames/*")
_LABEL_SUFFIXES = (".nii.gz", ".nii", ".png")
_ROW_FIELDS = ("id", "image", "group", "patient_id", "spacing_mm", "spacing_source")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's options."""
    add_archive_arguments(parser)
    parser.add_argument(
        "--frames",
        nargs="+",
        choices=CHOICES,
        default=["fullest"],
        help="which frames of a run: the fullest, one to measure (filled and still), early and late ones, or all: more "
        "unlabelled frames for pre-training and mean_teacher.json (default: fullest)",
    )
    parser.add_argument(
        "--every", type=int, default=1, metavar="N", help="with `--frames all`: write every N-th frame (default: 1)"
    )
    parser.add_argument(
        "--spacing-mm",
        type=float,
        metavar="MM",
        help="pixel size in mm at the patient, for runs that do not contain it",
    )
    parser.add_argument("--any-sop-class", action="store_true", help="take other DICOM images than XA too")
    parser.add_argument("--keep-flagged", action="store_true", help="keep subtracted and bright-contrast runs")


def run(args: argparse.Namespace) -> None:
    """Ingest the export and print the counts.

    Raises:
        FileNotFoundError: there is no export, or no file of reviewed runs.
        ValueError: a bad argument, or the output was made with another key or by another verb.
    """
    check_spacing(args.spacing_mm)
    if args.every < 1:
        raise ValueError(f"--every must be at least 1, got {args.every}")
    settings = Settings(tuple(args.frames), args.every, not args.any_sop_class, args.spacing_mm, args.keep_flagged)
    records = work_through(open_archive(args, settings, verb="dicom"), ingest, args, title="frames", outputs=_OUTPUTS)
    _write_datalist(records, args.output)
    write_reports(records, args.output)
    kept = [record for record in records if record.status == "kept"]
    frames = sum(len(record.frames) for record in kept)
    quarantined = sum(record.status == "quarantined" for record in records)
    print(f"{len(kept)} runs kept, {frames} frames; {quarantined} runs wait for a person")
    print(f"report: {args.output / 'report' / 'index.html'}")


def _write_datalist(records: Sequence[Record], output: Path) -> None:
    """List the frames: those with a mask in OUTPUT/labels in `training`, the others in `pretraining`."""
    lists: dict[str, list[Row]] = {"pretraining": [], "training": []}
    rows = [row for record in records if record.status == "kept" for row in record.frames]
    for row in sorted(rows, key=lambda row: row["id"]):
        names = (f"labels/{row['id']}{suffix}" for suffix in _LABEL_SUFFIXES)
        label = next((name for name in names if (output / name).is_file()), None)
        known = {name: row[name] for name in _ROW_FIELDS if name in row}
        extra = {name: value for name, value in row.items() if name not in _ROW_FIELDS}
        lists["pretraining" if label is None else "training"].append(Row(**known, label=label, extra=extra))
    drawn = {f"labels/{path.name}" for path in (output / "labels").glob("*") if path.name.endswith(_LABEL_SUFFIXES)}
    astray = drawn - {row.label for row in lists["training"]}
    if astray:
        print(f"{len(astray)} files in labels/ belong to no frame: name each after the id of its frame")
    header = {"name": "XA DICOM frames"}
    write_datalist(output / "datalist.json", {name: tuple(listed) for name, listed in lists.items()}, header)
