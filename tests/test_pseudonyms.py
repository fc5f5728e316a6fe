"""Pseudonyms by a secret key."""

import csv
import hashlib
import hmac
import re
import stat
import subprocess
import sys

import pytest

from cmunet_monai.pseudonyms import Pseudonyms, shifted_date, write_map


@pytest.fixture
def names(tmp_path):
    return Pseudonyms.open(tmp_path / "secret" / "key", output=tmp_path / "data")


def test_a_new_key_has_256_random_bits_that_only_the_owner_can_read(names, tmp_path):
    path = tmp_path / "secret" / "key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert re.fullmatch(r"[0-9a-f]{64}\n", path.read_text())
    assert Pseudonyms.open(tmp_path / "other", output=tmp_path / "data").key != names.key


def test_the_key_is_read_again(names, tmp_path):
    again = Pseudonyms.open(tmp_path / "secret" / "key", output=tmp_path / "data")
    assert again.patient("4711") == names.patient("4711")


def test_a_pseudonym_is_the_hmac_of_purpose_and_identifier(names):
    expected = hmac.new(names.key, b"7:patient4:clin4:4711", hashlib.sha256).hexdigest()
    assert names.patient("4711", "clin") == "P" + expected[:16]


def test_purposes_issuers_and_keys_are_kept_apart(names, tmp_path):
    other = Pseudonyms.open(tmp_path / "other", output=tmp_path / "data")
    found = [names.patient("x"), names.patient("x", "y"), names.patient("xy"), other.patient("x")]
    found += [names.run("x"), names.source("x"), names.study("x"), names.patient("", "x")]
    assert len({name[1:] for name in found}) == len(found)


def test_a_uid_is_valid_and_the_same_everywhere(names):
    uid = names.uid("1.2.3")
    assert uid == names.uid("1.2.3") != names.uid("1.2.4")
    assert re.fullmatch(r"2\.25\.(0|[1-9][0-9]*)", uid)
    assert len(uid) <= 64
    assert names.uid("1.2.840.10008.5.1.4.1.1.12.1") == "1.2.840.10008.5.1.4.1.1.12.1"  # XA Image Storage


def test_dates_move_one_to_ten_years_back_and_together(names):
    shifts = {names.date_shift_days(str(number)) for number in range(500)}
    assert min(shifts) >= -3650
    assert max(shifts) <= -365
    assert len(shifts) > 400
    assert names.date_shift_days("7") == names.date_shift_days("7")


def test_a_date_moves_over_a_leap_day_and_loses_its_time():
    assert shifted_date("20240301", -1) == "20240229"
    assert shifted_date("2024.03.01", -366) == "20230301"  # as ACR-NEMA wrote dates
    assert shifted_date("20240101123456.789 ", -365) == "20230101"
    assert shifted_date("00010101", -1) is None
    assert shifted_date("unknown", 0) is None


@pytest.mark.parametrize("content", ["", "abc", "g" * 64, "0" * 62])
def test_a_file_that_holds_no_key_is_refused_without_its_content(tmp_path, content):
    path = tmp_path / "key"
    path.write_text(content)
    path.chmod(0o600)
    with pytest.raises(ValueError, match="holds no key: expected 64 hexadecimal digits") as caught:
        Pseudonyms.open(path, output=tmp_path / "data")
    assert not content or content not in str(caught.value)


@pytest.mark.parametrize("mode", [0o640, 0o604])
def test_a_key_that_others_can_read_is_refused(names, tmp_path, mode):
    names.key_file.chmod(mode)
    with pytest.raises(ValueError, match="can be read by others"):
        Pseudonyms.open(names.key_file, output=tmp_path / "data")


def test_a_key_inside_the_output_is_refused(tmp_path):
    with pytest.raises(ValueError, match="keep it apart from the data"):
        Pseudonyms.open(tmp_path / "data" / "sub" / "key", output=tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_the_key_is_in_no_text_of_the_object(names):
    assert names.key.hex() not in f"{names} {names!r}"
    assert repr(names.key) not in f"{names} {names!r}"


def test_the_map_lies_beside_the_key_and_grows(names):
    write_map(names, {"P1": "Doe, Jane"})
    path = write_map(names, {"P0": "a/b.dcm"})
    assert path.parent == names.key_file.parent
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with path.open(newline="") as file:
        assert [tuple(row.values()) for row in csv.DictReader(file)] == [("P0", "a/b.dcm"), ("P1", "Doe, Jane")]


def test_what_a_spreadsheet_would_take_for_a_formula_is_no_cell_of_the_map(names):
    assert "'=1+1" in write_map(names, {"P1": "=1+1"}).read_text()


def test_a_file_name_that_is_no_text_is_mapped_too(names):
    name = b"caf\xe9".decode("utf-8", "surrogateescape")
    assert names.source(name) != names.source("cafe")
    assert "caf\\udce9" in write_map(names, {names.source(name): name}).read_text()


def test_a_key_that_is_a_folder_is_named(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(ValueError, match="is a folder: name a file"):
        Pseudonyms.open(tmp_path / "folder", output=tmp_path / "out")


def test_a_key_that_cannot_be_written_names_the_option(tmp_path, monkeypatch):
    def refuse(*arguments):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("cmunet_monai.pseudonyms._write_key", refuse)
    with pytest.raises(PermissionError, match=r"no key can be written to .*locked\.key: name another file with --key"):
        Pseudonyms.open(tmp_path / "locked.key", output=tmp_path / "out")


# Several processes ----------------------------------------------------------------------------------------------------

WRITER = """
import sys
from cmunet_monai.pseudonyms import Pseudonyms, write_map
names = Pseudonyms.open(sys.argv[1], output=sys.argv[2])
sys.stdin.read()
for number in range(int(sys.argv[4])):
    write_map(names, {f"{sys.argv[3]}{number:03d}": str(number)})
print(names.key.hex())
"""


def several(folder, count, entries):
    """The keys that so many processes, started at once, have used."""
    words = [str(folder / "key"), str(folder / "data")]
    running = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, *words, chr(ord("a") + number), str(entries)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for number in range(count)
    ]  # fmt: skip
    for process in running:
        process.stdin.close()
    return [process.stdout.read().strip() for process in running if process.wait() == 0]


def test_two_processes_with_one_key_lose_no_entry_of_the_map(tmp_path):
    """Two of 400 entries each, one write an entry."""
    assert len(set(several(tmp_path, 2, 400))) == 1
    with (tmp_path / "key.map.csv").open(newline="") as file:
        found = [row["pseudonym"] for row in csv.DictReader(file)]
    assert found == [f"{name}{number:03d}" for name in "ab" for number in range(400)]


def test_six_first_starts_at_once_make_one_key(tmp_path):
    keys = several(tmp_path, 6, 1)
    assert len(keys) == 6
    assert set(keys) == {(tmp_path / "key").read_text().strip()}


def test_a_key_is_read_where_nothing_can_be_written(tmp_path):
    (tmp_path / "secret").mkdir()
    names = Pseudonyms.open(tmp_path / "secret" / "key", output=tmp_path / "data")
    write_map(names, {"P1": "x"})
    before = sorted(path.name for path in (tmp_path / "secret").iterdir())
    assert before == [".key.lock", "key", "key.map.csv"]
    (tmp_path / "secret" / ".key.lock").unlink()
    again = Pseudonyms.open(tmp_path / "secret" / "key", output=tmp_path / "data")
    write_map(again, {"P1": "x"})
    assert not (tmp_path / "secret" / ".key.lock").exists()


def test_on_windows_a_mode_does_not_tell_who_can_read_a_key(names, tmp_path, monkeypatch):
    names.key_file.chmod(0o644)
    monkeypatch.setattr("cmunet_monai.pseudonyms.sys.platform", "win32")
    assert Pseudonyms.open(names.key_file, output=tmp_path / "data").key == names.key
