"""Files that are whole or absent."""

import csv
import errno
import os

import pytest

from cmunet_monai.files.atomic import atomic_path, write_csv_atomic, write_text_atomic


def test_a_failure_leaves_the_file_as_it_was_and_nothing_beside_it(tmp_path):
    write_text_atomic(tmp_path / "a.txt", "before")

    def fail_halfway():
        with atomic_path(tmp_path / "a.txt") as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_halfway()
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a.txt": "before"}


def test_columns_are_all_keys_and_what_a_row_lacks_is_empty(tmp_path):
    write_csv_atomic(tmp_path / "deep" / "a.csv", [{"id": "x", "dice": 0.5}, {"id": "y, z", "hd": 2}])
    assert (tmp_path / "deep" / "a.csv").read_bytes() == b'id,dice,hd\r\nx,0.5,\r\n"y, z",,2\r\n'


@pytest.mark.parametrize("text", ["=1+1", "+cmd", "-cmd|x", "@SUM(A1)", "\t=1", "\r=1"])
def test_a_text_that_a_spreadsheet_would_run_is_written_as_text(tmp_path, text):
    write_csv_atomic(tmp_path / "a.csv", [{"name": text, "number": -0.5, "written": "-0.5"}])
    with (tmp_path / "a.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert row == {"name": f"'{text}", "number": "-0.5", "written": "-0.5"}


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("path", ["a.csv", "new/b.json", "c.nii.gz"])
def test_a_full_disk_names_the_file_and_leaves_the_old_one(tmp_path, code, path):
    target = tmp_path / path
    write_text_atomic(target, "old")

    def fill():
        with atomic_path(target) as temporary:
            temporary.write_text("half")
            raise OSError(code, os.strerror(code))

    with pytest.raises(OSError, match=f"'{target}'") as raised:
        fill()
    assert raised.value.errno == code
    assert [file.name for file in target.parent.iterdir() if file.is_file()] == [target.name]
    assert target.read_text() == "old"
