import nibabel
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, LoadImaged
from PIL import Image

from cmunet_monai.transforms import LoadLabeld

MASK = np.zeros((20, 30), np.uint8)
MASK[4:6, 3:28] = 1
LOAD = Compose(
    [
        LoadImaged("image", reader="cmunet_monai.transforms.FrameReader", ensure_channel_first=True),
        LoadLabeld("label"),
    ]
)


def row(folder, label, **options):
    Image.fromarray(MASK * np.uint8(9)).save(folder / "frame.png")
    label.save(folder / "label.png", **options)
    return {"image": str(folder / "frame.png"), "label": str(folder / "label.png")}


def test_a_label_is_classes_in_the_shape_and_place_of_its_frame(tmp_path):
    label = Image.fromarray(np.dstack([MASK * 0] * 3 + [MASK * 255]))  # black on transparent
    data = LOAD(row(tmp_path, label))
    assert isinstance(data["label"], MetaTensor)
    assert data["label"].dtype == torch.float32
    assert data["label"].shape == data["image"].shape == (1, 30, 20)
    assert data["label"][0].T.tolist() == MASK.tolist()
    assert data["label"].meta["filename_or_obj"] == str(tmp_path / "label.png")
    assert np.allclose(data["label"].affine, data["image"].affine)


def test_a_mirrored_nifti_label_is_turned(tmp_path):
    mirror = np.diag([-1.0, 1, 1, 1])
    mirror[0, 3] = 29
    nibabel.save(nibabel.Nifti1Image(MASK.T[..., None] * np.uint8(9), np.eye(4)), tmp_path / "frame.nii")
    nibabel.save(nibabel.Nifti1Image(MASK.T[::-1, :, None], mirror), tmp_path / "label.nii")
    data = LOAD({"image": str(tmp_path / "frame.nii"), "label": str(tmp_path / "label.nii")})
    assert data["label"][0].T.tolist() == MASK.tolist()


def test_a_doubtful_label_is_refused_by_name(tmp_path):
    with pytest.raises(RuntimeError) as caught:
        LOAD(row(tmp_path, Image.fromarray(np.arange(600, dtype=np.uint8).reshape(20, 30))))
    assert "label.png: no label: it has 256 grey levels" in str(caught.value.__cause__)


@pytest.mark.parametrize("mode", ["L", "P", "RGB"])
def test_labels_are_loaded_by_the_reader_alone_too(tmp_path, mode):
    data = row(tmp_path, Image.fromarray(MASK * np.uint8(255)).convert(mode))
    reader = "cmunet_monai.transforms.LabelReader"
    label = LoadImaged("label", reader=reader, ensure_channel_first=True)(data)["label"]
    assert (label[0].T > 0).tolist() == (MASK > 0).tolist()
