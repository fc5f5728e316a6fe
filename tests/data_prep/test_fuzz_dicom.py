"""Damaged DICOM files end in a record."""

import subprocess
import sys
from pathlib import Path

FUZZ = Path(__file__).parents[1] / "fuzz" / "fuzz_dicom.py"


def test_two_hundred_damaged_files_all_end_in_a_record():
    done = subprocess.run([sys.executable, str(FUZZ), "--files", "200"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "200 files, 200 ended, 0 lost" in done.stdout
