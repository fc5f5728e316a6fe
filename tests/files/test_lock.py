"""One process at a time, with and without POSIX locks."""

import subprocess
import sys

import pytest

from cmunet_monai.files.lock import alone

HOLD = """
import sys
for name in sys.argv[2:]:
    sys.modules[name] = None  # as where it cannot be imported
from cmunet_monai.files.lock import alone
with alone(sys.argv[1], "busy", inherited=True):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("missing", [[], ["fcntl"], ["fcntl", "resource", "pwd", "grp"]])
def test_a_second_process_is_told_and_gets_the_lock_when_the_first_has_ended(tmp_path, missing):
    path = tmp_path / "new" / "a.lock"
    command = [sys.executable, "-c", HOLD, str(path), *missing]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout.readline() == "held\n"
        second = subprocess.run(command, input="", capture_output=True, text=True)
        assert second.stdout == ""
        assert "BlockingIOError: busy" in second.stderr
        first.stdin.close()
        first.wait()
    assert subprocess.run(command, input="", capture_output=True, text=True).stdout == "held\n"


@pytest.mark.parametrize("inherited", [False, True])
def test_both_kinds_of_lock_keep_each_other_out(tmp_path, inherited):
    with (
        alone(tmp_path / "a", "busy", inherited=inherited),
        pytest.raises(BlockingIOError, match="busy"),
        alone(tmp_path / "a", "busy", inherited=not inherited),
    ):
        pass


def test_the_lock_is_given_back_after_an_error(tmp_path):
    for inherited in (False, True):
        with pytest.raises(KeyError), alone(tmp_path / "a", "busy", inherited=inherited):
            raise KeyError
        with alone(tmp_path / "a", "busy"):
            pass


def test_what_needs_no_posix_is_imported_where_its_modules_are_missing():
    code = """
import sys
for name in ("fcntl", "resource", "termios"):
    sys.modules[name] = None
import cmunet_monai.pseudonyms, cmunet_monai.study.runner, cmunet_monai.label.doctor, cmunet_monai.handover.verify
import cmunet_monai.readers.frame_folder, data_prep.ingestion.archive, data_prep.ingestion.pool, data_prep.dicom
data_prep.ingestion.pool._start(2**40)
print("imported")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "imported\n", done.stderr
