import numpy as np
import pytest
import torch
from PIL import Image

from cmunet_monai.transforms import LoadFramed
from data_prep.synthetic.xa_file import XAFacts, write_xa


def test_a_dicom_frame_has_the_orientation_and_values_of_the_same_frame_as_png(tmp_path):
    frames = np.arange(3 * 4 * 6, dtype=np.uint8).reshape(3, 4, 6)
    write_xa(tmp_path / "run", frames, XAFacts())
    Image.fromarray(frames[1]).save(tmp_path / "frame.png")
    load = LoadFramed("image")
    row = {"id": "R0_0001", "image": str(tmp_path / "run"), "frame_index": 1, "spacing_mm": 0.25}
    dicom = load(row)["image"]
    picture = load({"id": "frame.png", "image": str(tmp_path / "frame.png")})["image"]
    assert dicom.shape == (1, 6, 4)
    assert torch.equal(dicom.as_tensor(), torch.from_numpy(frames[1].T[None].astype(np.float32)))
    assert torch.equal(dicom.as_tensor(), picture.as_tensor())
    assert dicom.meta["frame_id"] == "R0_0001"
    assert dicom.affine.diagonal().tolist() == [0.25, 0.25, 1, 1]


def test_an_unreadable_dicom_frame_is_named_by_its_pseudonym(tmp_path):
    write_xa(tmp_path / "run", np.zeros((3, 4, 6), np.uint8), XAFacts())
    (tmp_path / "run").write_bytes((tmp_path / "run").read_bytes()[:-40])
    with pytest.raises(ValueError, match="R0_0002: ") as caught:
        LoadFramed("image")({"id": "R0_0002", "image": str(tmp_path / "run"), "frame_index": 2})
    assert str(tmp_path) not in str(caught.value)
