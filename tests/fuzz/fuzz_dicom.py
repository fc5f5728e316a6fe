"""Damage DICOM files at random and ingest them: every file must end in a record, none may stop, hang or swell the run.

    python tests/fuzz/fuzz_dicom.py --files 5000 --seed 0

Seeds are small synthetic runs in every transfer syntax that can be written, and, where CMUNET_REAL_DATA names a folder
of real data, every fiftieth a real file. A file that is killed after 10 s counts as a hang. Exit code 1 if a file
hangs, kills its process, raises what is no typed error, or if the memory of the largest process grows beyond 2 GiB.
"""

import argparse
import os
import resource
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pydicom
from pydicom.config import disable_value_validation

from cmunet_monai.pseudonyms import Pseudonyms
from data_prep.ingestion.frames import Job, Record, Settings, ingest, inspect
from data_prep.ingestion.pool import Lost, processes
from data_prep.ingestion.sources import Source
from data_prep.synthetic.xa_file import TRANSFER_SYNTAXES, XAFacts, write_xa

SECONDS = 10
MAX_PROCESS_BYTES = 2 * 1024**3
CONTRADICTIONS = {
    "Rows": (0, 1, 31, 65535),
    "Columns": (0, 1, 65535),
    "NumberOfFrames": (0, -1, 2, 10**6),
    "BitsAllocated": (1, 7, 16, 32, 64),
    "BitsStored": (0, 1, 12, 17),
    "HighBit": (0, 3, 15),
    "PixelRepresentation": (1, 3),
    "SamplesPerPixel": (0, 3),
    "PhotometricInterpretation": ("RGB", "PALETTE COLOR", "", "MONOCHROME1"),
    "PixelIntensityRelationship": ("LIN", "LOG", "NONSENSE"),
    "FrameTime": ("0", "-5", "1e400"),
    "ImagerPixelSpacing": (["0", "0"], ["-1", "1e30"]),
    "RWavePointer": ([0, 65535],),
}


def make_seeds(folder: Path) -> list[bytes]:
    """A run of six frames of 40 x 48 in every transfer syntax, 8 bits and, where it can be, 12."""
    rng = np.random.default_rng(0)
    seeds = []
    for syntax in TRANSFER_SYNTAXES:
        for bits in (8, 12):
            frames = rng.integers(0, 2**bits, (6, 40, 48)).astype(np.uint8 if bits == 8 else np.uint16)
            try:
                write_xa(folder / "seed.dcm", frames, XAFacts(bits_stored=bits), transfer_syntax=syntax)
            except ValueError:  # baseline JPEG has 8 bits
                continue
            seeds.append((folder / "seed.dcm").read_bytes())
    return seeds


def real_seeds() -> list[bytes]:
    folder = os.environ.get("CMUNET_REAL_DATA")
    return [path.read_bytes() for path in sorted(Path(folder).glob("dicom_xa/*.dcm"))] if folder else []


def damage(content: bytes, rng: np.random.Generator) -> bytes:
    """One of: bytes flipped, cut, a stretch repeated, tags removed, tags that contradict the pixels."""
    way = rng.integers(5)
    if way == 0:
        flipped = bytearray(content)
        for place in rng.integers(128, len(content), rng.integers(1, 40)):
            flipped[place] = rng.integers(256)
        return bytes(flipped)
    if way == 1:
        return content[: rng.integers(len(content))]
    if way == 2:
        start, length = rng.integers(len(content)), rng.integers(1, 400)
        return content[: start + length] + content[start:]
    return _with_other_tags(content, rng, remove=way == 3)


def _with_other_tags(content: bytes, rng: np.random.Generator, *, remove: bool) -> bytes:
    source = pydicom.filebase.DicomBytesIO(content)
    with disable_value_validation():
        dataset = pydicom.dcmread(source)
        if remove:
            tags = [element.tag for element in dataset]
            for tag in rng.choice(len(tags), min(3, len(tags)), replace=False):
                del dataset[tags[tag]]
        else:
            for keyword in rng.choice(list(CONTRADICTIONS), 2, replace=False):
                values = CONTRADICTIONS[keyword]
                setattr(dataset, keyword, values[rng.integers(len(values))])
        target = pydicom.filebase.DicomBytesIO()
        dataset.save_as(target)
    return target.getvalue()


def make_files(folder: Path, count: int, seed: int) -> Iterator[Path]:
    rng = np.random.default_rng(seed)
    seeds, real = make_seeds(folder), real_seeds()
    for number in range(count):
        choices = real if real and number % 50 == 0 else seeds
        path = folder / f"{number:05d}"
        path.write_bytes(damage(choices[rng.integers(len(choices))], rng))
        yield path


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "files").mkdir()
        pseudonyms = Pseudonyms.open(folder / "key", output=folder / "output")
        jobs = (
            Job(Source(path.name, path, None, ""), pseudonyms, folder / "output", Settings())
            for path in make_files(folder / "files", arguments.files, arguments.seed)
        )
        return report(ingest_all(list(jobs), arguments.workers), arguments.files)


def ingest_all(jobs: list[Job], workers: int) -> list[tuple[str, str]]:
    """Status and reason of every file."""
    with processes(workers, seconds=SECONDS, memory_bytes=8 * 1024**3) as work:
        inspected = list(work(inspect, jobs))
        found = [(job, end if isinstance(end, Lost) else end[0]) for job, end in inspected]
        runs = [(job, record) for job, record in found if isinstance(record, Record) and record.status == "kept"]
        ended = [end for _, end in found if isinstance(end, Lost) or end.status != "kept"]
        ended += [record for _, record in work(ingest, runs)]
    return [("LOST", end.reason) if isinstance(end, Lost) else (end.status, end.reason) for end in ended]


def report(results: list[tuple[str, str]], files: int) -> int:
    for (status, reason), count in sorted(Counter(results).items()):
        print(f"{count:6}  {status:12} {reason}")
    lost = sum(status == "LOST" for status, _ in results)
    peak_bytes = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    print(f"{files} files, {len(results)} ended, {lost} lost, largest process {peak_bytes / 2**20:.0f} MiB")
    return int(lost > 0 or len(results) != files or peak_bytes > MAX_PROCESS_BYTES)


if __name__ == "__main__":
    sys.exit(main())
