"""Damage DICOM files at random and ingest them: every file must end in a record, none may stop, hang or swell the run.

    python tests/fuzz/fuzz_dicom.py --files 5000 --seed 0

Seeds are small synthetic runs in every transfer syntax that can be written, and, where CMUNET_REAL_DATA names a folder
of real data, every fiftieth a real file. A file that is killed after 10 s counts as a hang. Exit code 1 if a file
hangs, kills its process, raises what is no typed error, or if the memory of the largest process grows beyond 2 GiB.
"""

import argparse
import os
import resource
import struct
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
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
    "Rows": (0, 1, 31, 39, 41, 65535),
    "Columns": (0, 1, 47, 49, 65535),
    "NumberOfFrames": (0, -1, 2, 5, 7, 10**6),
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
    "ModalityLUTSequence": ([],),
    "PixelAspectRatio": ([4, 3], [0, 0]),
}
WRONG_REPRESENTATIONS = (
    *(("Rows", "UL", 40), ("Rows", "UL", 2**31), ("Columns", "LO", "48"), ("NumberOfFrames", "UL", 6)),
    *(("NumberOfFrames", "UL", 2**32 - 1), ("NumberOfFrames", "LO", "six"), ("BitsStored", "SL", -8)),
    *(("FrameTime", "LO", "66.7"), ("ImageType", "LT", "ORIGINAL"), ("WindowCenter", "OB", b"\xff\xff")),
    *(("ShutterShape", "UL", 7), ("SOPInstanceUID", "LO", "no uid"), ("PixelSpacing", "FL", 0.2)),
)
ITEM, DELIMITER = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0\0\0\0\0"
BOMB_BYTES = 2**27
_SHARES = (*(0.11,) * 9, 0.01)  # a bomb takes long to make


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
    """One of: bytes flipped, cut, a stretch repeated, tags removed, tags that contradict the pixels or are of another
    type, fragments laid out anew, single frames damaged, palette colours, a deflated bomb.
    """
    way = rng.choice(10, p=_SHARES)
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
    change = (_remove_tags, _contradict, _retype, _lay_out, _damage_frames, _colour, _deflate)[way - 3]
    with disable_value_validation():
        dataset = pydicom.dcmread(pydicom.filebase.DicomBytesIO(content))
        if change is _deflate and not dataset.original_encoding[1]:
            return content[: rng.integers(len(content))]  # pydicom writes no other byte order than it read
        change(dataset, rng)
        target = pydicom.filebase.DicomBytesIO()
        dataset.save_as(target)
    return target.getvalue()


def _remove_tags(dataset: pydicom.Dataset, rng: np.random.Generator) -> None:
    tags = [element.tag for element in dataset]
    for tag in rng.choice(len(tags), min(3, len(tags)), replace=False):
        del dataset[tags[tag]]


def _contradict(dataset: pydicom.Dataset, rng: np.random.Generator) -> None:
    for keyword in rng.choice(list(CONTRADICTIONS), 2, replace=False):
        values = CONTRADICTIONS[keyword]
        setattr(dataset, keyword, values[rng.integers(len(values))])


def _retype(dataset: pydicom.Dataset, rng: np.random.Generator) -> None:
    for number in rng.choice(len(WRONG_REPRESENTATIONS), 2, replace=False):
        dataset.add_new(*WRONG_REPRESENTATIONS[number])


def _frames_of(dataset: pydicom.Dataset) -> list[bytes]:
    """The fragments of a seed, which has one for each frame."""
    value, position, found = bytes(dataset.PixelData), 0, []
    while value[position : position + 4] == ITEM:
        length = struct.unpack("<L", value[position + 4 : position + 8])[0]
        found.append(value[position + 8 : position + 8 + length])
        position += 8 + length
    return found[1:]


def _lay_out(dataset: pydicom.Dataset, rng: np.random.Generator) -> None:
    """Fragments that are not one a frame, empty ones, offset tables right and wrong, a missing delimiter; bytes behind
    uncompressed frames.
    """
    frames = _frames_of(dataset)
    if not frames:
        dataset.PixelData += rng.bytes(2 * int(rng.integers(1, 400)))
        return
    items: list[bytes] = []
    for frame in frames:
        cuts = sorted({0, len(frame), *(2 * rng.integers(0, len(frame) // 2, rng.integers(0, 4))).tolist()})
        items += [frame[start:stop] for start, stop in pairwise(cuts)]
        items += [b""] * int(rng.integers(0, 2))
    offsets = rng.integers(0, 2**32, rng.integers(0, 9)).tolist() if rng.integers(2) else []
    if rng.integers(2):
        dataset.ExtendedOffsetTable = rng.bytes(8 * int(rng.integers(0, 9)))
    table = struct.pack(f"<{len(offsets)}L", *offsets)
    value = b"".join(ITEM + struct.pack("<L", len(item)) + item for item in (table, *items))
    dataset.PixelData = value if rng.integers(2) else value + rng.bytes(8)
    dataset["PixelData"].is_undefined_length = True


def _damage_frames(dataset: pydicom.Dataset, rng: np.random.Generator) -> None:
    frames = _frames_of(dataset)
    for number in rng.choice(len(frames), min(len(frames), int(rng.integers(1, 4))), replace=False):
        frame = frames[number]
        ways = (bytes(len(frame)), frame[: len(frame) // 2], rng.bytes(len(frame)), b"", frame[-20:] + frame)
        frames[number] = ways[rng.integers(len(ways))]
    if frames:
        items = (frame + b"\0" * (len(frame) % 2) for frame in [b"", *frames])
        dataset.PixelData = b"".join(ITEM + struct.pack("<L", len(item)) + item for item in items)
        dataset["PixelData"].is_undefined_length = True


def _colour(dataset: pydicom.Dataset, rng: np.random.Generator) -> None:
    """A palette that is shorter than the pixels' values."""
    dataset.PhotometricInterpretation = "PALETTE COLOR"
    for colour in ("Red", "Green", "Blue"):
        dataset.add_new(f"{colour}PaletteColorLookupTableDescriptor", "US", [int(rng.integers(1, 4)), 0, 16])
        dataset.add_new(f"{colour}PaletteColorLookupTableData", "OW", rng.bytes(2))


def _deflate(dataset: pydicom.Dataset, rng: np.random.Generator) -> None:
    """Pixels that deflate to nothing: of more frames than there is memory for, or far more bytes than frames."""
    dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1.99"
    dataset.PixelData = bytes(BOMB_BYTES)
    dataset["PixelData"].is_undefined_length = False
    dataset.NumberOfFrames = (6, BOMB_BYTES // 1920, 10**6)[rng.integers(3)]


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
