"""Predicts into a disk with ever more room: run by a test in a namespace of its own, where the disk is small.

Arguments: the frames, the output folder, the weights. The last line is a JSON list, one object for each run.
"""

import json
import os
import sys
from pathlib import Path

from PIL import Image

from cmunet_monai.prediction import predict

TINY = {"channels": [4, 8, 16], "image_size": [64, 64], "num_workers": 0, "runtime": "torch", "probabilities": True}


def fill(folder, left):
    filler = folder / "filler"
    filler.unlink(missing_ok=True)
    facts = os.statvfs(folder)
    filler.write_bytes(bytes(facts.f_bavail * facts.f_frsize - left))


def run(frames, output, weights):
    """What a person reads, and what lies there afterwards."""
    try:
        error, verdicts = None, predict(frames, output, weights=[weights], **TINY)["verdicts"]
    except OSError as raised:
        error, verdicts = str(raised), None
    for path in output.rglob("*.png"):
        with Image.open(path) as picture:
            picture.load()  # raises where it is cut or empty
    for path in (output / "records").rglob("*.json"):
        json.loads(path.read_text())
    return {"error": error, "verdicts": verdicts, "left over": [path.name for path in output.rglob(".tmp-*")]}


frames, output, weights = map(Path, sys.argv[1:])
found = []
for left_kib in (4, 12, 20, 24, 32, 48, 64):
    fill(output, 1024 * left_kib)
    found.append(run(frames, output, weights))
(output / "filler").unlink()
found.append(run(frames, output, weights))
sys.stdout.write(f"\n{json.dumps(found)}\n")
