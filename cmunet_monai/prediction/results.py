"""What inference leaves behind, frame by frame."""

import json
import logging
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
from ignite.engine import Engine, Events
from monai.utils import CommonKeys
from numpy.typing import NDArray

from cmunet_monai.files.atomic import write_csv_atomic, write_text_atomic
from cmunet_monai.files.lock import alone
from cmunet_monai.files.own_results import RESEARCH_USE, check_free, is_marked, mark_results
from cmunet_monai.measurements import Measurements, measure_arteries, narrowing_rows, segment_rows
from cmunet_monai.prediction.frame_by_frame import FrameByFrame, reason_of
from cmunet_monai.prediction.run_outputs import read_masks, runs_of, write_animation
from cmunet_monai.pseudonyms import Pseudonyms
from cmunet_monai.quality import assess_frame
from cmunet_monai.readers.frame_folder import add_passed_over
from cmunet_monai.writers import draw_outline, write_dicom_seg, write_map, write_mask, write_picture

logger = logging.getLogger(__name__)

Row = Mapping[str, Any]

VESSEL, NO_VESSEL = "vessel", "no vessel found"
OF_FRAMES = ("masks", "overlays", "probabilities", "uncertainty")
OF_RUNS = {"animations": ".gif", "seg": ".dcm"}
FOLDERS = (*OF_FRAMES, *OF_RUNS, "records")


class FrameResults:
    """Mask, pictures, measurements and quality of every frame; a second run goes on with the frames that are left.

    As a handler of MONAI's evaluator it writes, for a row with the id `b/a.png` (of DICOM, the pseudonym of the run and
    the number of the frame): `masks/b/a.png` (`.nii.gz` of DICOM), `overlays/b/a.png`, on request `probabilities/` and
    `uncertainty/`, and last of all `records/b/a.png.json`, which says that the frame is done, and how large its files
    are. `finish` makes of all records `statistics.json`, `segments.csv` and `narrowings.csv`, and of each DICOM run
    `animations/` and `seg/`, and removes what earlier runs have written of frames that are not asked for any more. What
    fails for a frame, be it reading, the network, measuring or writing, costs that frame alone: it gets no results, and
    a line in `passed_over.csv`.

    Args:
        rows: of `cmunet_monai.readers.list_frames`.
        output_dir: where everything goes.
        settings: what results depend on; they go into each record, and those of an earlier run must be the same.
        overlays: draw the outline over each frame.
        probabilities: write the probability of vessel too.
        narrowings: look for candidate narrowings, and draw them.
        dicom_seg: write a DICOM segmentation of each run, which carries this identity: `pseudonym` or `source`.
        key: file of the secret key that the rows were named with; needed for `pseudonym`.
    Raises:
        FileExistsError: if two rows would write the same file, or the folder holds results of other frames alone, or
            files of others where results would go.
        ValueError: if the folder holds records made with other settings, or `dicom_seg` is another word.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        output_dir: str | os.PathLike[str],
        *,
        settings: Mapping[str, Any],
        overlays: bool = True,
        probabilities: bool = False,
        narrowings: bool = False,
        dicom_seg: Literal["pseudonym", "source"] | None = None,
        key: str | os.PathLike[str] | None = None,
    ) -> None:
        if dicom_seg not in (None, "pseudonym", "source"):
            raise ValueError(f"`dicom_seg` must be `pseudonym`, `source` or null, got {dicom_seg!r}")
        self.output_dir = Path(output_dir)
        wanted = {"overlays": overlays, "probabilities": probabilities, "narrowings": narrowings}
        self.settings = json.loads(json.dumps({**settings, **wanted}))
        self.rows = {row["id"]: row for row in rows}
        self.overlays = overlays
        self.probabilities = probabilities
        self.narrowings = narrowings
        self.dicom_seg = dicom_seg
        self.key = key
        self.lost: dict[str, str] = {}
        _check_names(rows)
        for folder in FOLDERS:
            check_free(self.output_dir / folder)
        self._check_earlier()
        self.pending = [row for row in rows if not self._is_done(row)]
        if len(self.pending) < len(rows):
            logger.info("%d of %d frames are done already", len(rows) - len(self.pending), len(rows))

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        state: Any = engine.state
        for item, output in zip(state.batch, state.output, strict=True):
            self._write(self.rows[output[CommonKeys.IMAGE].meta["frame_id"]], item["frame"], output)

    def run(self, evaluator: Any) -> None:
        """Do what is left, frame by frame where one fails, then write the tables.

        Args:
            evaluator: MONAI's, whose data are `pending` and whose handlers hold this object.
        Raises:
            BlockingIOError: if another process is at work in the same folder.
        """
        busy = f"another process is writing to {self.output_dir}: wait for it, or choose another output folder"
        with alone(self.output_dir / ".predict.lock", busy):
            for path in (path for folder in FOLDERS for path in (self.output_dir / folder).rglob(".tmp-*")):
                path.unlink()  # of a run that was killed
            if self.pending:
                failed = FrameByFrame(evaluator).run()
                for index, reason in failed.items():
                    row = self.pending[index]
                    self._remove(row["id"])
                    self.lost[row["id"]] = reason
            self.finish()

    def finish(self) -> None:
        """Write the tables of all frames, and what a whole run gets."""
        records = list(self.records())
        self._remove_leftovers()
        refused = {record["id"] for record in records if record["quality"]["verdict"] == "refused"}
        done = {record["id"] for record in records}
        for run, rows in runs_of([row for row in self.rows.values() if row["id"] in done]):
            self._remove_of_run(run)
            try:
                if self.overlays and len(rows) > 1:
                    mark_results(self.output_dir / "animations")
                    animation = self.output_dir / "animations" / f"{run}.gif"
                    overlays = [self.overlay_path(row) for row in rows]
                    write_animation(overlays, animation, frame_time_ms=rows[0]["frame_time_ms"])
                if self.dicom_seg is not None:
                    self._write_seg(run, [row for row in rows if row["id"] not in refused])
            except Exception as error:  # costs what the run as a whole gets; its frames are done
                self.lost[run] = (
                    f"its moving picture or segmentation could not be made ({reason_of(error, Path(rows[0]['image']))})"
                )
        add_passed_over(self.lost, self.output_dir / "passed_over.csv")
        for table in ("segments", "narrowings"):
            rows = [
                {"id": record["id"], "verdict": record["quality"]["verdict"], **row, "use": RESEARCH_USE}
                for record in records
                for row in record.pop(table)
            ]
            if table == "segments" or self.narrowings:
                write_csv_atomic(self.output_dir / f"{table}.csv", rows, columns=["id"])
        verdicts = Counter(record["quality"]["verdict"] for record in records)
        summary = {
            "use": RESEARCH_USE,
            "settings": self.settings,
            "frames": len(records),
            "verdicts": {name: verdicts.get(name, 0) for name in ("ok", "review", "refused")},
            "no_vessel_found": sum(record["finding"] == NO_VESSEL for record in records),
            "records": [
                {k: v for k, v in record.items() if k not in ("settings", "source", "files")} for record in records
            ],
        }
        write_text_atomic(self.output_dir / "statistics.json", json.dumps(summary, indent=2) + "\n")

    def _write_seg(self, run: str, rows: Sequence[Row]) -> None:
        path = self.output_dir / "seg" / f"{run}.dcm"
        if not rows:
            logger.warning("%s: no segmentation, since every frame was refused", run)
            return
        pseudonyms = None
        if self.dicom_seg == "pseudonym":
            if self.key is None:
                raise ValueError("`key` must name the file of the pseudonyms' secret for a segmentation by pseudonym")
            pseudonyms = Pseudonyms.open(self.key, output=self.output_dir)
        mark_results(path.parent)
        write_dicom_seg(
            read_masks([self.mask_path(row) for row in rows]),
            [row["frame_index"] for row in rows],
            rows[0]["image"],
            path,
            identity=self.dicom_seg or "pseudonym",
            pseudonyms=pseudonyms,
            algorithm_name="cmunet_monai",
            algorithm_version=version("cmunet_monai"),
        )

    def records(self) -> Iterator[dict[str, Any]]:
        """What was found in each frame that is done, in the order of the rows."""
        for name in self.rows:
            record = self._read_record(name)
            if record is not None:
                yield record

    def mask_path(self, row: Row) -> Path:
        return self.output_dir / "masks" / _map_name(row)

    def overlay_path(self, row: Row) -> Path:
        return self.output_dir / "overlays" / _picture_name(row)

    def _write(self, row: Row, frame: Any, output: Mapping[str, Any]) -> None:
        for folder in ("records", "masks"):
            mark_results(self.output_dir / folder)
        write_text_atomic(self._record(row["id"]), "{}\n")  # begun: should this be killed, its files are known as its
        mask, probability = output[CommonKeys.PRED].cpu(), output["probability"].cpu()
        upright = _upright(probability)
        measured = measure_arteries(
            upright,
            mask=_upright(mask) > 0,
            spacing_mm=row["spacing_mm"],
            narrowings=self.narrowings,
            resolution_px=self._resolution_px(upright),
        )
        quality = assess_frame(
            _upright(frame), upright, concerns=row.get("concerns", ()), agreement=output.get("agreement")
        )
        geometry = {"frame": None if "run" in row else row["image"], "spacing_mm": row["spacing_mm"]}
        write_mask(mask, self.mask_path(row), **geometry)
        written = [self.mask_path(row)]
        maps = {"probabilities": probability if self.probabilities else None, "uncertainty": output.get("uncertainty")}
        for folder, values in maps.items():
            if values is not None:
                mark_results(self.output_dir / folder)
                written.append(self.output_dir / folder / _map_name(row))
                write_map(values.cpu(), written[-1], **geometry)
        if self.overlays:
            mark_results(self.output_dir / "overlays")
            picture = draw_outline(frame.cpu(), mask, narrowings=measured.narrowings, title=_title(row, quality))
            write_picture(picture, self.overlay_path(row))
            written.append(self.overlay_path(row))
        sizes = {path.relative_to(self.output_dir).as_posix(): path.stat().st_size for path in written}
        record = self._facts(row, mask, measured) | {"quality": asdict(quality), "files": sizes}
        write_text_atomic(self._record(row["id"]), json.dumps(record) + "\n")

    def _resolution_px(self, upright: NDArray[Any]) -> float:
        """One pixel, or one of the network's where the frame was made smaller for it."""
        return max(1.0, max(upright.shape) / max(self.settings.get("image_size") or upright.shape))

    def _facts(self, row: Row, mask: Any, measured: Measurements) -> dict[str, Any]:
        share = float(np.mean(np.asarray(mask) > 0))
        return {
            "id": row["id"],
            "run": row.get("run"),
            "frame_index": row.get("frame_index"),
            "spacing_mm": row["spacing_mm"],
            "spacing_source": row["spacing_source"],
            "finding": VESSEL if share else NO_VESSEL,
            "vessel_share": round(share, 5),
            **_rounded(_sums(measured)),
            "segments": [_rounded(segment) for segment in segment_rows(measured)],
            "narrowings": [_rounded(narrowing) for narrowing in narrowing_rows(measured)],
            "source": _source(row),
            "settings": self.settings,
        }

    def _record(self, name: str) -> Path:
        return self.output_dir / "records" / f"{name}.json"

    def _read_record(self, name: str) -> dict[str, Any] | None:
        """The record of a frame that is done; None where there is none, or it is damaged."""
        try:
            record = json.loads(self._record(name).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, RecursionError):
            record = None
        if not _is_record(record, name):
            if record != {}:
                logger.warning("%s is damaged: the frame is done again", self._record(name))
            return None
        return dict(record)

    def _check_earlier(self) -> None:
        """Results of an earlier run in this folder must be of some of these frames."""
        names = self._recorded()
        runs = {row["run"] for row in self.rows.values() if "run" in row}
        if names and not any(name in self.rows or name.rpartition("_")[0] in runs for name in names):
            raise FileExistsError(
                f"{self.output_dir} holds results of other frames ({names[0]} and {len(names) - 1} more): choose "
                "another output folder, or remove them"
            )

    def _recorded(self) -> list[str]:
        """Ids of all frames that have a record in the folder."""
        folder = self.output_dir / "records"
        if not is_marked(folder):
            return []
        return sorted(path.relative_to(folder).as_posix().removesuffix(".json") for path in folder.rglob("*.json"))

    def _remove_leftovers(self) -> None:
        """Remove results of frames that are not asked for any more: what lies in the folder is what the tables say."""
        left = [name for name in self._recorded() if name not in self.rows]
        for name in left:
            self._remove(name)
            self._remove_of_run(name.rpartition("_")[0])
        if left:
            logger.info("results of %d frames that are not asked for any more are removed", len(left))

    def _remove(self, name: str) -> None:
        """Remove what a frame has left, whatever is left of its record."""
        kept = {
            path
            for row in self.rows.values()
            if row["id"] != name
            for path in (self.mask_path(row), self.overlay_path(row))
        }
        for folder in (self.output_dir / folder for folder in OF_FRAMES):
            for path in (folder / name, folder / f"{name}.nii.gz", folder / f"{name}.png"):
                if is_marked(folder) and path.is_file() and path not in kept:
                    path.unlink()
        self._record(name).unlink(missing_ok=True)

    def _remove_of_run(self, run: str) -> None:
        for folder, suffix in OF_RUNS.items():
            if run and is_marked(self.output_dir / folder):
                (self.output_dir / folder / f"{run}{suffix}").unlink(missing_ok=True)

    def _is_done(self, row: Row) -> bool:
        record = self._read_record(row["id"])
        if record is None:
            return False
        before = record["settings"]
        if before != self.settings:
            changed = sorted(key for key in before.keys() | self.settings if before.get(key) != self.settings.get(key))
            raise ValueError(
                f"{self.output_dir} holds results made with another {', '.join(changed)}: choose another output folder"
            )
        if any(_size(self.output_dir / name) != size for name, size in record["files"].items()):
            return False  # lost, empty or cut meanwhile
        return bool(record["source"] == _source(row) and record["spacing_mm"] == row["spacing_mm"])


def _is_record(record: Any, name: str) -> bool:
    """Whether this is the whole record of a frame."""
    kinds: dict[str, type] = {"settings": dict, "quality": dict, "files": dict, "segments": list, "narrowings": list}
    return (
        isinstance(record, dict)
        and record.get("id") == name
        and all(isinstance(record.get(key), kind) for key, kind in kinds.items())
        and record["quality"].get("verdict") in ("ok", "review", "refused")
        and all(isinstance(row, dict) for row in (*record["segments"], *record["narrowings"]))
        and {"finding", "spacing_mm", "source"} <= record.keys()
    )


def _size(path: Path) -> int | None:
    """In bytes; None where there is no such file."""
    return path.stat().st_size if path.is_file() else None


def _check_names(rows: Sequence[Row]) -> None:
    for name_of in (_map_name, _picture_name):
        seen: dict[str, str] = {}
        for row in rows:
            name = name_of(row)
            if name in seen:
                raise FileExistsError(
                    f"{seen[name]} and {row['id']} would write the same file {name}: rename one, or put them into "
                    "folders of their own"
                )
            seen[name] = row["id"]


def _map_name(row: Row) -> str:
    return f"{row['id']}.nii.gz" if "run" in row else row["id"]


def _picture_name(row: Row) -> str:
    return row["id"] if row["id"].lower().endswith(".png") else f"{row['id']}.png"


def _sums(measured: Measurements) -> dict[str, Any]:
    """Of all segments: their number and length, and the mean diameter of all points, each a pixel of length."""
    diameters = np.concatenate([np.empty(0), *(segment.diameter_px for segment in measured.segments)])
    mean_px = float(np.nanmean(diameters)) if np.isfinite(diameters).any() else None
    mm = measured.spacing_mm
    return {
        "segment_count": len(measured.segments),
        "length_px": sum(segment.length_px for segment in measured.segments),
        "mean_diameter_px": mean_px,
        "mean_diameter_mm": None if mean_px is None or mm is None else mean_px * mm,
        "narrowing_count": len(measured.narrowings),
    }


def _rounded(facts: Mapping[str, Any]) -> dict[str, Any]:
    """To a thousandth of a pixel or mm, beyond which nothing is measured."""
    return {name: round(value, 3) if isinstance(value, float) else value for name, value in facts.items()}


def _source(row: Row) -> list[int]:
    """Size and time of change of the file, by which a changed one is known."""
    facts = os.stat(row["image"])
    return [facts.st_size, facts.st_mtime_ns]


def _upright(array: Any) -> NDArray[Any]:
    """(1, W, H) of MONAI's axes -> (H, W), row 0 at the top."""
    return np.asarray(array)[0].T


def _title(row: Row, quality: Any) -> str:
    reasons = ": " + ", ".join(quality.reasons).replace("_", " ") if quality.reasons else ""
    return f"{row['id']}   {quality.verdict}{reasons}"
