"""Damage PNG and NIfTI files at random and read them as `predict` and `check` do: none may be lost, stop or hang a run.

    python tests/fuzz/fuzz_frames.py --files 2000 --seed 0

Half of the files are frames, which `list_frames` lists or passes over with a reason, and of which each that is listed
is loaded; half are labels, which `check` names or takes. Exit code 1 if a file is neither taken nor named, a reason
holds an exception's name or says nothing, something else than a refusal is raised, or a file takes more than 10 s.
"""

import argparse
import csv
import faulthandler
import gzip
import io
import logging
import re
import struct
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
from PIL import Image

from cmunet_monai.check.labels import check_labels
from cmunet_monai.quiet import quiet
from cmunet_monai.readers import list_frames

SECONDS = 10
EXCEPTION = re.compile(r"\b[A-Z]\w*(Error|Exception|Warning)\b|Traceback|NoneType|object is not|unpack requires")
SIDE = 40
OTHERS = (
    b"",
    b"%!PS-Adobe-3.0 EPSF-3.0\n{ } loop\n",
    b"II*\0",
    b"\xff\xd8\xff\xe0",
    b"GIF89a",
    b"import os\n",
    b"\0" * 99,
)
NUMBERS = (0, 1, -1, 127, 255, 2**15 - 1, -(2**15), 2**31 - 1, -(2**31))
ZEROS, PACKED_ZEROS = zlib.compress(bytes(2**26), 1), gzip.compress(bytes(2**26), 1)
REALS = (0.0, -1.0, 1e9, 3e38, float("inf"), float("nan"))


def png(rng: np.random.Generator, *, label: bool) -> bytes:
    """A frame of noise or a label of one line, in one of the modes that PNG has."""
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[10:13, 5:35] = 1
    grey = mask * np.uint8(255) if label else rng.integers(0, 256, (SIDE, SIDE), dtype=np.uint8)
    mode = str(rng.choice(["L", "1", "P", "RGB", "RGBA", "LA", "I;16"]))
    if mode == "I;16":
        image = Image.fromarray(grey.astype(np.uint16) * np.uint16(257))
    else:
        image = Image.fromarray(grey).convert(mode)
    stream = io.BytesIO()
    image.save(stream, format="PNG")
    return stream.getvalue()


def nifti(rng: np.random.Generator, *, label: bool) -> bytes:
    """The same as NIfTI-1 or -2, of a random type, packed or not."""
    values = np.zeros((SIDE, SIDE, 1))
    values[5:35, 10:13] = 1
    if not label:
        values = rng.integers(0, 100, values.shape)
    kind = rng.choice([np.uint8, np.int16, np.uint16, np.float32, np.float64])
    make = nibabel.Nifti1Image if rng.random() < 0.7 else nibabel.Nifti2Image
    return bytes(make(values.astype(kind), np.diag([0.3, 0.3, 1, 1])).to_bytes())


# Damage ---------------------------------------------------------------------------------------------------------------


def cut(content: bytes, rng: np.random.Generator) -> bytes:
    return content[: int(rng.integers(len(content)))]


def flip(content: bytes, rng: np.random.Generator) -> bytes:
    changed = bytearray(content)
    for place in rng.integers(len(content), size=int(rng.integers(1, 20))):
        changed[place] = int(rng.integers(256))
    return bytes(changed)


def swell(content: bytes, rng: np.random.Generator) -> bytes:
    place = int(rng.integers(len(content)))
    return content[:place] + bytes(rng.integers(0, 256, int(rng.integers(1, 5000)), dtype=np.uint8)) + content[place:]


def other(content: bytes, rng: np.random.Generator) -> bytes:
    return OTHERS[int(rng.integers(len(OTHERS)))] + content[: int(rng.integers(60))]


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def chunks_of(content: bytes) -> list[tuple[bytes, bytes]]:
    found, place = [], 8
    while place + 12 <= len(content):
        (length,) = struct.unpack_from(">I", content, place)
        found.append((content[place + 4 : place + 8], content[place + 8 : place + 8 + length]))
        place += 12 + length
    return found


def another_header(content: bytes, rng: np.random.Generator) -> bytes:
    """A PNG whose header says another size, depth or kind of colour, with a right checksum."""
    (_, header), *rest = chunks_of(content)
    facts = list(struct.unpack(">IIBBBBB", header))
    place = int(rng.integers(7))
    facts[place] = int(rng.choice([0, 1, 41, 8192, 20_000, 2**31 - 1] if place < 2 else [0, 1, 2, 3, 4, 6, 8, 16, 255]))
    body = struct.pack(">IIBBBBB", *facts)
    return content[:8] + chunk(b"IHDR", body) + b"".join(chunk(*one) for one in rest)


def other_chunks(content: bytes, rng: np.random.Generator) -> bytes:
    """A PNG with a chunk more, less or twice: a short palette, a transparency, a text or pixels that are a bomb."""
    found = chunks_of(content)
    place = int(rng.integers(1, len(found)))
    more = [
        (b"PLTE", bytes(int(rng.integers(0, 5)) * 3)),
        (b"tRNS", bytes(rng.integers(0, 256, int(rng.integers(0, 8)), dtype=np.uint8))),
        (b"zTXt", b"x\0\0" + ZEROS),
        (b"iCCP", b"x\0\0" + ZEROS),
        (b"IDAT", ZEROS),
        (b"acTL", struct.pack(">II", int(rng.integers(0, 2**31)), 0)),
        found[int(rng.integers(len(found)))],
    ][int(rng.integers(7))]
    if rng.random() < 0.3:
        del found[place]
    else:
        found.insert(place, more)
    return content[:8] + b"".join(chunk(*one) for one in found)


def another_field(content: bytes, rng: np.random.Generator) -> bytes:
    """A NIfTI file with another number in one field of its header."""
    changed = bytearray(content)
    if content[:4] == struct.pack("<i", 348):
        fields = [(40 + 2 * n, "h") for n in range(8)] + [(70, "h"), (72, "h"), (252, "h"), (254, "h")]
        fields += [(place, "f") for place in (76, 80, 84, 108, 112, 116, 256, 268, 280, 284, 300)] + [(348, "b")]
    else:
        fields = [(16 + 8 * n, "q") for n in range(8)] + [(12, "h"), (14, "h"), (168, "q"), (344, "i"), (348, "i")]
        fields += [(place, "d") for place in (104, 112, 176, 184, 352, 400, 424)]
    place, kind = fields[int(rng.integers(len(fields)))]
    least, most = {"h": (-(2**15), 2**15 - 1), "b": (-128, 127), "i": (-(2**31), 2**31 - 1)}.get(
        kind, (-(2**62), 2**62)
    )
    value = REALS[int(rng.integers(len(REALS)))] if kind in "fd" else NUMBERS[int(rng.integers(len(NUMBERS)))]
    struct.pack_into(f"<{kind}", changed, place, value if kind in "fd" else min(max(value, least), most))
    return bytes(changed)


def bad_values(content: bytes, rng: np.random.Generator) -> bytes:
    """A NIfTI file with values that are no grey levels."""
    values = rng.integers(0, 9, (SIDE, SIDE, 1)).astype(np.float64)
    values[3, 5] = REALS[int(rng.integers(1, len(REALS)))]
    return bytes(nibabel.Nifti1Image(values, np.eye(4)).to_bytes())


def bomb(content: bytes, rng: np.random.Generator) -> bytes:
    """A NIfTI file whose values are said to begin far behind, followed by zeros."""
    changed = bytearray(content[:600])
    if content[:4] == struct.pack("<i", 348):
        struct.pack_into("<f", changed, 108, 2.0 ** int(rng.integers(10, 30)))
    return gzip.compress(bytes(changed), 1) + PACKED_ZEROS


Damage = Callable[[bytes, np.random.Generator], bytes]
BOTH: tuple[Damage, ...] = (cut, flip, swell, other)
OF_PNG: tuple[Damage, ...] = (another_header, other_chunks)
OF_NIFTI: tuple[Damage, ...] = (another_field, another_field, bad_values, bomb)


def make_file(folder: Path, number: int, rng: np.random.Generator, *, label: bool) -> Path:
    """One damaged file; every tenth is left as it is."""
    picture = rng.random() < 0.5
    content = png(rng, label=label) if picture else nifti(rng, label=label)
    kinds = BOTH + (OF_PNG if picture else OF_NIFTI)
    if number % 10:
        content = kinds[int(rng.integers(len(kinds)))](content, rng)
    suffix = ".png" if picture else ".nii"
    if not picture and rng.random() < 0.5:
        suffix = ".nii.gz"
        content = content if content[:2] == b"\x1f\x8b" else gzip.compress(content, 1)
        if rng.random() < 0.2:
            content = cut(content, rng)
    path = folder / f"{number:05d}{suffix}"
    path.write_bytes(content)
    return path


# Reading --------------------------------------------------------------------------------------------------------------


def read_frame(path: Path, table: Path) -> str:
    """`taken`, or the reason for which a frame is passed over."""
    from cmunet_monai.transforms import LoadFramed

    try:
        rows = list_frames(path, passed_over=table)
    except FileNotFoundError:  # that no frame is left in a folder of one
        with table.open(newline="") as file:
            (row,) = csv.DictReader(file)
        assert row["name"] == path.name, row
        return row["reason"]
    loaded = LoadFramed("image")(dict(rows[0]))["image"]
    assert loaded.ndim == 3, loaded.shape
    return "taken"


def read_as_label(path: Path, frame: Path) -> str:
    """`taken`, or what `check` says of a label."""
    row = {"image": frame.name, "label": path.name}
    problems, _ = check_labels([row], path.parent, where="list")
    return "; ".join(problems) or "taken"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    quiet()
    logging.disable(logging.CRITICAL)
    rng = np.random.default_rng(arguments.seed)
    ends: Counter[str] = Counter()
    bad: list[str] = []
    longest = 0.0
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        Image.new("L", (SIDE, SIDE), 9).save(folder / "frame.png")
        for number in range(arguments.files):
            label = number % 2 == 1
            path = make_file(folder, number, rng, label=label)
            faulthandler.dump_traceback_later(6 * SECONDS, exit=True)  # a file that hangs ends the run, and says where
            begin = time.perf_counter()
            try:
                said = read_as_label(path, folder / "frame.png") if label else read_frame(path, folder / "passed.csv")
            except Exception as error:
                said = f"ESCAPED {type(error).__name__}: {error}"
            seconds = time.perf_counter() - begin
            longest = max(longest, seconds)
            faulthandler.cancel_dump_traceback_later()
            if seconds > SECONDS or EXCEPTION.search(said) or len(said) < 5:
                bad.append(f"{path.name} ({seconds:.1f} s): {said}")
            reason = said.replace(f"{temporary}/", "").replace(path.name, "FILE")
            ends[f"{'label' if label else 'frame'}  {re.sub(r'[-+0-9.e]*[0-9]', '#', reason)[:110]}"] += 1
            path.unlink()
    for reason, count in sorted(ends.items()):
        print(f"{count:6}  {reason}")
    print("\n".join(bad))
    print(f"{arguments.files} files, {sum(ends.values())} ended, {len(bad)} badly, the longest took {longest:.1f} s")
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
