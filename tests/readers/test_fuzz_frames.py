"""Damaged PNG and NIfTI files are taken or named."""

import subprocess
import sys
from pathlib import Path

FUZZ = Path(__file__).parents[1] / "fuzz" / "fuzz_frames.py"


def test_a_hundred_damaged_frames_and_labels_are_taken_or_named():
    done = subprocess.run([sys.executable, str(FUZZ), "--files", "100"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "100 files, 100 ended, 0 badly" in done.stdout
