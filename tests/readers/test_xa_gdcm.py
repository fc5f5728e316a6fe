"""Lossless JPEG by GDCM, which must see whole headers only."""

import numpy as np
import pydicom
import pytest
from pydicom.encaps import generate_pixel_data_frame

from cmunet_monai.readers.xa_errors import DamagedDicomError
from cmunet_monai.readers.xa_gdcm import decode_lossless
from data_prep.synthetic.xa_file import XAFacts, write_xa

gdcm = pytest.importorskip("gdcm")
SV1 = "1.2.840.10008.1.2.4.70"


class NotToBeCalled:
    def __getattr__(self, name):
        raise AssertionError(f"GDCM was called ({name})")


@pytest.fixture
def frame(tmp_path):
    values = (np.arange(20 * 30).reshape(20, 30) * 6).astype(np.uint16)
    write_xa(tmp_path / "a", values, XAFacts(bits_stored=12), transfer_syntax=SV1)
    return next(generate_pixel_data_frame(pydicom.dcmread(tmp_path / "a").PixelData, 1)), values


def decode(module, data):
    return decode_lossless(module, data, SV1, rows=20, columns=30, precision=12)


def test_whole_frame_is_decoded(frame):
    data, values = frame
    assert (decode(gdcm, data) == values).all()


@pytest.mark.parametrize(
    "old, new",
    [
        (b"\xff\xc3", b"\xff\xc0"),  # baseline
        (b"\xff\xc3", b"\xff\xc1"),
        (b"\xff\xc4", b"\xff\xcc"),  # arithmetic coding
        (b"\xff\xc4", b"\xff\xdb"),  # no Huffman table left
        (b"\xff\xda", b"\xff\xd9"),
        (b"\xff\xd9", b"\xff\xd8"),  # no end
        (b"\xff\xd9", b"\xff\xc4"),
        (b"\xff\xda\x00\x08\x01", b"\xff\xda\x00\x08\x02"),
    ],
)
def test_gdcm_is_not_called_with_another_header(frame, old, new):
    data, _ = frame
    assert old in data
    with pytest.raises(DamagedDicomError, match="damaged JPEG header"):
        decode(NotToBeCalled(), data.replace(old, new))


def test_gdcm_is_not_called_with_a_cut_frame(frame):
    data, _ = frame
    for length in range(0, len(data.rstrip(b"\0")) - 1, 7):
        with pytest.raises(DamagedDicomError):
            decode(NotToBeCalled(), data[:length])
