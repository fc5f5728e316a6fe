"""One XA object of an export: a de-identified copy of it, or the reason why there is none."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import BinaryIO

import pydicom
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

from cmunet_monai.files.atomic import atomic_path
from cmunet_monai.xa.errors import DamagedDicomError, XAReadError, typed_errors
from cmunet_monai.xa.header import quiet_pydicom
from cmunet_monai.xa.identity import read_identity
from cmunet_monai.xa.run import XARun, read_run
from data_prep.deidentification.burned_in import reason_to_look
from data_prep.deidentification.left_out import without_frames
from data_prep.deidentification.pixels import PlainPixels, plain_pixels
from data_prep.deidentification.rules import deidentify_dataset
from data_prep.ingestion.frames import Job, Record

_PIXEL_DATA = 0x7FE00010
_MAY_DIFFER = {"flags", "burned_in_annotation"}
_OF_FRAMES = {
    *("frames", "frame_time_ms", "r_wave_frames", "representative_frame", "frame_spacing", "damaged_frames"),
    "spacing",
}
"""What a copy that leaves out frames says otherwise."""
_PICTURE = {
    "frames",
    "rows",
    "columns",
    "bits_stored",
    "transfer_syntax",
    "sop_class_uid",
    "photometric_interpretation",
}


def copy_run(task: tuple[Job, Record]) -> Record:
    """Write the copy of a run that `ingestion.frames.inspect` found, unless a person must look at it first."""
    job, found = task
    try:
        with job.source.open() as stream:
            return _copy(job, found, stream)
    except XAReadError as error:
        return replace(found, status="failed", reason=str(error))
    except OSError as error:
        return replace(found, status="failed", reason=f"cannot be read or written ({type(error).__name__})", again=True)
    except ValueError as error:  # of `Source.open`, whose texts name nothing
        return replace(found, status="failed", reason=str(error))


def _copy(job: Job, found: Record, stream: BinaryIO) -> Record:
    run, identity = read_run(stream), read_identity(stream)
    # objects without a Patient ID belong together by study, as far as is known
    known = identity.patient_id or identity.study_instance_uid or identity.sop_instance_uid
    patient_id = known or job.source.name
    issuer = identity.issuer if identity.patient_id else ""
    found = replace(found, patient=job.pseudonyms.patient(patient_id, issuer))
    without_damaged = job.settings.without_damaged_frames
    try:
        pixels = plain_pixels(stream, without_damaged_frames=without_damaged)
    except DamagedDicomError as error:
        hint = "" if without_damaged else "; --without-damaged-frames copies the other frames"
        raise DamagedDicomError(f"{error}{hint}") from None
    reason = None if found.run in job.reviewed else reason_to_look(run, pixels.darkest, pixels.brightest)
    if reason is not None:
        return replace(found, status="quarantined", reason=reason)
    with typed_errors("", "writing its copy"), quiet_pydicom():
        stream.seek(0)
        header = pydicom.dcmread(stream, stop_before_pixels=True)
        repaired = [] if identity.sop_instance_uid else ["SOPInstanceUID"]
        if repaired:
            header.SOPInstanceUID = job.source.name  # is mapped as a UID is
        copy = deidentify_dataset(header, run, job.pseudonyms, patient_id=patient_id, issuer=issuer)
        dataset, unfit = copy.dataset, set(copy.unfit)
        if pixels.left_out:
            dataset, lost = without_frames(dataset, pixels.left_out, run.frames)
            unfit |= set(lost)
        otherwise = _write(job.output / f"{found.patient}/{found.run}.dcm", dataset, pixels, run)
    facts = {
        "unfit": unfit,
        "repaired": {*copy.repaired, *repaired},
        "reads_otherwise": otherwise,
    }
    image = f"{found.patient}/{found.run}.dcm"
    return replace(
        found,
        facts={name: " ".join(sorted(words)) for name, words in facts.items()}
        | {"damaged_frames": " ".join(map(str, pixels.left_out))},
        frames=({"id": found.run, "image": image},),
    )


def _write(path: Path, dataset: Dataset, pixels: PlainPixels, run: XARun) -> set[str]:
    """Write, and read again before it gets its name.

    Returns:
        what the reader says otherwise of the copy, which has lost what did not fit.
    Raises:
        DamagedDicomError: if the copy would show or measure something else.
    """
    dataset.BurnedInAnnotation = "NO"
    dataset.add(DataElement(_PIXEL_DATA, pixels.representation, pixels.value))
    dataset["PixelData"].is_undefined_length = pixels.encapsulated
    may_differ = _MAY_DIFFER | (_OF_FRAMES if pixels.left_out else set())
    with atomic_path(path) as temporary:
        dataset.save_as(temporary, enforce_file_format=True)
        after_run = read_run(temporary)
        before, after = _as_read(run), _as_read(after_run)
        different = {name for name in before if before[name] != after[name]} - may_differ
        refused = different & _PICTURE
        if after_run.spacing.value_mm is not None:  # another size is worse than none
            refused |= different & {"spacing"}
        if refused:
            raise DamagedDicomError(f"its copy reads otherwise in: {' '.join(sorted(refused))}")
    return different


def _as_read(run: XARun) -> dict[str, str]:
    """What the reader says of a run, numbers to six digits: those of more than 16 characters are written shorter."""
    facts = json.loads(json.dumps(asdict(run)), parse_float=lambda text: f"{float(text):.6g}")
    return {name: json.dumps(value) for name, value in facts.items()}
