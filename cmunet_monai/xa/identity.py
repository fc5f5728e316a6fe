"""Who and what a DICOM object is: read to be replaced by pseudonyms, and never written."""

from dataclasses import dataclass
from typing import BinaryIO

import pydicom

from cmunet_monai.xa.errors import typed_errors
from cmunet_monai.xa.header import quiet_pydicom

_TAGS = ["PatientID", "IssuerOfPatientID", "StudyInstanceUID", "SOPInstanceUID"]


@dataclass(frozen=True)
class Identity:
    """Identifying values of an object; empty where it has none."""

    patient_id: str
    issuer: str
    study_instance_uid: str
    sop_instance_uid: str


def read_identity(stream: BinaryIO) -> Identity:
    """Read the identity from the start of a DICOM object.

    Raises:
        DamagedDicomError: if the header cannot be read.
    """
    with typed_errors("", "reading its header"), quiet_pydicom():
        stream.seek(0)
        dataset = pydicom.dcmread(stream, stop_before_pixels=True, specific_tags=list(_TAGS))
        return Identity(*(str(dataset.get(keyword) or "").strip(" \0") for keyword in _TAGS))
