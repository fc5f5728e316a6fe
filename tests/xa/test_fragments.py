"""Encapsulated pixel data in every form: which fragments make a frame, in every codec."""

import io
import struct
from itertools import pairwise

import imagecodecs
import numpy as np
import pydicom
import pytest

from cmunet_monai.xa.run import read_frames, read_run, read_sound_frames
from data_prep.synthetic.xa_file import XAFacts, write_xa

FRAMES = 4
CODECS = {
    "baseline": ("1.2.840.10008.1.2.4.50", 8),
    "extended": ("1.2.840.10008.1.2.4.51", 12),
    "lossless": ("1.2.840.10008.1.2.4.57", 12),
    "lossless_sv1": ("1.2.840.10008.1.2.4.70", 12),
    "jpeg_ls": ("1.2.840.10008.1.2.4.80", 12),
    "jpeg_2000": ("1.2.840.10008.1.2.4.90", 12),
    "rle": ("1.2.840.10008.1.2.5", 12),
}
ITEM, DELIMITER = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0\0\0\0\0"


def smooth(bits):
    """Waves that differ from frame to frame; noise that a compressed frame needs some room for."""
    frame, row, column = np.mgrid[:FRAMES, :40, :48]
    waves = 0.5 + 0.3 * np.sin(row / 7 + frame) + 0.1 * np.cos(column / 5 - frame)
    values = waves + np.random.default_rng(0).normal(0, 0.01, waves.shape)
    return (values.clip(0, 1) * (2**bits - 1)).astype(np.uint8 if bits == 8 else np.uint16)


@pytest.fixture(params=CODECS)
def coded(request, tmp_path):
    """A file, what it shows, and its frames as they are compressed."""
    syntax, bits = CODECS[request.param]
    frames, path = smooth(bits), tmp_path / "run"
    if request.param == "extended":
        write_xa(path, frames, XAFacts(bits_stored=bits), transfer_syntax=CODECS["lossless"][0])
        pieces = [bytes(imagecodecs.jpeg8_encode(frame, level=98, bitspersample=12)) for frame in frames]
    else:
        write_xa(path, frames, XAFacts(bits_stored=bits), transfer_syntax=syntax)
        pieces = frames_in(path)
    pieces = [piece + b"\0" * (len(piece) % 2) for piece in pieces]
    encapsulate(path, pieces, syntax)
    return path, np.stack(list(read_frames(path))), pieces


def frames_in(path):
    """The fragments of a file that has one for each frame, behind an offset table."""
    stream, found = io.BytesIO(pydicom.dcmread(path).PixelData), []
    while start := stream.read(8):
        found.append(stream.read(struct.unpack("<4xL", start)[0]))
    return found[1:]


def encapsulate(path, items, syntax=None, *, table=b"", end=DELIMITER, **tags):
    """Replace the pixel data of a file by these items."""
    dataset = pydicom.dcmread(path)
    dataset.PixelData = b"".join(ITEM + struct.pack("<L", len(item)) + item for item in (table, *items))
    dataset["PixelData"].VR, dataset["PixelData"].is_undefined_length = "OB", True
    dataset.file_meta.TransferSyntaxUID = syntax or dataset.file_meta.TransferSyntaxUID
    for keyword, value in tags.items():
        setattr(dataset, keyword, value)
    dataset.save_as(path)
    path.write_bytes(path.read_bytes().removesuffix(DELIMITER) + end)


def parts(piece, count):
    edges = [2 * round(len(piece) / 2 * number / count) for number in range(count + 1)]
    return [piece[start:stop] for start, stop in pairwise(edges)]


def starts(sizes):
    return [sum(size + 8 for size in sizes[:number]) for number in range(len(sizes))]


def assert_read(path, shown, flags=()):
    np.testing.assert_array_equal(list(read_frames(path)), shown)
    assert set(read_run(path).flags) == set(flags)


@pytest.mark.parametrize("count", [2, 3, 7])
def test_frames_in_several_fragments_are_joined(coded, count):
    path, shown, pieces = coded
    encapsulate(path, [part for piece in pieces for part in parts(piece, count)])
    assert_read(path, shown)


@pytest.mark.parametrize("places", [(0,), (2,), (0, 1, 2, 3), (4, 4)])
def test_empty_fragments_belong_to_no_frame(coded, places):
    path, shown, pieces = coded
    items = list(pieces)
    for place in sorted(places, reverse=True):
        items.insert(place, b"")
    encapsulate(path, items)
    assert_read(path, shown)


def test_an_offset_table_may_point_to_an_empty_fragment_before_the_frame(coded):
    path, shown, pieces = coded
    items = [item for piece in pieces for item in (b"", piece)]
    table = struct.pack(f"<{FRAMES}L", *starts([len(item) for item in items])[::2])
    encapsulate(path, items, table=table)
    assert_read(path, shown)


@pytest.mark.parametrize("kind", ["basic", "extended"])
@pytest.mark.parametrize("wrong", [False, True])
def test_an_offset_table_is_used_or_flagged(coded, kind, wrong):
    path, shown, pieces = coded
    offsets = [2 * offset + wrong for offset in range(FRAMES)] if wrong else starts([len(piece) for piece in pieces])
    tables = {"basic": {"table": struct.pack(f"<{FRAMES}L", *offsets)}}
    lengths = struct.pack(f"<{FRAMES}Q", *map(len, pieces))
    tables["extended"] = {
        "ExtendedOffsetTable": struct.pack(f"<{FRAMES}Q", *offsets),
        "ExtendedOffsetTableLengths": lengths,
    }
    encapsulate(path, pieces, **tables[kind])
    assert_read(path, shown, {"offset_table_wrong"} if wrong else ())


@pytest.mark.parametrize("declared", [None, 1, 3, 60])
def test_frames_are_counted_where_their_number_is_wrong(coded, declared):
    path, shown, pieces = coded
    encapsulate(path, [part for piece in pieces for part in parts(piece, 2)], NumberOfFrames=declared)
    assert_read(path, shown, {f"number_of_frames_{'missing' if declared is None else 'wrong'}"})


@pytest.mark.parametrize("end", [b"", b"\0\0\0\0\0\0\0\0", b"\xfc\xff\xfc\xffOB\0\0\4\0\0\0abcd"])
def test_a_missing_delimiter_is_flagged(coded, end):
    path, shown, pieces = coded
    encapsulate(path, pieces, end=end)
    assert_read(path, shown, {"sequence_delimiter_missing"})


def test_a_pad_byte_that_no_length_counts_is_passed_over(coded):
    path, shown, pieces = coded
    dataset = pydicom.dcmread(path)
    odd = [piece[:-1] if piece[-1] == 0 else piece for piece in pieces]
    value = b"".join(ITEM + struct.pack("<L", len(item)) + item + b"\0" * (len(item) % 2) for item in (b"", *odd))
    dataset.PixelData = value
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(path)
    assert_read(path, shown)


@pytest.mark.parametrize("number", [0, 2, 3])
@pytest.mark.parametrize("damage", ["zeros", "half", "text"])
def test_a_damaged_frame_costs_that_frame_alone(coded, number, damage):
    path, shown, pieces = coded
    changed = {"zeros": bytes(len(pieces[number])), "half": pieces[number][: len(pieces[number]) // 4 * 2]}
    items = list(pieces)
    items[number] = changed.get(damage, b"no picture at all, but a text of some length here " * 2)
    encapsulate(path, items)
    damaged = {}
    found = list(read_sound_frames(path, damaged=damaged))
    assert list(damaged) == [number]
    for index in range(FRAMES):
        assert found[index] is None if index == number else np.array_equal(found[index], shown[index])


def test_a_damaged_frame_in_several_fragments_costs_that_frame_alone(coded):
    path, shown, pieces = coded
    pieces[1] = bytes(len(pieces[1]))
    items = [part for piece in pieces for part in parts(piece, 2)]
    sizes = [len(item) for item in items]
    encapsulate(path, items, table=struct.pack(f"<{FRAMES}L", *starts(sizes)[::2]))
    damaged = {}
    found = list(read_sound_frames(path, damaged=damaged))
    assert list(damaged) == [1]
    np.testing.assert_array_equal([found[0], *found[2:]], shown[[0, 2, 3]])
