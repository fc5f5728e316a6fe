"""Which attributes a de-identified copy has, and which of their values."""

import datetime

import pytest
from pydicom.config import disable_value_validation
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.tag import Tag

from cmunet_monai.pseudonyms import Pseudonyms
from cmunet_monai.xa.header import _KEYWORDS as READ_KEYWORDS
from cmunet_monai.xa.run import ENHANCED_XA_IMAGE, XA_IMAGE, XARun
from cmunet_monai.xa.spacing import Spacing
from data_prep.deidentification import kept, rules
from data_prep.deidentification.rules import deidentify_dataset, table_actions

TEXT = {"AE", "AS", "LT", "PN", "SH", "ST", "UC", "UR", "UT", "UN", "OB"}


@pytest.fixture
def names(tmp_path):
    return Pseudonyms.open(tmp_path / "key", output=tmp_path / "data")


def run_of(**facts):
    """What the reader says of a run, of which the rules use little."""
    known = {
        **{"frames": 8, "rows": 4, "columns": 4, "bits_stored": 8, "transfer_syntax": "1.2.840.10008.1.2.1"},
        **{"sop_class_uid": XA_IMAGE, "photometric_interpretation": "MONOCHROME2", "intensity_relationship": "LIN"},
        **{"spacing": Spacing(None, "unknown"), "frame_time_ms": None, "primary_angle_deg": None},
        **{"secondary_angle_deg": None, "vendor": None, "plane": "single", "r_wave_frames": None},
        **{"representative_frame": None, "subtracted": False, "burned_in_annotation": None, "flags": ()},
    }
    return XARun(**known | facts)


def header_of(**values):
    """A minimal header with these attributes, of whatever value."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    dataset.set_original_encoding(False, True, None)
    known = {"SOPClassUID": XA_IMAGE, "SOPInstanceUID": "1.2.3.4.5", "Modality": "XA"}
    with disable_value_validation():
        for keyword, value in (known | values).items():
            tag, representation = Tag(keyword), dictionary_VR(keyword).split(" or ")[0]
            if representation in ("DS", "IS"):  # as read from a file: pydicom makes no element of what is no number
                text = "\\".join(value if isinstance(value, list) else [value]).encode()
                dataset[tag] = RawDataElement(tag, representation, len(text), text, 0, False, True)
            else:
                dataset.add(DataElement(tag, representation, value))
    return dataset


def clean(names, header, *, patient_id="DOE", **facts):
    with disable_value_validation():
        return deidentify_dataset(header, run_of(**facts), names, patient_id=patient_id)


def item_of(**values):
    item = Dataset()
    for keyword, value in values.items():
        setattr(item, keyword, value)
    return item


def test_nothing_is_kept_that_the_standards_table_removes_but_uids_and_dates():
    named = {keyword: name for keyword, name in table_actions().items() if keyword in rules._KEPT}
    assert {keyword for keyword, name in named.items() if name == "X_Z_U_STAR_TAGS"} == {
        *("ReferencedImageSequence", "SourceImageSequence")
    }
    others = {keyword for keyword, name in named.items() if name != "X_Z_U_STAR_TAGS"}
    assert others <= {*kept.UIDS, *kept.DATES}
    assert len(table_actions()) > 600


def test_no_attribute_that_is_kept_holds_free_text():
    assert all(dictionary_VR(keyword) not in TEXT for keyword in rules._KEPT)
    long_strings = {keyword for keyword in rules._KEPT if dictionary_VR(keyword) in ("LO", "CS")}
    assert long_strings <= {*kept.TERMS, *kept.IMAGE_TYPES}


def test_all_that_the_reader_reads_is_kept_or_written():
    written = {"BurnedInAnnotation", "Manufacturer", "RWavePointer"}
    offsets = {"ExtendedOffsetTable", "ExtendedOffsetTableLengths"}
    assert set(READ_KEYWORDS) - rules._KEPT == written | offsets


def test_unknown_private_and_text_attributes_are_gone(names):
    header = header_of(ImageComments="DOE", InstitutionName="DOE", StudyTime="121314", KVP="70")
    header.add_new(0x00091001, "LO", "DOE")
    header.add_new(0x50003000, "OW", b"DOE ")
    header.add_new(0x60000022, "LO", "DOE")
    copy = clean(names, header).dataset
    assert "DOE" not in str(copy)
    assert copy.KVP == 70
    assert copy.StudyTime == ""
    assert not [element for element in copy if element.tag.is_private or element.tag.group in (0x5000, 0x6000)]


def test_the_method_and_its_codes_are_written(names):
    copy = clean(names, header_of()).dataset
    assert copy.PatientIdentityRemoved == "YES"
    assert copy.LongitudinalTemporalInformationModified == "MODIFIED"
    # CID 7050: basic profile, and retain longitudinal temporal information with modified dates
    codes = [(item.CodeValue, item.CodingSchemeDesignator) for item in copy.DeidentificationMethodCodeSequence]
    assert codes == [("113100", "DCM"), ("113107", "DCM")]
    assert copy.PatientName == copy.PatientID == names.patient("DOE")
    assert "BurnedInAnnotation" not in copy


def test_the_file_meta_information_and_the_preamble_are_new(names):
    header = header_of()
    header.file_meta.SourceApplicationEntityTitle = "DOE"
    header.preamble = b"DOE" + bytes(125)
    copy = clean(names, header).dataset
    assert copy.preamble == bytes(128)
    assert "SourceApplicationEntityTitle" not in copy.file_meta
    assert copy.file_meta.MediaStorageSOPInstanceUID == copy.SOPInstanceUID == names.uid("1.2.3.4.5")
    assert copy.file_meta.MediaStorageSOPClassUID == copy.SOPClassUID == XA_IMAGE


def test_dates_move_together_and_times_of_day_are_cut_off(names):
    header = header_of(StudyDate="20200131", SeriesDate="2020.02.02", AcquisitionDateTime="20200131101112.5")
    copy = clean(names, header).dataset
    study = datetime.date(2020, 1, 31) + datetime.timedelta(days=names.date_shift_days("DOE"))
    series = study + datetime.timedelta(days=2)
    assert copy.StudyDate == copy.AcquisitionDateTime == f"{study:%Y%m%d}"
    assert copy.SeriesDate == f"{series:%Y%m%d}"


@pytest.mark.parametrize("value", ["31 Jan 2020", "20201331", "DOE", "00010101"])
def test_a_date_that_is_none_or_cannot_move_goes_and_is_named(names, value):
    found = clean(names, header_of(SeriesDate=value))
    assert "SeriesDate" not in found.dataset
    assert found.unfit == ("SeriesDate",)


@pytest.mark.parametrize(
    "keyword, value",
    [
        ("BodyPartExamined", "DOE"),
        ("BodyPartExamined", "heart of Mr Doe"),
        ("PositionerMotion", "DOE"),
        ("ShutterShape", ["CIRCULAR", "DOE"]),
        ("FrameIncrementPointer", 0x00100010),
        ("AcquisitionNumber", "19710523"),
        ("KVP", "inf"),
        ("KVP", "DOE"),
        ("FrameTimeVector", ["0", "DOE"]),
    ],
)
def test_a_value_that_does_not_fit_goes_and_its_attribute_is_named(names, keyword, value):
    found = clean(names, header_of(**{keyword: value}))
    assert keyword not in found.dataset
    assert found.unfit == (keyword,)


@pytest.mark.parametrize(
    "keyword, representation, value, after",
    [
        ("KVP", "LO", "70", 70),
        ("FrameTime", "LO", "66.7", 66.7),
        ("Rows", "UL", 512, 512),
        ("StudyDate", "LO", "20200131", None),
        ("RecommendedDisplayFrameRate", "DS", "15", 15),
    ],
)
def test_a_value_under_another_representation_is_written_under_its_own(names, keyword, representation, value, after):
    header = header_of()
    header.add_new(keyword, representation, value)
    found = clean(names, header)
    assert dictionary_VR(keyword) == found.dataset[keyword].VR
    assert after is None or found.dataset[keyword].value == after
    assert (found.unfit, found.repaired) == ((), (keyword,))


@pytest.mark.parametrize(
    "keyword, representation, value", [("KVP", "LO", "DOE"), ("Rows", "UL", 70000), ("Rows", "SS", -5)]
)
def test_a_value_that_cannot_be_of_the_attributes_type_goes(names, keyword, representation, value):
    header = header_of()
    header.add_new(keyword, representation, value)
    found = clean(names, header)
    assert keyword not in found.dataset
    assert (found.unfit, found.repaired) == ((keyword,), ())


@pytest.mark.parametrize(
    "keyword, value, after",
    [
        ("PixelIntensityRelationship", "lin", "LIN"),
        ("ShutterShape", ["circular", "Rectangular"], ["CIRCULAR", "RECTANGULAR"]),
        ("PixelSpacingCalibrationType", "fiducial", "FIDUCIAL"),
        ("ImageType", ["original", "primary", "biplane a"], ["ORIGINAL", "PRIMARY", "BIPLANE A"]),
    ],
)
def test_words_in_lower_case_are_written_in_upper_case(names, keyword, value, after):
    with disable_value_validation():
        found = clean(names, header_of(**{keyword: value}))
    assert found.dataset[keyword].value == after
    assert (found.unfit, found.repaired) == ((), (keyword,))


def test_a_copy_that_lost_nothing_names_nothing(names):
    header = header_of(
        ImageType=["ORIGINAL", "PRIMARY", "SINGLE PLANE"], KVP="70", PatientName="DOE", PositionerMotion=""
    )
    found = clean(names, header)
    assert found.unfit == ()
    assert found.dataset.PositionerMotion == ""


@pytest.mark.parametrize(
    "before, after",
    [
        (["ORIGINAL", "PRIMARY", "BIPLANE B"], ["ORIGINAL", "PRIMARY", "BIPLANE B"]),
        (["ORIGINAL", "PRIMARY", "SINGLE PLANE", "DOE", "SUB"], ["ORIGINAL", "PRIMARY", "SINGLE PLANE", "SUB"]),
        (["ORIGINAL", "DOE", "SINGLE PLANE"], ["ORIGINAL", "PRIMARY", "SINGLE PLANE"]),
        (["ORIG", "PRIMARY", "BIPLANE A"], ["ORIGINAL", "PRIMARY", "BIPLANE A"]),
        (
            ["DERIVED", "PRIMARY", "SINGLE PLANE", "SUBTRACT OF DOE"],
            ["DERIVED", "PRIMARY", "SINGLE PLANE", "SUBTRACTED"],
        ),
        (["DERIVED", "DSA"], ["DERIVED", "PRIMARY", "SINGLE PLANE", "SUBTRACTED"]),
    ],
)
def test_image_type_keeps_its_known_words(names, before, after):
    assert clean(names, header_of(ImageType=before)).dataset.ImageType == after


def test_an_unknown_intensity_relationship_is_other(names):
    found = clean(names, header_of(PixelIntensityRelationship="DOE"))
    assert found.dataset.PixelIntensityRelationship == "OTHER"
    assert found.unfit == ("PixelIntensityRelationship",)


def test_items_are_cleaned_at_every_depth(names):
    pixel = item_of(PixelSpacing=["0.2", "0.2"], ImageComments="DOE")
    pixel.ReferencedImageSequence = Sequence([item_of(ReferencedSOPInstanceUID="1.2.3", PatientName="DOE")])
    groups = item_of(PixelMeasuresSequence=Sequence([pixel]), FrameAnatomySequence=Sequence([item_of(PatientID="DOE")]))
    copy = clean(names, header_of(SharedFunctionalGroupsSequence=Sequence([groups]))).dataset
    assert "DOE" not in str(copy)
    (shared,) = copy.SharedFunctionalGroupsSequence
    (measures,) = shared.PixelMeasuresSequence
    assert measures.PixelSpacing == [0.2, 0.2]
    assert measures.ReferencedImageSequence[0].ReferencedSOPInstanceUID == names.uid("1.2.3")
    assert len(shared) == 1


def test_the_functional_groups_of_each_frame_stay_counted(names):
    groups = [item_of(FrameAnatomySequence=Sequence([item_of(PatientID="DOE")])) for _ in range(3)]
    copy = clean(names, header_of(PerFrameFunctionalGroupsSequence=Sequence(groups))).dataset
    assert [len(item) for item in copy.PerFrameFunctionalGroupsSequence] == [0, 0, 0]


def test_an_item_without_anything_left_goes(names):
    items = Sequence([item_of(PatientID="DOE")])
    found = clean(names, header_of(SourceImageSequence=items))
    assert "SourceImageSequence" not in found.dataset


def test_the_known_name_of_the_maker_is_left(names):
    header = header_of(Manufacturer="Philips of St Elsewhere")
    assert clean(names, header, vendor="Philips").dataset.Manufacturer == "Philips"
    assert clean(names, header, vendor=None).dataset.Manufacturer == ""


def test_r_waves_are_those_of_the_reader_counted_from_one(names):
    header = header_of(RWavePointer=[99])
    assert clean(names, header, r_wave_frames=(0, 4)).dataset.RWavePointer == [1, 5]
    assert "RWavePointer" not in clean(names, header).dataset


def test_type_two_attributes_are_there_and_empty(names):
    copy = clean(names, header_of(PatientSex="F", PatientBirthDate="19710523", AccessionNumber="DOE")).dataset
    for keyword in ("PatientSex", "PatientBirthDate", "AccessionNumber", "StudyDate", "StudyID", "SeriesNumber"):
        assert keyword in copy
        assert not copy[keyword].value


def test_the_equipment_of_an_enhanced_object_is_removed_by_word(names):
    header = header_of(SOPClassUID=ENHANCED_XA_IMAGE, DeviceSerialNumber="DOE", SoftwareVersions="DOE")
    copy = clean(names, header, sop_class_uid=ENHANCED_XA_IMAGE).dataset
    assert copy.ManufacturerModelName == copy.DeviceSerialNumber == copy.SoftwareVersions == "REMOVED"


def test_the_description_of_a_calibration_is_removed_by_word(names):
    header = header_of(PixelSpacingCalibrationType="FIDUCIAL", PixelSpacingCalibrationDescription="catheter of Doe")
    copy = clean(names, header).dataset
    assert copy.PixelSpacingCalibrationType == "FIDUCIAL"
    assert copy.PixelSpacingCalibrationDescription == "REMOVED"
    assert "PixelSpacingCalibrationDescription" not in clean(names, header_of()).dataset


def test_the_header_is_not_modified(names):
    header = header_of(PatientName="DOE", SourceImageSequence=Sequence([item_of(ReferencedSOPInstanceUID="1.2.3")]))
    before = str(header)
    clean(names, header)
    assert str(header) == before


def test_an_object_without_instance_uid_is_refused(names):
    with pytest.raises(ValueError, match="SOP Instance UID"):
        clean(names, header_of(SOPInstanceUID=""))
