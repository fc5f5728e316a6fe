"""Compressed frames: what is wrong in them and readable, and what is damaged."""

import io

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from cmunet_monai.xa.codecs import decode_frame
from cmunet_monai.xa.errors import DamagedDicomError, UnsupportedDicomError
from data_prep.deidentification.codestream import without_comments

BASELINE, EXTENDED, LOSSLESS, JPEG_LS, JPEG_2000 = (f"1.2.840.10008.1.2.4.{number}" for number in (50, 51, 57, 80, 90))
ROWS, COLUMNS = 48, 56


def picture(bits):
    row, column = np.mgrid[:ROWS, :COLUMNS]
    values = 0.5 + 0.3 * np.sin(row / 9) + 0.15 * np.cos(column / 7)
    values += np.random.default_rng(1).normal(0, 0.01, values.shape)
    return (values.clip(0, 1) * (2**bits - 1)).astype(np.uint8 if bits == 8 else np.uint16)


def jpeg(bits, **options):
    return bytes(imagecodecs.jpeg8_encode(picture(bits), bitspersample=bits, **options))


FRAMES = {
    BASELINE: (jpeg(8, level=95), 8),
    EXTENDED: (jpeg(12, level=95), 12),
    LOSSLESS: (jpeg(12, lossless=True, predictor=4), 12),
    JPEG_LS: (bytes(imagecodecs.jpegls_encode(picture(12))), 12),
    JPEG_2000: (bytes(imagecodecs.jpeg2k_encode(picture(12), codecformat="J2K", reversible=True)), 12),
}
HUFFMAN = [BASELINE, EXTENDED, LOSSLESS]


def decode(data, syntax, rows=ROWS, columns=COLUMNS):
    return decode_frame(data, syntax, rows=rows, columns=columns, bits_allocated=16).values


def scan_of(data):
    """Where the fields of the scan header stand, behind its length."""
    return data.index(b"\xff\xda") + 4


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("predictor", range(1, 8))
def test_lossless_jpeg_of_every_predictor_reads_back_equal(bits, predictor):
    data = jpeg(bits, lossless=True, predictor=predictor)
    np.testing.assert_array_equal(decode(data, LOSSLESS), picture(bits))


@pytest.mark.parametrize("syntax", HUFFMAN)
@pytest.mark.parametrize("field, value", [("component", 9), ("spectrum end", 17), ("approximation", 0x50)])
def test_a_wrong_scan_field_that_can_have_one_value_only_is_put_right(syntax, field, value):
    data, _ = FRAMES[syntax]
    changed, start = bytearray(data), scan_of(data)
    changed[start + {"component": 1, "spectrum end": 4, "approximation": 5}[field]] = value
    np.testing.assert_array_equal(decode(bytes(changed), syntax), decode(data, syntax))


@pytest.mark.parametrize("field", [1, 4])
def test_a_wrong_scan_field_of_jpeg_ls_is_put_right(field):
    data, _ = FRAMES[JPEG_LS]
    changed = bytearray(data)
    changed[scan_of(data) + field] = 2
    np.testing.assert_array_equal(decode(bytes(changed), JPEG_LS), picture(12))


@pytest.mark.parametrize("syntax", FRAMES)
def test_a_missing_end_of_the_image_is_put_there(syntax):
    data, _ = FRAMES[syntax]
    assert data.endswith(b"\xff\xd9")
    for cut in (data[:-2], data[:-2] + b"\0\0", data[:-1]):
        np.testing.assert_array_equal(decode(cut, syntax), decode(data, syntax))


@pytest.mark.parametrize("syntax", FRAMES)
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_a_cut_frame_is_damaged_though_its_end_is_marked(syntax, share):
    data, _ = FRAMES[syntax]
    cut = data[: int(share * len(data))]
    for changed in (cut, cut + b"\xff\xd9"):
        with pytest.raises(DamagedDicomError, match=r"ends early|cannot be decoded|coded data"):
            decode(changed, syntax)


@pytest.mark.parametrize("syntax", FRAMES)
def test_bytes_around_the_image_do_not_matter(syntax):
    data, _ = FRAMES[syntax]
    for changed in (b"\0\0" + data, data + bytes(30), b"\xff\xff" + data):
        np.testing.assert_array_equal(decode(changed, syntax), decode(data, syntax))


@pytest.mark.parametrize("reversible", [True, False])
@pytest.mark.parametrize("encoder", ["pillow", "imagecodecs"])
@pytest.mark.parametrize("bits", [8, 12])
def test_a_codestream_in_a_jp2_file_is_read_as_it_is_alone(reversible, encoder, bits):
    if encoder == "pillow":
        out = io.BytesIO()
        Image.fromarray(picture(bits)).save(out, "JPEG2000", irreversible=not reversible, no_jp2=False)
        data = out.getvalue()
    else:
        data = bytes(imagecodecs.jpeg2k_encode(picture(bits), codecformat="JP2", reversible=reversible))
    assert data[4:8] == b"jP  "
    bare = data[data.index(b"\xff\x4f\xff\x51") :]
    np.testing.assert_array_equal(decode(data, JPEG_2000), decode(bare, JPEG_2000))
    assert np.abs(decode(data, JPEG_2000).astype(int) - picture(bits)).max() <= (0 if reversible else 2 ** (bits - 5))


@pytest.mark.parametrize("syntax", FRAMES)
@pytest.mark.parametrize(
    "data", [b"", bytes(100), b"no picture" * 20, b"\xff\xd8\xff\xe0\x00\x10JF", b"\xff\x4f\xff\x51"]
)
def test_what_is_no_frame_is_said_without_the_word_of_a_programmer(syntax, data):
    with pytest.raises(DamagedDicomError) as caught:
        decode(data, syntax)
    assert "Error" not in str(caught.value)
    assert str(caught.value).startswith("its ")


@pytest.mark.parametrize("syntax", FRAMES)
def test_another_size_is_named_and_not_decoded(syntax):
    data, _ = FRAMES[syntax]
    with pytest.raises(DamagedDicomError, match=f"has {ROWS} rows and {COLUMNS} columns, the file says {ROWS} and 57"):
        decode(data, syntax, columns=57)


def test_colour_and_progressive_jpeg_are_named():
    colour, progressive = io.BytesIO(), io.BytesIO()
    Image.fromarray(np.stack([picture(8)] * 3, axis=-1)).save(colour, "JPEG")
    Image.fromarray(picture(8)).save(progressive, "JPEG", progressive=True)
    with pytest.raises(UnsupportedDicomError, match="3 colour components, expected one"):
        decode(colour.getvalue(), BASELINE)
    with pytest.raises(UnsupportedDicomError, match="progressive JPEG with 8 bits"):
        decode(progressive.getvalue(), BASELINE)


@pytest.mark.parametrize("syntax", FRAMES)
def test_a_copy_of_what_the_reader_takes_shows_the_same(syntax):
    data, _ = FRAMES[syntax]
    wrapped = bytes(imagecodecs.jpeg2k_encode(picture(12), codecformat="JP2", reversible=True))
    for changed in (data, data[:-2], data + b"\0", b"\0\0" + data, *([wrapped] if syntax == JPEG_2000 else [])):
        plain = without_comments(changed, syntax)
        np.testing.assert_array_equal(decode(plain.data, syntax), decode(data, syntax))
        assert plain.data[:2] == data[:2]
        assert plain.data.endswith(b"\xff\xd9")
