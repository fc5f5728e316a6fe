"""A data set of synthetic cine runs in a folder: DICOM files, masks and truth, and one list of them.

OUTPUT/dicom/PATIENT/RUN.dcm    X-Ray Angiographic Image Storage, one run
OUTPUT/masks/RUN.nii.gz         uint8 (column, row, frame): 1 where a filled artery is
OUTPUT/truth/RUN.json           centrelines, diameters, stenoses, filling, heartbeat, spacing
OUTPUT/cines.json               the list, written last
"""

import gzip
import json
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

from cmunet_monai.files.atomic import atomic_path, write_text_atomic
from data_prep.datalist import read_json_object
from data_prep.synthetic.cine import MIN_FRAMES, SyntheticCine, branch_label, synthesize_cine
from data_prep.synthetic.folder import check_folder
from data_prep.synthetic.vendors import VENDORS
from data_prep.synthetic.xa_file import TRANSFER_SYNTAX_NAMES, write_xa
from data_prep.workers import each

LISTING = "cines.json"
_SETTINGS_KEY = "synthesize_cine"


@dataclass(frozen=True)
class CineSettings:
    """What determines every byte of the data set."""

    patients: int
    runs_per_patient: int
    frames: int
    size: int
    seed: int
    min_calibre_mm: float
    transfer_syntax: str

    def __post_init__(self) -> None:
        if self.patients < 1:
            raise ValueError(f"--patients must be 1 or more, got {self.patients}")
        if self.runs_per_patient < 1:
            raise ValueError(f"--runs-per-patient must be 1 or more, got {self.runs_per_patient}")
        if self.frames < MIN_FRAMES:
            raise ValueError(f"--frames must be {MIN_FRAMES} or more with --cine, got {self.frames}")
        many_bits = any(VENDORS[patient % len(VENDORS)].bits_stored > 8 for patient in range(self.patients))
        if self.transfer_syntax == "jpeg-baseline" and many_bits:
            raise ValueError(
                "--transfer-syntax jpeg-baseline holds 8 bits, but the X-ray systems of some patients store 12: take "
                "jpeg-lossless, or --patients 1"
            )

    @property
    def of_a_run(self) -> dict[str, Any]:
        """What determines the bytes of a run, besides its patient and number: not how many others there are."""
        settings = asdict(self)
        del settings["patients"], settings["runs_per_patient"]
        return settings

    def place(self, index: int) -> tuple[int, int]:
        """Patient and run within the patient of the data set's `index`-th run."""
        return divmod(index, self.runs_per_patient)

    def row(self, index: int) -> dict[str, str]:
        """The list's entry for the data set's `index`-th run."""
        patient, run = self.place(index)
        patient_id = f"synthetic_{self.seed}_{patient:05d}"
        row_id = f"{patient_id}_run{run:02d}"
        return {
            "id": row_id,
            "patient_id": patient_id,
            "dicom": f"dicom/{patient_id}/{row_id}.dcm",
            "mask": f"masks/{row_id}.nii.gz",
            "truth": f"truth/{row_id}.json",
        }


def write_cines(output: Path, settings: CineSettings, *, workers: int) -> Path:
    """Write the data set; runs that are there are left as they are.

    Returns:
        the path of the list.
    Raises:
        ValueError: `output` holds something else.
    """
    count = settings.patients * settings.runs_per_patient
    rows = [settings.row(index) for index in range(count)]
    files = [row[kind] for row in rows for kind in ("dicom", "mask", "truth")]
    check_folder(output, [*files, LISTING], listing=LISTING, key=_SETTINGS_KEY, settings=asdict(settings))
    write = partial(_write_run, output, settings)
    each(write, range(count), workers=workers, title="synthesizing", unit="run")
    document = {
        "name": "synthetic coronary angiography runs",
        _SETTINGS_KEY: asdict(settings),
        "mask_axes": ["column", "row", "frame"],
        "label_values": {"0": "background", "1": "filled artery"},
        "cines": rows,
    }
    write_text_atomic(output / LISTING, json.dumps(document, indent=2) + "\n")
    return output / LISTING


def truth_document(cine: SyntheticCine) -> dict[str, Any]:
    """What is true of a run, as JSON; pixels count from 0 at the first pixel's centre, frames from 0."""
    reference = cine.reference_frame
    lines = {line.branch: line for line in cine.truth.centrelines}
    stenoses = []
    for stenosis in cine.stenoses:
        line = lines[branch_label(cine.tree, stenosis.branch)]
        stenoses.append(
            {
                "branch": line.branch,
                "point": stenosis.point,
                "column_row_px": _rounded(line.points_px[reference, stenosis.point], 3),
                "diameter_stenosis_percent": stenosis.percent,
                "diameter_mm": round(float(line.diameter_mm[stenosis.point]), 4),
                "healthy_diameter_mm": round(
                    2 * float(cine.tree.branches[stenosis.branch].healthy_radius_mm[stenosis.point]), 4
                ),
                "half_length_mm": round(stenosis.half_length_mm, 3),
            }
        )
    return {
        "artery": cine.side,
        "frames": len(cine.frames),
        "frame_time_ms": cine.motion.frame_time_ms,
        "spacing_mm": cine.spacing_mm,
        "primary_angle_deg": cine.view.primary_deg,
        "secondary_angle_deg": cine.view.secondary_deg,
        "manufacturer": cine.vendor.name,
        "contrast": cine.bolus is not None,
        "filling": _rounded(cine.truth.filling, 4),
        "opacity": _rounded(cine.truth.opacity, 4),
        "reference_frame": reference,
        "r_wave_frames": list(cine.r_wave_frames),
        "heart_period_ms": round(cine.motion.period_ms, 3),
        "contraction": _rounded(cine.motion.contraction, 5),
        "stenoses": stenoses,
        "centrelines": [
            {
                "branch": line.branch,
                "column_row_px": _rounded(line.points_px[reference], 2),
                "diameter_mm": _rounded(line.diameter_mm, 3),
                "diameter_px": _rounded(line.diameter_px[reference], 3),
                "distance_mm": _rounded(line.distance_mm, 2),
            }
            for line in cine.truth.centrelines
        ],
    }


def _write_run(output: Path, settings: CineSettings, index: int) -> None:
    row = settings.row(index)
    if _is_written(output, settings, row):
        return
    patient, run = settings.place(index)
    cine = synthesize_cine(
        settings.seed,
        patient,
        run,
        size=settings.size,
        frames=settings.frames,
        min_calibre_mm=settings.min_calibre_mm,
    )
    uid = TRANSFER_SYNTAX_NAMES[settings.transfer_syntax]
    write_xa(output / row["dicom"], cine.frames, cine.facts, transfer_syntax=uid)
    with atomic_path(output / row["mask"]) as temporary:
        temporary.write_bytes(_nifti(cine.truth.masks, cine.spacing_mm))
    # Last, since it stands for the whole run.
    document = {"id": row["id"], _SETTINGS_KEY: settings.of_a_run, **truth_document(cine)}
    write_text_atomic(output / row["truth"], json.dumps(document) + "\n")


def _is_written(output: Path, settings: CineSettings, row: dict[str, str]) -> bool:
    """Is the run there, made with settings that give the same bytes?"""
    if not all((output / row[kind]).is_file() for kind in ("dicom", "mask", "truth")):
        return False
    return bool(read_json_object(output / row["truth"])[0].get(_SETTINGS_KEY) == settings.of_a_run)


def _nifti(masks: NDArray[np.uint8], spacing_mm: float) -> bytes:
    """(frame, row, column) → a compressed NIfTI of (column, row, frame): frames lie in it as this project's others."""
    image = nibabel.Nifti1Image(masks.transpose(2, 1, 0), np.diag([spacing_mm, spacing_mm, 1.0, 1.0]))
    # No time of writing, so that equal masks are equal files.
    return gzip.compress(image.to_bytes(), compresslevel=6, mtime=0)


def _rounded(values: NDArray[np.float64], digits: int) -> list[Any]:
    return list(np.round(values, digits).tolist())
