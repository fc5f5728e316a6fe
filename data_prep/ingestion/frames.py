"""One XA object of an export: its frames chosen, written without anything that identifies, and described."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import cv2
import nibabel
import numpy as np
from numpy.typing import NDArray

from cmunet_monai.files.atomic import atomic_path
from cmunet_monai.files.nifti import as_nifti
from cmunet_monai.pseudonyms import Pseudonyms
from cmunet_monai.xa.best_frame import (
    FillingCurve,
    early_frame,
    filling_curve,
    fullest_frame,
    late_frame,
    measure_frame,
)
from cmunet_monai.xa.errors import NotAngiographyError, UnsupportedDicomError, XAReadError
from cmunet_monai.xa.identity import read_identity
from cmunet_monai.xa.pixels import FloatFrame
from cmunet_monai.xa.polarity import contrast_may_be_bright
from cmunet_monai.xa.run import XARun, read_frames, read_run, read_sound_frames
from data_prep.deidentification.burned_in import TemporalRange, reason_to_look
from data_prep.ingestion.sources import Source

Choice = Literal["fullest", "measure", "early", "late", "all"]
Status = Literal["kept", "passed over", "quarantined", "failed", "duplicate"]
CHOICES: tuple[Choice, ...] = ("fullest", "measure", "early", "late", "all")
THUMBNAIL_PX = 160
_FRAMES_KEPT = 8  # for the check of polarity
_SHOWN_FACTS = (
    *("frames", "rows", "columns", "bits_stored", "transfer_syntax", "photometric_interpretation"),
    *("intensity_relationship", "frame_time_ms", "primary_angle_deg", "secondary_angle_deg", "vendor", "plane"),
    "fluoroscopy",
)


@dataclass(frozen=True)
class Settings:
    """What the outputs depend on, besides the files."""

    frames: tuple[Choice, ...] = ("fullest",)
    every: int = 1
    require_xa: bool = True
    spacing_mm: float | None = None
    keep_flagged: bool = False
    without_damaged_frames: bool = False


@dataclass(frozen=True)
class Job:
    """A file to work on, and where its outputs go."""

    source: Source
    pseudonyms: Pseudonyms
    output: Path
    settings: Settings
    reviewed: frozenset[str] = frozenset()

    @property
    def file(self) -> str:
        """The pseudonym of the file."""
        return self.pseudonyms.source(self.source.name)


@dataclass(frozen=True)
class Record:
    """What became of a file, in words that identify nobody.

    Attributes:
        file, run, patient, study: pseudonyms; the last three None where the header was not read.
        status, reason: what was done with it, and why if it was not kept.
        facts: of the run, as the CSV of runs shows them.
        frames: of each frame that was written: its row of the data list.
        filling: the filling curve, frame by frame.
        again: whether a later run may do better (a time limit, a full disk): it is not done then.
    """

    file: str
    status: Status
    reason: str = ""
    run: str | None = None
    patient: str | None = None
    study: str | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    frames: tuple[dict[str, Any], ...] = ()
    filling: tuple[float, ...] = ()
    again: bool = False

    @property
    def damaged(self) -> bool:
        """Whether frames of the run are damaged, and no part of its outputs."""
        return bool(self.facts.get("damaged_frames"))


def inspect(job: Job) -> tuple[Record, dict[str, str]]:
    """Read the header alone: a run that can be ingested is `kept`, anything else has its reason.

    Returns:
        the record, and what its pseudonyms stand for: for the map beside the key, and nothing else.
    """
    try:
        with job.source.open() as stream:
            read_run(stream, require_xa=job.settings.require_xa)
            identity = read_identity(stream)
    except (NotAngiographyError, UnsupportedDicomError) as error:
        return Record(job.file, "passed over", str(error)), {}
    except XAReadError as error:
        return Record(job.file, "failed", str(error)), {}
    except OSError as error:
        return Record(job.file, "failed", f"cannot be opened ({type(error).__name__})", again=True), {}
    except ValueError as error:  # of `Source.open`, whose texts name nothing
        return Record(job.file, "failed", str(error)), {}
    names, uid = job.pseudonyms, identity.sop_instance_uid
    patient = names.patient(identity.patient_id, identity.issuer) if identity.patient_id else None
    study = names.study(identity.study_instance_uid) if identity.study_instance_uid else None
    run = names.run(uid or job.source.name)
    issuer = f" (issuer {identity.issuer})" if identity.issuer else ""
    originals = {
        run: uid or job.source.name,
        patient: identity.patient_id + issuer,
        study: identity.study_instance_uid,
    }
    record = Record(job.file, "kept", run=run, patient=patient, study=study)
    return record, {name: original for name, original in originals.items() if name is not None}


def ingest(task: tuple[Job, Record]) -> Record:
    """Choose and write the frames of a run that `inspect` found; nothing is written of one that is not kept."""
    job, found = task
    require_xa, spacing_mm = job.settings.require_xa, job.settings.spacing_mm
    try:
        with job.source.open() as stream:
            run = read_run(stream, require_xa=require_xa, spacing_mm=spacing_mm)
            passage = _Passage(run.frames)
            damaged: dict[int, str] = {}
            frames = read_sound_frames(stream, damaged=damaged, require_xa=require_xa, windowed=False)
            curve = filling_curve(passage.watch(frames))
            bright = contrast_may_be_bright(np.stack(passage.kept))
            flags = (*run.flags, *(("contrast_may_be_bright",) if bright else ()))
            flags = (*flags, *(("frames_damaged",) if damaged else ()))
            filling = tuple(round(float(value), 4) for value in curve.filling)
            facts = _facts(run, flags) | {"damaged_frames": " ".join(map(str, damaged))}
            found = replace(found, reason=left_out(damaged, run.frames), facts=facts, filling=filling)
            reviewed = found.run in job.reviewed
            reason = None if reviewed else reason_to_look(run, passage.darkest, passage.brightest)
            if reason is not None:
                return replace(found, status="quarantined", reason=reason)
            chosen = _choose(curve, run, job.settings)
            obstacle = _obstacle(run, chosen, bright)
            if obstacle is not None and not (chosen and job.settings.keep_flagged):
                return replace(found, status="passed over", reason=obstacle)
            pixels = read_frames(stream, chosen, require_xa=require_xa, windowed=False)
            rows = [_write(job, found, run, index, frame) for index, frame in zip(chosen, pixels, strict=True)]
    except XAReadError as error:
        return replace(found, status="failed", reason=str(error))
    except OSError as error:
        return replace(found, status="failed", reason=f"cannot be read or written ({type(error).__name__})", again=True)
    return replace(found, frames=tuple(row | {"choices": chosen[row["frame"]]} for row in rows))


class _Passage(TemporalRange):
    """Frames that pass by once: their temporal range, and a few of them."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.kept_numbers = set(np.linspace(0, count - 1, _FRAMES_KEPT).astype(int).tolist())
        self.kept: list[FloatFrame] = []

    def watch(self, frames: Iterable[FloatFrame | None]) -> Iterator[FloatFrame | None]:
        for number, frame in enumerate(frames):
            if frame is not None:
                if number in self.kept_numbers or not self.kept:
                    self.kept.append(frame.copy())
                self.add(frame)
            yield frame


def left_out(damaged: Mapping[int, str], frames: int) -> str:
    """Which of the frames of a run are damaged, and what is wrong with the first of them; nothing if none is."""
    if not damaged:
        return ""
    first = next(iter(damaged))
    others = ", ".join(map(str, list(damaged)[1:9])) + (" and more" if len(damaged) > 9 else "")
    also = f"; damaged too: {others}" if others else ""
    return f"{len(damaged)} of {frames} frames left out: frame {first} is damaged ({damaged[first]}){also}"


def _obstacle(run: XARun, chosen: Mapping[int, str], bright: bool) -> str | None:
    """Why the frames of a run should not go into the data, if so."""
    if not chosen:
        kind = "fluoroscopy: " if run.fluoroscopy else ""
        return f"{kind}no filled coronary tree is seen" + (" (contrast looks bright, not dark)" if bright else "")
    if run.subtracted:
        return "subtracted (DSA): --keep-flagged takes it"
    if bright:
        return "contrast looks bright, not dark, against its header: --keep-flagged takes it"
    return None


def _choose(curve: FillingCurve, run: XARun, settings: Settings) -> dict[int, str]:
    """Frame -> what it was chosen as (several words where one frame answers several choices), in order of frames.

    A single frame is taken as it is: it has no course over time to be judged by. `all` takes the undamaged ones among
    every `settings.every`-th frame, also those before the contrast agent, of a run that shows a filled tree.
    """
    if run.frames == 1:
        return {0: "single"}
    every_nth = range(0, run.frames if curve.filled.any() else 0, settings.every)
    frames: dict[Choice, Sequence[int | None]] = {
        "fullest": [fullest_frame(curve)],
        "measure": [measure_frame(curve, r_wave_frames=run.r_wave_frames)],
        "early": [early_frame(curve)],
        "late": [late_frame(curve)],
        "all": [index for index in every_nth if curve.whole[index]],
    }
    chosen: dict[int, list[str]] = {}
    for choice in settings.frames:
        for index in frames[choice]:
            if index is not None:
                chosen.setdefault(index, []).append(choice)
    return {index: " ".join(chosen[index]) for index in sorted(chosen)}


def _write(job: Job, found: Record, run: XARun, index: int, frame: FloatFrame) -> dict[str, Any]:
    """Write a frame as NIfTI, and its thumbnail; return its row of the data list."""
    spacing = run.frame_spacing[index] if run.frame_spacing else run.spacing
    name = f"{found.run}_{index:04d}"
    row: dict[str, Any] = {"id": name, "image": f"images/{name}.nii.gz"}
    row |= {"patient_id": found.patient} if found.patient else {"group": found.study or found.run}
    row |= {"spacing_mm": spacing.value_mm, "spacing_source": spacing.source, "run": found.run, "frame": index}
    phase = cardiac_phase(index, run.r_wave_frames)
    row |= {} if phase is None else {"cardiac_phase": round(phase, 3)}
    with atomic_path(job.output / row["image"]) as temporary:
        nibabel.save(as_nifti(frame, spacing.value_mm, aspect=spacing.aspect), temporary)
    _, content = cv2.imencode(".png", _thumbnail(frame))
    with atomic_path(job.output / "report" / "frames" / f"{name}.png") as temporary:
        temporary.write_bytes(content.tobytes())  # cv2.imwrite leaves an empty file on a full disk, and says nothing
    return row


def cardiac_phase(index: int, r_wave_frames: tuple[int, ...] | None) -> float | None:
    """Where in its heartbeat a frame lies: 0 at an R wave, towards 1 at the next; None outside two known R waves."""
    waves = sorted(r_wave_frames or ())
    for start, stop in pairwise(waves):
        if start <= index < stop:
            return (index - start) / (stop - start)
    return None


def _thumbnail(frame: FloatFrame) -> NDArray[np.uint8]:
    scale = THUMBNAIL_PX / max(frame.shape)
    small = cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    low, high = np.percentile(small, [0.5, 99.5])
    return (255 * np.clip((small - low) / max(high - low, 1e-6), 0, 1)).astype(np.uint8)


def _facts(run: XARun, flags: tuple[str, ...]) -> dict[str, Any]:
    """What the table of runs shows."""
    shown = {name: getattr(run, name) for name in _SHOWN_FACTS}
    return shown | {
        "spacing_mm": run.spacing.value_mm,
        "spacing_source": run.spacing.source,
        "spacing_notes": " ".join(run.spacing.notes),
        "r_waves": len(run.r_wave_frames or ()),
        "flags": " ".join(flags),
    }
