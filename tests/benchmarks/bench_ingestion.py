"""Ingestion of XA DICOM: its time beside bare pydicom decoding of the same files, and how it grows with their number.

python tests/benchmarks/bench_ingestion.py [--files 100 1000 5000] [--real DIR]
"""

import argparse
import contextlib
import io
import resource
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import median

import pydicom

from cmunet_monai.pseudonyms import Pseudonyms
from data_prep.__main__ import main as data_prep
from data_prep.ingestion.frames import Job, Settings, ingest, inspect
from data_prep.ingestion.sources import Source
from data_prep.synthetic.cine import synthesize_cine
from data_prep.synthetic.xa_file import TRANSFER_SYNTAX_NAMES, write_xa

ROUNDS = 5


def compare_with_decoding(paths: list[Path], folder: Path) -> None:
    """Alternate bare decoding and ingestion of each file in one process; print the median ratio."""
    pseudonyms = Pseudonyms.open(folder / "key", output=folder / "out")
    for path in paths:
        job = Job(Source(path.name, path, None, ""), pseudonyms, folder / "out", Settings())
        ratios, bare_ms = [], []
        for _ in range(ROUNDS):
            begin = time.perf_counter()
            frames = len(pydicom.dcmread(path).pixel_array)
            middle = time.perf_counter()
            record = ingest((job, inspect(job)[0]))
            ratios.append((time.perf_counter() - middle) / (middle - begin))
            bare_ms.append(1000 * (middle - begin) / frames)
        print(
            f"{path.stem:32} {frames:4} frames, bare decoding {median(bare_ms):6.2f} ms a frame, "
            f"ingestion {median(ratios):5.2f} times that ({record.status})"
        )


def grow(counts: list[int], folder: Path) -> None:
    """Ingest more and more small runs with the verb; print time a file and the largest process."""
    cine = synthesize_cine(0, 0, 0, size=96, frames=16, contrast=True)
    for count in counts:
        export = folder / f"export_{count}"
        export.mkdir()
        for number in range(count):
            extra = {"SOPInstanceUID": f"1.2.826.0.1.{number + 1}"}
            write_xa(export / str(number), cine.frames, replace(cine.facts, extra=extra, patient_id=str(number // 10)))
        begin = time.perf_counter()
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            code = data_prep(["dicom", "--source", str(export), "--output", str(folder / f"data_{count}")])
        seconds = time.perf_counter() - begin
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(
            f"{count:6} files: {seconds:7.1f} s, {1000 * seconds / count:6.1f} ms a file, largest worker "
            f"{peak:5.0f} MiB, parent {own:5.0f} MiB, exit code {code}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, nargs="*", default=[100, 1000, 5000])
    parser.add_argument("--real", type=Path, help="a folder of real XA files")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        paths = []
        cine = synthesize_cine(0, 0, 0, size=512, frames=60, contrast=True)
        for name in ("explicit", "jpeg-baseline", "jpeg-lossless-sv1", "jpeg-ls", "jpeg-2000", "rle"):
            paths.append(folder / f"{name}.dcm")
            write_xa(paths[-1], cine.frames, cine.facts, transfer_syntax=TRANSFER_SYNTAX_NAMES[name])
        paths += sorted(arguments.real.glob("*.dcm")) if arguments.real else []
        compare_with_decoding(paths, folder)
        grow(arguments.files, folder)


if __name__ == "__main__":
    main()
