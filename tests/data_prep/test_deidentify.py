"""De-identified copies: nothing that identifies is in them, and the pictures are the same."""

import argparse
import csv
import os
import re
import shutil
import string
import struct
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pydicom
import pytest
from dicomanonymizer.dicomfields_selector import dicom_anonymization_database_selector
from pydicom.config import disable_value_validation
from pydicom.datadict import dictionary_has_tag, dictionary_VR, keyword_for_tag
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.sequence import Sequence
from pydicom.tag import Tag

from cmunet_monai.pseudonyms import Pseudonyms
from cmunet_monai.xa.errors import DamagedDicomError
from cmunet_monai.xa.run import read_frames, read_run
from cmunet_monai.xa.spacing import Spacing
from data_prep import deidentify
from data_prep.__main__ import main
from data_prep.deidentification.codestream import without_comments
from data_prep.deidentification.copies import copy_run
from data_prep.ingestion.frames import Job, Settings, inspect
from data_prep.ingestion.sources import find_sources
from data_prep.synthetic.xa_file import TRANSFER_SYNTAX_NAMES, XAFacts, write_xa

SIZE, FRAMES = 64, 8
TEXT = {"AE", "AS", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"}
DATE, TIME, NUMBER = "19710523", "134657.918273", "7182818284"
NEEDED = {"SOPClassUID", "TransferSyntaxUID", "PixelData", "SpecificCharacterSet"}
COMPRESSED = [name for name in TRANSFER_SYNTAX_NAMES if name.startswith(("jpeg", "rle"))]
JPEG = [name for name in COMPRESSED if name != "rle"]


def frames_of(seed=0, bits=8):
    """Smooth moving frames, without edges that look like text."""
    rng = np.random.default_rng(seed)
    small = rng.uniform(0.2, 0.8, (FRAMES, 5, 5)).astype(np.float32)
    large = np.stack([cv2.resize(frame, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC) for frame in small])
    return np.clip(large * (2**bits - 1), 0, 2**bits - 1).astype(np.uint8 if bits == 8 else np.uint16)


class Canaries:
    """Random words of 12 letters, and the numbers, dates and times above; all that was handed out is known."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.words = [DATE, TIME, NUMBER]

    def word(self) -> str:
        self.words.append("".join(self.rng.choice(list(string.ascii_uppercase), 12)))
        return self.words[-1]

    def uid(self) -> str:
        self.words.append(str(self.rng.integers(10**11, 10**12)))
        return f"1.2.3.{self.words[-1]}"

    def value(self, representation: str):
        """A value of that representation; None for those that hold no text."""
        if representation in TEXT:
            return self.word()
        if representation in ("OB", "OW", "UN"):
            return self.word().encode()
        known = {"UI": self.uid, "DA": lambda: DATE, "DT": lambda: DATE + TIME, "TM": lambda: TIME}
        known |= {"IS": lambda: NUMBER, "DS": lambda: NUMBER}
        return known[representation]() if representation in known else None

    def item(self, depth: int) -> Dataset:
        item = Dataset()
        for keyword in ("PatientName", "ImageComments", "StudyDate", "ReferencedSOPInstanceUID", "BodyPartExamined"):
            representation = dictionary_VR(keyword)
            item.add(DataElement(Tag(keyword), representation, self.value(representation)))
        item.add_new(0x00190010, "LO", self.word())
        item.add_new(0x00191001, "UN", self.word().encode())
        if depth:
            item.ReferencedImageSequence = Sequence([self.item(depth - 1)])
            item.RequestAttributesSequence = Sequence([self.item(depth - 1)])
        return item


def table_tags() -> Iterator[tuple[int, str]]:
    """Tags of table E.1-1 that name one attribute, with their value representation."""
    for tag in dicom_anonymization_database_selector("dicomfields_2026c")["ALL_TAGS"]:
        if len(tag) == 2 and tag[0] != 0:
            number = (tag[0] << 16) + tag[1]
            # the table is newer than pydicom's dictionary
            yield number, dictionary_VR(number) if dictionary_has_tag(number) else "LO"


def put_canaries(path: Path, canaries: Canaries) -> None:
    """In all that the table names, in private tags, items of two levels, file meta, overlays, curves and JPEG."""
    dataset = pydicom.dcmread(path)
    for tag, representation in table_tags():
        place = dataset.file_meta if tag >> 16 == 2 else dataset
        if keyword_for_tag(tag) in NEEDED:
            continue
        if representation == "SQ":
            place.add(DataElement(tag, "SQ", Sequence([canaries.item(1)])))
        elif (value := canaries.value(representation)) is not None:
            place.add(DataElement(tag, representation, value))
    for keyword in ("ReferencedImageSequence", "MaskSubtractionSequence", "SourceImageSequence"):
        setattr(dataset, keyword, Sequence([canaries.item(1)]))
    dataset.add_new(0x00290010, "LO", canaries.word())
    dataset.add_new(0x00291010, "UN", canaries.word().encode())
    dataset.add_new(0x00291011, "SQ", Sequence([canaries.item(1)]))
    for group in (0x5000, 0x5002, 0x6000, 0x6002):
        dataset.add_new((group, 0x0022), "LO", canaries.word())
        dataset.add_new((group, 0x3000), "OW", canaries.word().encode())
    for keyword in ("ImageType", "PixelIntensityRelationship", "PositionerMotion", "ManufacturerModelName"):
        setattr(dataset, keyword, canaries.word())
    dataset.Manufacturer = f"Philips {canaries.word()}"
    dataset.AcquisitionNumber = NUMBER
    dataset.DataSetTrailingPadding = canaries.word().encode()
    dataset.file_meta.SourceApplicationEntityTitle = canaries.word()
    dataset.file_meta.PrivateInformationCreatorUID = canaries.uid()
    dataset.file_meta.PrivateInformation = canaries.word().encode()
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.preamble = canaries.word().encode().ljust(128, b"\0")
    if dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        put_comments(dataset, canaries)
    dataset.save_as(path, enforce_file_format=True)


def put_comments(dataset: Dataset, canaries: Canaries) -> None:
    """A comment, and in JPEG an application segment and bytes after the end of the image, into every frame."""
    frames = []
    for frame in generate_frames(dataset.PixelData, number_of_frames=FRAMES):
        word = canaries.word().encode()
        if frame[:2] == b"\xff\x4f":
            size = int.from_bytes(frame[4:6], "big") + 4
            start, inserted, after = size, b"\xff\x64" + struct.pack(">HH", 4 + len(word), 1) + word, b""
        else:
            segments = [b"\xff" + code + struct.pack(">H", 2 + len(word)) + word for code in (b"\xfe", b"\xe1")]
            start, inserted, after = 2, b"".join(segments), canaries.word().encode()
        frames.append(frame[:start] + inserted + frame[start:] + after)
    dataset.PixelData = encapsulate(frames)
    dataset["PixelData"].is_undefined_length = True


def deidentify_folder(source: Path, output: Path, *options: str) -> None:
    parser = argparse.ArgumentParser()
    deidentify.add_arguments(parser)
    arguments = ["--source", str(source), "--output", str(output), "--workers", "1", *options]
    deidentify.run(parser.parse_args(arguments))


def job_of(path: Path, output: Path, reviewed: frozenset[str] = frozenset(), key: Path | None = None) -> Job:
    (source,) = find_sources(path)
    names = Pseudonyms.open(key or output.parent / "key", output=output)
    return Job(source, names, output, Settings(), reviewed)


def copy_one(path: Path, output: Path, *, key: Path | None = None):
    """The record of a file, worked on in this process."""
    job = job_of(path, output, key=key)
    found, _ = inspect(job)
    assert found.status == "kept", found.reason
    return copy_run((job, found))


def copied(path: Path, output: Path, *, key: Path | None = None) -> Path:
    record = copy_one(path, output, key=key)
    assert record.status == "kept", record.reason
    return output / record.frames[0]["image"]


def rows_of(output: Path, name: str = "deidentified.csv") -> list[dict[str, str]]:
    with (output / name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def canaries():
    return Canaries(7)


@pytest.fixture(scope="module")
def export(tmp_path_factory, canaries):
    """Two runs full of canaries, in JPEG and uncompressed; one zipped, one with text, one not DICOM, one cut."""
    root = tmp_path_factory.mktemp("export")
    folder = root / canaries.word()
    with disable_value_validation():
        for number, name in enumerate(("jpeg-baseline", "explicit", "jpeg-2000")):
            path = folder / f"{canaries.word()}.dcm"
            write_xa(path, frames_of(number), transfer_syntax=TRANSFER_SYNTAX_NAMES[name])
            put_canaries(path, canaries)
    with zipfile.ZipFile(root / f"{canaries.word()}.zip", "w") as archive:
        archive.write(path, f"{canaries.word()}/{path.name}")
    path.unlink()
    write_xa(folder / "declares", frames_of(5), XAFacts(burned_in_annotation=True, patient_id=canaries.word()))
    (folder / f"{canaries.word()}.txt").write_text(canaries.word())
    write_xa(folder / "cut", frames_of(6), XAFacts(patient_name=canaries.word()))
    (folder / "cut").write_bytes((folder / "cut").read_bytes()[:2000])
    shutil.copy(folder / "declares", folder / "declares again")
    return root


@pytest.fixture(scope="module")
def output(export, tmp_path_factory):
    folder = tmp_path_factory.mktemp("copies") / "data"
    deidentify_folder(export, folder)
    return folder


def test_no_canary_is_in_any_output(export, canaries, tmp_path, capfd):
    folder = tmp_path / "data"
    deidentify_folder(export, folder)
    printed = "".join(capfd.readouterr())
    assert len(canaries.words) > 700
    pattern = re.compile("|".join(map(re.escape, canaries.words)))
    assert pattern.search(printed) is None
    copies = 0
    for path in folder.rglob("*"):
        assert pattern.search(str(path.relative_to(folder))) is None
        if path.is_file():
            found = pattern.search(path.read_bytes().decode("latin-1"))
            assert found is None, (path.name, found)
        if path.suffix == ".dcm":
            dataset = pydicom.dcmread(path)
            text = str(dataset.file_meta) + str(dataset) + dataset.to_json()
            assert pattern.search(text) is None
            copies += 1
    assert copies == 3
    # what was searched for is there to be found in the export
    sources = [path.read_bytes().decode("latin-1") for path in export.rglob("*.dcm")]
    assert all(len(set(pattern.findall(text))) > 300 for text in sources)


def test_every_file_has_its_line_and_reason(output):
    rows = rows_of(output)
    assert sorted(row["status"] for row in rows) == [
        *("copied", "copied", "copied", "duplicate", "failed", "passed over", "quarantined")
    ]
    reasons = " | ".join(row["reason"] for row in rows)
    for reason in ("no DICOM file", "is cut", "burned-in annotations", "the same object is in another file"):
        assert reason in reasons
    for row in rows:
        if row["status"] == "copied":
            assert (output / row["patient"] / f"{row['run']}.dcm").is_file()
            assert "ImageType" in row["unfit"].split()
            assert "AcquisitionNumber" in row["unfit"].split()


def test_a_second_run_does_nothing(export, output):
    before = {path: path.stat().st_mtime_ns for path in output.rglob("*.dcm")}
    states = {path: path.stat().st_mtime_ns for path in (output / "states").iterdir()}
    deidentify_folder(export, output)
    assert {path: path.stat().st_mtime_ns for path in output.rglob("*.dcm")} == before
    assert {path: path.stat().st_mtime_ns for path in (output / "states").iterdir()} == states


def test_a_quarantined_run_is_copied_once_it_was_reviewed(export, output, tmp_path):
    folder = tmp_path / "data"
    shutil.copytree(output, folder)
    (waiting,) = rows_of(folder, "quarantine.csv")
    assert not list(folder.rglob(f"{waiting['run']}.dcm"))
    (tmp_path / "reviewed.txt").write_text(waiting["run"] + "\n")
    key = f"{output}.key"
    deidentify_folder(export, folder, "--key", key, "--reviewed", str(tmp_path / "reviewed.txt"))
    (path,) = folder.rglob(f"{waiting['run']}.dcm")
    assert pydicom.dcmread(path).BurnedInAnnotation == "NO"
    assert rows_of(folder, "quarantine.csv") == []


def test_the_map_beside_the_key_says_which_file_a_line_is(export, output):
    with Path(f"{output}.key.map.csv").open(newline="", encoding="utf-8") as file:
        originals = {row["pseudonym"]: row["original"] for row in csv.DictReader(file)}
    names = {originals[row["file"]].split("/")[-1] for row in rows_of(output)}
    assert {"declares", "cut"} <= names
    assert Path(f"{output}.key.map.csv").stat().st_mode & 0o077 == 0


def test_another_key_is_refused(export, output, tmp_path):
    Pseudonyms.open(tmp_path / "other.key", output=output)
    with pytest.raises(ValueError, match="another key"):
        deidentify_folder(export, output, "--key", str(tmp_path / "other.key"))


def test_a_changed_file_is_copied_again_and_leaves_nothing_of_before(tmp_path):
    source, folder = tmp_path / "export", tmp_path / "data"
    write_xa(source / "IM0", frames_of(0))
    deidentify_folder(source, folder)
    (before,) = folder.rglob("*.dcm")
    write_xa(source / "IM0", frames_of(1), XAFacts(patient_id="ANOTHER"))
    deidentify_folder(source, folder)
    (after,) = folder.rglob("*.dcm")
    assert before != after
    assert not before.exists()


def test_an_output_of_the_ingestion_is_refused(tmp_path):
    (tmp_path / "export").mkdir()
    ingest = ["dicom", "--source", str(tmp_path / "export"), "--output", str(tmp_path / "data")]
    assert main(ingest) == 0
    with pytest.raises(ValueError, match="made by `data_prep dicom`: give another --output"):
        deidentify_folder(tmp_path / "export", tmp_path / "data")


def test_text_that_stands_in_one_frame_sends_the_run_to_quarantine(tmp_path):
    frames = np.stack([cv2.resize(frame, (256, 256)) for frame in frames_of(0)])
    cv2.putText(frames[3], "DOE JOHN 1950", (20, 200), cv2.FONT_HERSHEY_SIMPLEX, 0.7, 255, 2)
    write_xa(tmp_path / "run", frames)
    record = copy_one(tmp_path / "run", tmp_path / "data")
    assert record.status == "quarantined"
    assert "text-like" in record.reason
    assert not list((tmp_path / "data").rglob("*.dcm"))


def test_text_that_a_window_would_hide_sends_the_run_to_quarantine(tmp_path):
    frames = np.stack([cv2.resize(frame, (256, 256)) for frame in frames_of(0)]) // 2 + 64
    for frame in frames:
        cv2.putText(frame, "DOE JOHN 1950", (20, 200), cv2.FONT_HERSHEY_SIMPLEX, 0.7, 255, 2)
    table = Dataset()
    table.LUTDescriptor, table.LUTData = [256, 0, 8], np.minimum(np.arange(256), 60).astype("<u2").tobytes()
    table["LUTData"].VR = "OW"
    write_xa(tmp_path / "run", frames, XAFacts(extra={"VOILUTSequence": Sequence([table])}))
    assert copy_one(tmp_path / "run", tmp_path / "data").status == "quarantined"


def test_a_copy_that_lost_a_value_says_what_the_reader_says_otherwise(tmp_path):
    # a time of 5 hours from frame to frame is no number that a copy takes over
    write_xa(tmp_path / "run", frames_of(), XAFacts(frame_time_ms=2e7))
    record = copy_one(tmp_path / "run", tmp_path / "data")
    assert record.status == "kept"
    assert (record.facts["unfit"], record.facts["reads_otherwise"]) == ("FrameTime", "frame_time_ms")
    assert read_run(tmp_path / "data" / record.frames[0]["image"]).frame_time_ms is None


@pytest.mark.parametrize(
    "change",
    [{"rows": 63}, {"photometric_interpretation": "MONOCHROME1"}, {"spacing": Spacing(0.3, "object_pixel_spacing")}],
)
def test_a_copy_that_would_show_or_measure_something_else_is_not_written(tmp_path, monkeypatch, change):
    write_xa(tmp_path / "run", frames_of(), XAFacts(imager_pixel_spacing_mm=0.2, estimated_magnification=1.25))
    monkeypatch.setattr(
        "data_prep.deidentification.copies.read_run",
        lambda file: replace(read_run(file), **(change if isinstance(file, Path) else {})),
    )
    record = copy_one(tmp_path / "run", tmp_path / "data")
    assert (record.status, record.reason) == ("failed", f"its copy reads otherwise in: {next(iter(change))}")
    assert not [path for path in (tmp_path / "data").rglob("*") if path.is_file()]


def test_an_object_without_instance_uid_gets_one_of_its_own(tmp_path):
    write_xa(tmp_path / "run", frames_of())
    dataset = pydicom.dcmread(tmp_path / "run")
    del dataset.SOPInstanceUID
    dataset.save_as(tmp_path / "run")
    record = copy_one(tmp_path / "run", tmp_path / "data")
    assert (record.status, record.facts["repaired"]) == ("kept", "SOPInstanceUID")
    assert pydicom.dcmread(tmp_path / "data" / record.frames[0]["image"]).SOPInstanceUID.startswith("2.25.")


def test_burned_in_annotation_no_is_written_after_the_check(tmp_path):
    write_xa(tmp_path / "run", frames_of(), XAFacts(burned_in_annotation=None))
    assert pydicom.dcmread(copied(tmp_path / "run", tmp_path / "data")).BurnedInAnnotation == "NO"


@pytest.mark.parametrize("name", TRANSFER_SYNTAX_NAMES)
def test_pixels_are_bit_identical_but_for_comments(name, tmp_path):
    bits = 8 if name == "jpeg-baseline" else 12
    syntax = TRANSFER_SYNTAX_NAMES[name]
    write_xa(tmp_path / "run", frames_of(0, bits), XAFacts(bits_stored=bits), transfer_syntax=syntax)
    path = copied(tmp_path / "run", tmp_path / "data")
    before, after = pydicom.dcmread(tmp_path / "run"), pydicom.dcmread(path)
    assert after.file_meta.TransferSyntaxUID == syntax
    if not name.startswith(("jpeg-2000", "jpeg-baseline", "jpeg-lossless")):  # whose encoders write their names
        assert after.PixelData == before.PixelData
    assert len(after.PixelData) == len(before.PixelData)
    assert np.array_equal(list(read_frames(path)), list(read_frames(tmp_path / "run")))


@pytest.mark.parametrize("name", JPEG)
def test_comments_in_compressed_frames_are_emptied_and_the_picture_stays(name, tmp_path):
    canaries = Canaries(1)
    write_xa(tmp_path / "run", frames_of(), transfer_syntax=TRANSFER_SYNTAX_NAMES[name])
    dataset = pydicom.dcmread(tmp_path / "run")
    put_comments(dataset, canaries)
    dataset.save_as(tmp_path / "commented", enforce_file_format=True)
    path = copied(tmp_path / "commented", tmp_path / "data")
    content, source = path.read_bytes(), (tmp_path / "commented").read_bytes()
    for word in canaries.words[3:]:
        assert word.encode() in source
        assert word.encode() not in content
    assert np.array_equal(list(read_frames(path)), list(read_frames(tmp_path / "run")))


@pytest.mark.parametrize("name", JPEG)
def test_a_comment_that_two_fragments_share_is_emptied(name, tmp_path):
    canaries = Canaries(2)
    write_xa(tmp_path / "run", frames_of(), transfer_syntax=TRANSFER_SYNTAX_NAMES[name])
    dataset = pydicom.dcmread(tmp_path / "run")
    put_comments(dataset, canaries)
    frames = list(generate_frames(dataset.PixelData, number_of_frames=FRAMES))
    dataset.PixelData = encapsulate(frames, fragments_per_frame=40)
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(tmp_path / "commented", enforce_file_format=True)
    path = copied(tmp_path / "commented", tmp_path / "data")
    joined = b"".join(generate_frames(pydicom.dcmread(path).PixelData, number_of_frames=FRAMES))
    assert not [word for word in canaries.words[3:] if word.encode() in joined]
    assert np.array_equal(list(read_frames(path)), list(read_frames(tmp_path / "run")))


@pytest.mark.parametrize(
    "data", [b"", b"\xff\xd8", b"\xff\xd8\xff\xfe\x00\x30AB", b"\xff\xd8\xff\xda\x00\x02abc", b"AB"]
)
def test_a_frame_whose_segments_cannot_be_followed_is_refused(data):
    with pytest.raises(DamagedDicomError):
        without_comments(data, TRANSFER_SYNTAX_NAMES["jpeg-baseline"])


def test_an_overlay_in_unused_bits_is_cleared(tmp_path):
    frames = frames_of(0, 12)
    write_xa(tmp_path / "run", frames, XAFacts(bits_stored=12))
    dataset = pydicom.dcmread(tmp_path / "run")
    dataset.PixelData = (frames | 0x4000).tobytes()
    dataset.save_as(tmp_path / "overlaid", enforce_file_format=True)
    path = copied(tmp_path / "overlaid", tmp_path / "data")
    assert pydicom.dcmread(path).PixelData == frames.tobytes()


def test_an_overlay_in_unused_bits_of_compressed_pixels_is_refused(tmp_path):
    write_xa(
        tmp_path / "run", frames_of(0, 12) | 0x4000, XAFacts(bits_stored=16), transfer_syntax="1.2.840.10008.1.2.5"
    )
    dataset = pydicom.dcmread(tmp_path / "run")
    dataset.BitsStored, dataset.HighBit = 12, 11
    dataset.save_as(tmp_path / "overlaid", enforce_file_format=True)
    record = copy_one(tmp_path / "overlaid", tmp_path / "data")
    assert (record.status, "unused bits" in record.reason) == ("failed", True)


def test_uids_are_mapped_the_same_way_in_two_files(tmp_path):
    first, second = "1.2.3.4.1", "1.2.3.4.2"
    for name, uid, other in (("A", first, second), ("B", second, first)):
        reference = Dataset()
        reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.12.1", other
        extra = {"ReferencedImageSequence": Sequence([reference])}
        write_xa(tmp_path / name, frames_of(), XAFacts(instance_uid=uid, study_uid="1.2.3.4", extra=extra))
    a, b = (pydicom.dcmread(copied(tmp_path / name, tmp_path / "data")) for name in "AB")
    assert a.ReferencedImageSequence[0].ReferencedSOPInstanceUID == b.SOPInstanceUID
    assert b.ReferencedImageSequence[0].ReferencedSOPInstanceUID == a.SOPInstanceUID
    assert a.ReferencedImageSequence[0].ReferencedSOPClassUID == "1.2.840.10008.5.1.4.1.1.12.1"
    assert a.StudyInstanceUID == b.StudyInstanceUID != "1.2.3.4"
    assert a.file_meta.MediaStorageSOPInstanceUID == a.SOPInstanceUID


def test_the_same_key_gives_the_same_bytes_and_another_gives_other_names(tmp_path):
    write_xa(tmp_path / "run", frames_of())
    one = copied(tmp_path / "run", tmp_path / "one", key=tmp_path / "key")
    two = copied(tmp_path / "run", tmp_path / "two", key=tmp_path / "key")
    other = copied(tmp_path / "run", tmp_path / "three", key=tmp_path / "other key")
    assert one.read_bytes() == two.read_bytes()
    assert (one.parent.name, one.name) == (two.parent.name, two.name)
    assert one.parent.name != other.parent.name
    assert one.name != other.name


def test_an_object_without_patient_id_is_named_and_shifted_by_its_study(tmp_path):
    facts = XAFacts(patient_id="", study_uid="1.2.3.4", study_date="20200102")
    later = replace(facts, study_date="20200107")
    for name, one in (("A", facts), ("B", later), ("C", replace(facts, study_uid="1.2.3.5"))):
        write_xa(tmp_path / name, frames_of(ord(name)), one)
    a, b, c = (pydicom.dcmread(copied(tmp_path / name, tmp_path / "data")) for name in "ABC")
    assert re.fullmatch("P[0-9a-f]{16}", a.PatientID)
    assert a.PatientID == b.PatientID != c.PatientID
    days = [np.datetime64(f"{d[:4]}-{d[4:6]}-{d[6:]}") for d in (a.StudyDate, b.StudyDate)]
    assert days[1] - days[0] == np.timedelta64(5, "D")
    assert a.StudyDate != "20200102"


def test_an_enhanced_object_keeps_its_functional_groups_and_nothing_that_identifies(tmp_path):
    canaries = Canaries(3)

    def group(**values):
        item = canaries.item(1)
        for keyword, value in values.items():
            setattr(item, keyword, value)
        return Sequence([item])

    shared = Dataset()
    shared.FramePixelDataPropertiesSequence = group(PixelIntensityRelationship="LOG")
    shared.ProjectionPixelCalibrationSequence = group(ObjectPixelSpacingInCenterOfBeam=[0.25, 0.25])
    frames = []
    for number in range(FRAMES):
        frames.append(Dataset())
        frames[-1].PositionerPositionSequence = group(
            PositionerPrimaryAngle=10.0 + number, PositionerSecondaryAngle=5.0
        )
        frames[-1].FrameAnatomySequence = group()
    extra = {
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.12.1.1",
        "SharedFunctionalGroupsSequence": Sequence([shared]),
        "PerFrameFunctionalGroupsSequence": Sequence(frames),
    }
    with disable_value_validation():
        write_xa(tmp_path / "run", frames_of(), XAFacts(extra=extra))
    path = copied(tmp_path / "run", tmp_path / "data")
    run = read_run(path)
    assert (run.primary_angle_deg, run.spacing.value_mm, run.intensity_relationship) == (10, 0.25, "LOG")
    assert len(run.frame_spacing) == FRAMES
    content = path.read_bytes().decode("latin-1")
    assert not [word for word in canaries.words if word in content]


def test_r_waves_that_only_the_curve_has_are_in_the_copy(tmp_path):
    ecg = np.full(300, 1000)
    ecg[[30, 150, 270]] = 4000
    ecg[[29, 31, 149, 151, 269, 271]] = 2500
    frames = np.repeat(frames_of(), 2, axis=0)[:15]
    facts = XAFacts(ecg=tuple(ecg.tolist()), ecg_rate_hz=300, frame_time_ms=1000 / 15)
    write_xa(tmp_path / "run", frames, facts)
    # the peaks are at 0.1, 0.5 and 0.9 s: frames 1.5, 7.5 and 13.5 of 15 in a second
    waves = read_run(tmp_path / "run").r_wave_frames
    assert waves is not None
    assert len(waves) == 3
    path = copied(tmp_path / "run", tmp_path / "data")
    copy = pydicom.dcmread(path)
    assert list(copy.RWavePointer) == [number + 1 for number in waves]
    assert not [element for element in copy if element.tag.group >> 8 in (0x50, 0x60)]
    assert read_run(path).r_wave_frames == waves


@pytest.mark.parametrize("name", ["implicit", "big-endian", "deflated"])
@pytest.mark.parametrize("relationship", ["LIN", "LOG"])
def test_the_reader_sees_the_same_run(name, relationship, tmp_path):
    facts = XAFacts(
        bits_stored=12,
        pixel_intensity_relationship=relationship,
        primary_angle_deg=30.5,
        secondary_angle_deg=-20.0,
        imager_pixel_spacing_mm=0.2,
        source_to_detector_mm=1100.0,
        source_to_patient_mm=800.0,
        manufacturer="SIEMENS",
        r_wave_frames=(1, 5),
        window=(2048.0, 4096.0),
    )
    write_xa(tmp_path / "run", frames_of(0, 12), facts, transfer_syntax=TRANSFER_SYNTAX_NAMES[name])
    path = copied(tmp_path / "run", tmp_path / "data")
    before, after = read_run(tmp_path / "run"), read_run(path)
    assert (after.spacing.value_mm, after.vendor, after.r_wave_frames) == (pytest.approx(0.145455), "Siemens", (1, 5))
    assert replace(after, burned_in_annotation=None) == replace(before, burned_in_annotation=None)
    assert np.array_equal(list(read_frames(path)), list(read_frames(tmp_path / "run")))


@pytest.mark.skipif("CMUNET_REAL_DATA" not in os.environ, reason="CMUNET_REAL_DATA names no folder of real files")
@pytest.mark.parametrize("name", ["philips_cathsample_I_000000", "rubo_demo_HasFragmentSequence"])
def test_a_real_run_is_copied_with_its_pictures_and_without_its_texts(name, tmp_path):
    source = Path(os.environ["CMUNET_REAL_DATA"]) / "dicom_xa" / f"{name}.dcm"
    path = copied(source, tmp_path / "data")
    for before, after in zip(read_frames(source), read_frames(path), strict=True):
        assert np.array_equal(before, after)
    dataset, copy = pydicom.dcmread(source), pydicom.dcmread(path)
    for keyword in ("PatientName", "PatientID", "StudyInstanceUID", "InstitutionName", "StudyDate", "StudyDescription"):
        value = str(dataset.get(keyword) or "").strip()
        assert not value or value not in str(copy)
