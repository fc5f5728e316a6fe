"""Files of an export, and members of archives in it."""

import inspect
import os
import sys
import warnings
import zipfile

import pytest

from data_prep.ingestion.sources import Source, Unreadable, find_sources


@pytest.fixture
def export(tmp_path):
    (tmp_path / "b" / "deep").mkdir(parents=True)
    (tmp_path / "b" / "deep" / "IM1").write_bytes(b"one")
    (tmp_path / "a.dcm").write_bytes(b"two")
    with zipfile.ZipFile(tmp_path / "c.ZIP", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("s/IM2", b"three")
        archive.writestr("s/inner.zip", b"PK")
    return tmp_path


def test_files_and_members_are_found_in_the_order_of_their_names(export):
    found = list(find_sources(export))
    assert [item.name for item in found] == ["a.dcm", "b/deep/IM1", "c.ZIP!s/IM2", "c.ZIP!s/inner.zip"]
    assert [item.open().read() for item in found if isinstance(item, Source)] == [b"two", b"one", b"three"]
    assert found[-1] == Unreadable("c.ZIP!s/inner.zip", "an archive inside an archive: unpack it")


def test_one_file_is_an_export_of_one(export):
    assert [item.name for item in find_sources(export / "a.dcm")] == ["a.dcm"]


def test_a_folder_is_left_out(export):
    assert [item.name for item in find_sources(export, leave_out=[export / "b"])][0:2] == ["a.dcm", "c.ZIP!s/IM2"]


def test_links_are_named_and_not_followed(export):
    (export / "d").symlink_to(export)
    assert list(find_sources(export))[-1] == Unreadable("d", "a link, which is not followed")


def test_a_fingerprint_changes_with_the_content(export):
    def fingerprints():
        return [item.fingerprint for item in find_sources(export) if isinstance(item, Source)]

    before = fingerprints()
    assert fingerprints() == before
    os.utime(export / "a.dcm", ns=(1, 1))
    with zipfile.ZipFile(export / "c.ZIP", "w") as archive:
        archive.writestr("s/IM2", b"eerht")
    after = fingerprints()
    assert [one == other for one, other in zip(before, after, strict=True)] == [False, True, False]


def test_a_damaged_archive_is_named_by_its_reason(export):
    (export / "c.ZIP").write_bytes(b"PK\3\4 cut")
    assert list(find_sources(export))[-1] == Unreadable("c.ZIP", "the archive is damaged")


def test_a_damaged_member_is_an_error_without_its_name(export):
    content = bytearray((export / "c.ZIP").read_bytes())
    start = content.index(b"IM2") + 3
    content[start : start + 4] = b"\xff\xff\xff\xff"
    (export / "c.ZIP").write_bytes(bytes(content))
    member = next(item for item in find_sources(export) if item.name.endswith("IM2"))
    with pytest.raises(ValueError, match="a zip member cannot be unpacked") as caught:
        member.open()
    assert "IM2" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_two_members_of_one_name_are_two_sources(tmp_path):
    with zipfile.ZipFile(tmp_path / "c.zip", "w") as archive:
        archive.writestr("IM", b"one")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("IM", b"two")
    found = list(find_sources(tmp_path))
    assert [item.name for item in found] == ["c.zip!IM", "c.zip!IM!2"]
    assert [item.open().read() for item in found] == [b"one", b"two"]


def test_folders_nested_deeper_than_calls_can_be_are_walked(tmp_path):
    deepest = tmp_path / "/".join("d" * 400)
    deepest.mkdir(parents=True)
    (deepest / "IM").write_bytes(b"deep")
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack()) + 200)
    try:
        (found,) = find_sources(tmp_path)
    finally:
        sys.setrecursionlimit(limit)
    assert found.name == "d/" * 400 + "IM"


def test_a_missing_export_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        list(find_sources(tmp_path / "nowhere"))


def many(path, count, *, prefix=b""):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(count):
            archive.writestr(f"s/IM{number:05d}", b"%d" % number)
    path.write_bytes(prefix + path.read_bytes())


def test_members_are_read_without_the_archives_directory(tmp_path, monkeypatch):
    """So that the time of an archive grows with its members, not with their square."""
    many(tmp_path / "a.zip", 50, prefix=b"#!/bin/sh\n")
    found = list(find_sources(tmp_path))
    monkeypatch.setattr(zipfile, "ZipFile", None)
    assert sorted(int(source.open().read()) for source in found) == list(range(50))


def test_members_of_one_name_stored_and_packed_are_kept_apart(tmp_path):
    kinds = {b"one": zipfile.ZIP_STORED, b"two": zipfile.ZIP_DEFLATED, b"three": zipfile.ZIP_LZMA}
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that names repeat
        for content, kind in kinds.items():
            archive.writestr("IM", content, kind)
    found = {source.name: source.open().read() for source in find_sources(tmp_path)}
    assert found == {"a.zip!IM": b"one", "a.zip!IM!2": b"two", "a.zip!IM!3": b"three"}


@pytest.mark.parametrize("where", ["header", "content", "cut"])
def test_a_member_damaged_after_it_was_listed_is_refused_without_its_name(tmp_path, where):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("DOE^JOHN", b"content")
    (source,) = find_sources(tmp_path)
    content = bytearray(path.read_bytes())
    if where == "cut":
        del content[20:]
    else:
        content[0 if where == "header" else content.index(b"content")] ^= 255
    path.write_bytes(content)
    with pytest.raises(ValueError, match="a zip member cannot be unpacked") as caught:
        source.open()
    assert "DOE" not in str(caught.value)
    assert "Error" not in str(caught.value)
