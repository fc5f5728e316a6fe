"""What an ingestion leaves for people: tables of files and runs, and a page with a contact sheet."""

from collections import Counter
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from cmunet_monai.files.atomic import write_csv_atomic, write_text_atomic
from cmunet_monai.pages import render_page
from data_prep.ingestion.frames import Record


def write_reports(records: Sequence[Record], output: Path) -> None:
    """Write `files.csv`, `runs.csv` and `report/index.html` (its pictures are written with the frames)."""
    runs = [record for record in records if record.facts]
    write_csv_atomic(
        output / "files.csv",
        [
            {"file": r.file, "status": r.status, "reason": r.reason, "run": r.run or "", "patient": r.patient or ""}
            for r in records
        ],
    )
    if runs:
        write_csv_atomic(
            output / "runs.csv",
            [
                {"run": r.run, "patient": r.patient or "", "study": r.study or "", "status": r.status}
                | {name: "" if value is None else value for name, value in r.facts.items()}
                | {"chosen_frames": " ".join(str(row["frame"]) for row in r.frames)}
                for r in runs
            ],
        )
    write_text_atomic(output / "report" / "index.html", _page(records, runs))


def _page(records: Sequence[Record], runs: Sequence[Record]) -> str:
    kept = [record for record in runs if record.status == "kept"]
    reasons = Counter((record.status, record.reason) for record in records if record.status != "kept")
    return render_page(
        "data_prep.ingestion",
        "report.html.jinja",
        files=len(records),
        kept=kept,
        patients=len({record.patient or record.study or record.run for record in kept}),
        frames=sum(len(record.frames) for record in kept),
        version=version("cmunet_monai"),
        reasons=[(*reason, count) for reason, count in sorted(reasons.items())],
        spacing=sorted(Counter(str(record.facts["spacing_source"]) for record in kept).items()),
        quarantined=[(record.run or "", record.reason) for record in records if record.status == "quarantined"],
        curve=_curve,
        lines=_lines,
    )


def _lines(record: Record) -> list[str]:
    """What stands below the pictures of a run."""
    chosen = ", ".join(f"{row['choices']} {row['frame']}" for row in record.frames)
    spacing_mm = record.facts["spacing_mm"]
    spacing = "px size unknown" if spacing_mm is None else f"{spacing_mm:.3f} mm ({record.facts['spacing_source']})"
    lines = (record.run, record.patient or record.study, f"{chosen} of {record.facts['frames']}", spacing)
    return [str(line) for line in (*lines, record.facts["flags"]) if line]


def _curve(record: Record) -> list[str]:
    """Points of the filling of each frame, from below: 100 is empty."""
    top = max([*record.filling, 1e-9])
    return [f"{number},{100 - 100 * value / top:.1f}" for number, value in enumerate(record.filling)]
