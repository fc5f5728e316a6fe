"""The basic profile of DICOM PS3.15 Annex E for XA objects, with modified dates retained.

The rule is positive: a copy has exactly the attributes of `kept` (at every depth), and only where their values can be
of the attribute's type, and words are terms of the standard; everything else goes, whatever it is: all names, text,
codes, times of day, private attributes, curves, overlays, what stands after the pixels. Type 2 attributes are there
and empty. On top of that, what table E.1-1 of the standard names (in dicom-anonymizer's edition of it) goes even if it
were in that list, but for UIDs, which are mapped by key, and dates, which are shifted: they keep their distances within
a patient. Of the maker a known name is left. Actions are our own: the library's pass over nested items, and draw UIDs
at random in each process.

Attributes of type 1 that Enhanced XA asks for and that say nothing about the picture are missing in copies of it, but
for the equipment's, which are "REMOVED"; so is the description of a calibration.
"""

import math
import numbers
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dicomanonymizer.dicomfields_selector import dicom_anonymization_database_selector
from pydicom.datadict import dictionary_VR, keyword_for_tag
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_data_element
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.sr.codedict import codes
from pydicom.uid import PYDICOM_IMPLEMENTATION_UID, UID
from pydicom.valuerep import format_number_as_ds

from cmunet_monai.pseudonyms import Pseudonyms, shifted_date
from cmunet_monai.xa.run import ENHANCED_XA_IMAGE, XARun, is_subtracted
from data_prep.deidentification.kept import (
    DATES,
    FALLBACKS,
    IMAGE_TYPE_FALLBACKS,
    IMAGE_TYPE_TERMS,
    IMAGE_TYPE_WORDS,
    IMAGE_TYPES,
    NUMBERS,
    POINTERS,
    SEQUENCES,
    TERMS,
    UIDS,
)

EDITION = "2026c"
STANDARD = f"PS3.15 E.1-1 {EDITION}"
_TABLES = ("LUTData",)
_KEPT = frozenset({*UIDS, *DATES, *NUMBERS, *SEQUENCES, *POINTERS, *TERMS, *IMAGE_TYPES, *_TABLES})
_EMPTIED = (
    *("AccessionNumber", "PatientBirthDate", "PatientSex", "ReferringPhysicianName", "StudyID", "StudyTime"),
    "PatientOrientation",
)
_EMPTY_IF_MISSING = ("StudyDate", "SeriesNumber", "InstanceNumber")
_OF_ENHANCED_EQUIPMENT = ("ManufacturerModelName", "DeviceSerialNumber", "SoftwareVersions")
_REMOVED = "REMOVED"
_LARGEST = 10**7  # what is larger measures nothing in these attributes, and may be a birth date or a number of a person
_METHODS = (
    codes.cid7050.BasicApplicationConfidentialityProfile,
    codes.cid7050.RetainLongitudinalTemporalInformationModifiedDatesOption,
)


@dataclass(frozen=True)
class Deidentified:
    """A copy, and which attributes it lost for their values.

    Attributes:
        dataset: without pixels.
        unfit: keywords, sorted, of attributes that copies have but this one lost, or lost values of, since they did
            not fit the type or the terms of the attribute.
        repaired: keywords, sorted, of attributes whose values stood in another form than the standard's, as which the
            reader takes them: words in lower case, another value representation.
    """

    dataset: Dataset
    unfit: tuple[str, ...]
    repaired: tuple[str, ...] = ()


def table_actions() -> Mapping[str, str]:
    """Keyword -> action of table E.1-1, such as `X_TAGS`. Ranges of groups are left out: no copy has any of them."""
    table = dicom_anonymization_database_selector(f"dicomfields_{EDITION}")
    return {
        keyword_for_tag((tag[0] << 16) + tag[1]): name
        for name, tags in table.items()
        if name != "ALL_TAGS"
        for tag in tags
        if len(tag) == 2
    }


def _removed_by_the_table() -> frozenset[str]:
    """X/Z/U* is for sequences of references: kept with mapped UIDs alone."""
    handled = {*UIDS, *DATES}
    return frozenset(
        keyword for keyword, name in table_actions().items() if keyword not in handled and name != "X_Z_U_STAR_TAGS"
    )


_COPIED = _KEPT - _removed_by_the_table()


def deidentify_dataset(
    dataset: Dataset, run: XARun, pseudonyms: Pseudonyms, *, patient_id: str, issuer: str = ""
) -> Deidentified:
    """A copy of an XA header without what identifies, with file meta information of its own and an empty preamble.

    Geometry, angles, times between frames, shutters and exposure stay. R waves are written as R Wave Pointer, also
    where only the ECG curve had them. Nothing is said of burned-in text: that takes a look at the pixels.

    Args:
        dataset: the header with its file meta information. Not modified.
        run: the same as the reader sees it.
        patient_id, issuer: whose pseudonym and date shift it gets.
    Raises:
        ValueError: there is no SOP Instance UID.
    """
    if not dataset.get("SOPInstanceUID"):
        raise ValueError("has no SOP Instance UID")
    cleaning = _Cleaning(pseudonyms, pseudonyms.date_shift_days(patient_id, issuer))
    result = cleaning.cleaned(dataset)
    result.SOPClassUID = run.sop_class_uid  # of the file meta information, where the object does not say it
    for keyword in _EMPTIED:
        setattr(result, keyword, "")
    for keyword in _EMPTY_IF_MISSING:
        if keyword not in result:
            setattr(result, keyword, "")
    result.Manufacturer = run.vendor or ""
    if run.sop_class_uid == ENHANCED_XA_IMAGE:
        for keyword in _OF_ENHANCED_EQUIPMENT:
            setattr(result, keyword, _REMOVED)
    if run.r_wave_frames:
        result.RWavePointer = [number + 1 for number in run.r_wave_frames]
    result.PatientName = result.PatientID = pseudonyms.patient(patient_id, issuer)
    result.PatientIdentityRemoved = "YES"
    result.DeidentificationMethod = [
        "CM-UNet data_prep deidentify",
        STANDARD,
        "named attributes kept, all others removed",
    ]
    result.DeidentificationMethodCodeSequence = Sequence(_code(code) for code in _METHODS)
    result.LongitudinalTemporalInformationModified = "MODIFIED"
    result.preamble = b"\0" * 128
    result.file_meta = _file_meta(dataset, result)
    return Deidentified(result, tuple(sorted(cleaning.unfit)), tuple(sorted(cleaning.repaired - cleaning.unfit)))


class _Cleaning:
    """The passage through one object."""

    def __init__(self, pseudonyms: Pseudonyms, shift_days: int) -> None:
        self.pseudonyms = pseudonyms
        self.shift_days = shift_days
        self.unfit: set[str] = set()
        self.repaired: set[str] = set()

    def cleaned(self, dataset: Dataset) -> Dataset:
        result = Dataset()
        for tag in list(dataset.keys()):
            keyword = keyword_for_tag(tag)
            if keyword not in _COPIED:
                continue
            try:
                element = dataset[tag]
                allowed = dictionary_VR(tag).split(" or ")
                representation = element.VR if element.VR in allowed else allowed[0]
                value = self._value(keyword, element, representation)
                copy = None if value is None else _written(DataElement(tag, representation, value))
            except Exception:  # pydicom raises many kinds on a damaged value
                copy = None
            if copy is None:
                self.unfit.add(keyword)
                continue
            result.add(copy)
            if representation != element.VR:
                self.repaired.add(keyword)
        if result.get("PixelSpacingCalibrationType"):
            result.PixelSpacingCalibrationDescription = _REMOVED  # of type 1C beside it
        result.set_original_encoding(*dataset.original_encoding)
        return result

    def _value(self, keyword: str, element: DataElement, representation: str) -> Any:
        """What the copy gets; None where the value does not fit, and empty where it was."""
        if keyword in SEQUENCES:
            return self._items(element)
        if keyword in _TABLES and isinstance(element.value, bytes):
            return element.value
        single = not isinstance(element.value, MultiValue | list | tuple)
        if single and (element.value is None or element.value == "" or element.value == b""):
            return ""
        values = [element.value] if single else list(element.value)
        kept: list[Any]
        if keyword in IMAGE_TYPES:
            kept = self._image_type(keyword, values)
        elif keyword in TERMS:
            kept = self._terms(keyword, values)
        elif keyword in UIDS:
            kept = [self.pseudonyms.uid(str(value)) for value in values]
        elif keyword in DATES:
            kept = [shifted_date(str(value), self.shift_days) for value in values]
        elif keyword in POINTERS:
            kept = [int(value) for value in values if int(value) in POINTERS[keyword]]
        else:
            kept = [_number(value, representation) for value in values]
        if not kept or None in kept:
            return None
        return kept[0] if len(kept) == 1 else kept

    def _items(self, element: DataElement) -> Sequence | None:
        """An item that lost everything says nothing; a sequence or item that was empty may have to be there."""
        before = list(element.value)
        items = [self.cleaned(item) for item in before]
        per_frame = element.keyword == "PerFrameFunctionalGroupsSequence"  # its items are counted
        items = [item for item, old in zip(items, before, strict=True) if per_frame or len(item) or not len(old)]
        return Sequence(items) if items or not before else None

    def _terms(self, keyword: str, values: list[Any]) -> list[str]:
        words = self._upper(keyword, values)
        if all(word in TERMS[keyword] for word in words):
            return words
        self.unfit.add(keyword)
        return [FALLBACKS[keyword]] if keyword in FALLBACKS else []

    def _image_type(self, keyword: str, values: list[Any]) -> list[str]:
        """The first three values by their place: what is no term becomes what XA is unless it says otherwise.

        Of the others the known words are left. That a run is subtracted is kept, however it is said.
        """
        words = self._upper(keyword, values)
        placed = zip(words, IMAGE_TYPE_TERMS, IMAGE_TYPE_FALLBACKS, strict=False)
        kept = [word if word in terms else fallback for word, terms, fallback in placed]
        kept += [word for word in words[len(kept) :] if word in IMAGE_TYPE_WORDS]
        if is_subtracted(words) and not is_subtracted(kept):
            kept += [*IMAGE_TYPE_FALLBACKS[len(kept) :], "SUBTRACTED"]
        if kept != words:
            self.unfit.add(keyword)
        return kept

    def _upper(self, keyword: str, values: list[Any]) -> list[str]:
        words = [str(value).strip(" \0") for value in values]
        upper = [word.upper() for word in words]
        if upper != words:
            self.repaired.add(keyword)
        return upper


def _written(element: DataElement) -> DataElement:
    """The element; pydicom's error if it cannot be written."""
    if element.VR != "SQ":  # whose items are clean already
        buffer = DicomBytesIO()
        buffer.is_little_endian, buffer.is_implicit_VR = True, False
        write_data_element(buffer, element)
    return element


def _number(value: Any, representation: str) -> Any:
    """The number, written anew; None if it is none, or larger than anything that these attributes measure."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real | str) or representation == "AT":
        return None
    number = float(value)
    if not math.isfinite(number) or abs(number) >= _LARGEST:
        return None
    if representation == "DS":
        return format_number_as_ds(number)
    return number if representation in ("FL", "FD") else int(number)


def _code(code: Any) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code.value, code.scheme_designator, code.meaning
    return item


def _file_meta(dataset: Dataset, result: Dataset) -> FileMetaDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = result.SOPClassUID
    meta.MediaStorageSOPInstanceUID = result.SOPInstanceUID
    meta.TransferSyntaxUID = UID(str(dataset.file_meta.TransferSyntaxUID))
    meta.ImplementationClassUID = PYDICOM_IMPLEMENTATION_UID
    return meta
