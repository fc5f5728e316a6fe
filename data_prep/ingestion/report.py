"""What an ingestion leaves for people: tables of files and runs, and a page with a contact sheet."""

from collections import Counter
from collections.abc import Iterable, Sequence
from html import escape
from importlib.metadata import version
from pathlib import Path

from cmunet_monai.files.atomic import write_csv_atomic, write_text_atomic
from data_prep.ingestion.frames import Record

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; max-width: 70em; margin: 2em auto; padding: 0 1em; color: #222 }
table { border-collapse: collapse } td, th { padding: .15em .8em .15em 0; text-align: left; vertical-align: top }
.runs { display: grid; grid-template-columns: repeat(auto-fill, minmax(11em, 1fr)); gap: 1em }
figure { margin: 0; break-inside: avoid } figure img { width: 100%; background: #000 } figcaption { font-size: 12px }
svg { width: 100%; height: 3em }
svg * { fill: none; stroke: #0072b2; stroke-width: 1.5; vector-effect: non-scaling-stroke } line { stroke: #d55e00 }
.sign { margin-top: 3em; border-top: 1px solid #222; width: 22em }
"""
_STATEMENT = (
    "Frames are named by pseudonyms: HMAC-SHA256 of the identifiers with a random key that lies outside this folder. "
    "No name, date, free text, UID or path of the export is in this folder. Pseudonymised frames, and the pictures on "
    "this page, remain personal data (GDPR, recital 26): whoever holds the key, or knows the anatomy, can tell whose "
    "they are. Text-like structure in the picture was searched for by a program, which can miss some: look at the "
    "contact sheet before you sign."
)


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
    patients = {record.patient or record.study or record.run for record in kept}
    frames = sum(len(record.frames) for record in kept)
    reasons = Counter((record.status, record.reason) for record in records if record.status != "kept")
    spacing = Counter(str(record.facts["spacing_source"]) for record in kept)
    quarantined = [record for record in records if record.status == "quarantined"]
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><title>Ingestion report</title>",
        f"<style>{_STYLE}</style><h1>Ingestion report</h1>",
        f"<p>{len(records)} files, of which {len(kept)} runs of {len(patients)} patients were kept: {frames} frames. "
        f"Made with cmunet_monai {escape(version('cmunet_monai'))}. Tables: files.csv, runs.csv.</p>",
        f"<p>{escape(_STATEMENT)}</p>",
        "<h2>Files that were not kept</h2>",
        _table(("status", "reason", "files"), ((*key, str(count)) for key, count in sorted(reasons.items()))),
        "<h2>Size of a pixel at the patient</h2>",
        _table(("source", "runs"), ((source, str(count)) for source, count in sorted(spacing.items()))),
        "<h2>Runs that a person must look at</h2>",
        _table(("run", "reason"), ((record.run or "", record.reason) for record in quarantined)),
        f'<h2>Contact sheet</h2><div class="runs">{"".join(_figure(record) for record in kept)}</div>',
        '<p class="sign">Seen by (name, date, signature)</p></html>\n',
    ]
    return "\n".join(parts)


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows]
    if not lines:
        return "<p>None.</p>"
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    return f"<table><tr>{head}</tr>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"


def _figure(record: Record) -> str:
    images = "".join(f'<img loading=lazy alt="" src="frames/{row["id"]}.png">' for row in record.frames)
    chosen = ", ".join(f"{row['choices']} {row['frame']}" for row in record.frames)
    spacing_mm = record.facts["spacing_mm"]
    spacing = "px size unknown" if spacing_mm is None else f"{spacing_mm:.3f} mm ({record.facts['spacing_source']})"
    lines = (record.run, record.patient or record.study, f"{chosen} of {record.facts['frames']}", spacing)
    text = "<br>".join(line for line in lines if line)
    flags = f"<br>{escape(str(record.facts['flags']))}" if record.facts["flags"] else ""
    return f"<figure>{images}{_curve(record)}<figcaption>{text}{flags}</figcaption></figure>"


def _curve(record: Record) -> str:
    """The filling of each frame as a line, the chosen frames as upright ones."""
    top = max([*record.filling, 1e-9])
    points = " ".join(f"{number},{100 - 100 * value / top:.1f}" for number, value in enumerate(record.filling))
    marks = "".join(f'<line x1="{row["frame"]}" x2="{row["frame"]}" y1="0" y2="100"/>' for row in record.frames)
    width = max(len(record.filling) - 1, 1)
    return f'<svg viewBox="0 0 {width} 100" preserveAspectRatio="none"><polyline points="{points}"/>{marks}</svg>'
