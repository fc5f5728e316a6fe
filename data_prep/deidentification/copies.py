"""One XA object of an export: a de-identified copy of it, or the reason why there is none."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import BinaryIO

import pydicom
from pydicom.dataelem import DataElement

from cmunet_monai.atomic import atomic_path
from cmunet_monai.readers.xa_errors import DamagedDicomError, XAReadError, typed_errors
from cmunet_monai.readers.xa_header import quiet_pydicom
from cmunet_monai.readers.xa_identity import read_identity
from cmunet_monai.readers.xa_run import XARun, read_run
from data_prep.deidentification.burned_in import reason_to_look
from data_prep.deidentification.pixels import PlainPixels, plain_pixels
from data_prep.deidentification.rules import Deidentified, deidentify_dataset
from data_prep.ingestion.frames import Job, Record

_PIXEL_DATA = 0x7FE00010
_MAY_DIFFER = {"flags", "burned_in_annotation"}


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
    patient_id = identity.patient_id or identity.study_instance_uid or identity.sop_instance_uid
    issuer = identity.issuer if identity.patient_id else ""
    found = replace(found, patient=job.pseudonyms.patient(patient_id, issuer))
    pixels = plain_pixels(stream)
    reason = None if found.run in job.reviewed else reason_to_look(run, pixels.darkest, pixels.brightest)
    if reason is not None:
        return replace(found, status="quarantined", reason=reason)
    with typed_errors("", "writing its copy"), quiet_pydicom():
        stream.seek(0)
        header = pydicom.dcmread(stream, stop_before_pixels=True)
        try:
            copy = deidentify_dataset(header, run, job.pseudonyms, patient_id=patient_id, issuer=issuer)
        except ValueError as error:
            raise DamagedDicomError(str(error)) from None
        _write(job.output / f"{found.patient}/{found.run}.dcm", copy, pixels, run)
    name = f"{found.patient}/{found.run}.dcm"
    return replace(found, facts={"unfit": " ".join(copy.unfit)}, frames=({"id": found.run, "image": name},))


def _write(path: Path, copy: Deidentified, pixels: PlainPixels, run: XARun) -> None:
    """Write, and read again before it gets its name."""
    dataset = copy.dataset
    dataset.BurnedInAnnotation = "NO"
    dataset.add(DataElement(_PIXEL_DATA, pixels.representation, pixels.value))
    dataset["PixelData"].is_undefined_length = pixels.encapsulated
    with atomic_path(path) as temporary:
        dataset.save_as(temporary, enforce_file_format=True)
        before, after = _as_read(run), _as_read(read_run(temporary))
        different = sorted(name for name in before if before[name] != after[name])
        if different:
            raise DamagedDicomError(f"its copy reads otherwise in: {' '.join(different)}")


def _as_read(run: XARun) -> dict[str, str]:
    """What the reader says of a run, numbers to six digits: those of more than 16 characters are written shorter."""
    facts = json.loads(json.dumps(asdict(run)), parse_float=lambda text: f"{float(text):.6g}")
    return {name: json.dumps(value) for name, value in facts.items() if name not in _MAY_DIFFER}
