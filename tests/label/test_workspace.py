"""What the server works on."""

import json
import shutil

import nibabel
import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from cmunet_monai.label.workspace import Workspace, check_id, frame_id, prepare_workspace

CANARY = "QXZJWKVBNMPL"


def draw(path, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(0).integers(50, 200, (20, 30)).astype(np.uint8)
    Image.fromarray(values).save(path, **options)


@pytest.fixture
def bundle(tmp_path, dark_detector):
    folder = tmp_path / "some_bundle"
    (folder / "configs").mkdir(parents=True)
    (folder / "configs" / "inference.json").write_text("{}")
    (folder / "models").mkdir()
    shutil.copy(dark_detector, folder / "models" / "model.safetensors")
    return folder


def test_names_have_no_dots_and_no_folders():
    assert frame_id("a/b.1 c.png") == "a_b_1_c"
    assert frame_id("X.NII.GZ") == "X"
    assert check_id("a_b-1") == "a_b-1"
    for name in ("", ".", "a.b", "a/b", "..", "a b", "ä", "a" * 129, None, 3):
        with pytest.raises(ValueError, match="`image` must be 1 to 128 letters"):
            check_id(name)


def test_frames_keep_their_pixels_and_geometry_and_lose_their_texts(tmp_path, bundle):
    studies = tmp_path / "studies"
    texts = PngInfo()
    texts.add_text("Comment", CANARY)
    draw(studies / "later" / "a.b.png", pnginfo=texts)
    affine = np.diag([0.2, 0.3, 1, 1])
    image = nibabel.Nifti1Image(np.arange(24, dtype=np.int16).reshape(2, 3, 4), affine)
    image.header["descrip"] = CANARY
    nibabel.save(image, studies / "cine.nii")
    workspace = prepare_workspace(tmp_path / "w", studies, bundle)
    assert workspace.groups() == {"cine": "cine", "later_a_b": "later_a_b"}
    png = workspace.frames / "later_a_b.png"
    assert CANARY.encode() not in png.read_bytes()
    np.testing.assert_array_equal(Image.open(png), Image.open(studies / "later" / "a.b.png"))
    kept = nibabel.load(workspace.frames / "cine.nii.gz")
    assert str(kept.header["descrip"]) != CANARY
    np.testing.assert_array_equal(kept.dataobj, image.dataobj)
    np.testing.assert_allclose(kept.affine, affine)


def test_a_damaged_file_is_passed_over_and_named(tmp_path, bundle):
    draw(tmp_path / "studies" / "a.png")
    (tmp_path / "studies" / "b.png").write_bytes((tmp_path / "studies" / "a.png").read_bytes()[:60])
    workspace = prepare_workspace(tmp_path / "w", tmp_path / "studies", bundle)
    assert list(workspace.groups()) == ["a"]
    assert "b.png" in (workspace.root / "passed_over.csv").read_text()


def test_patients_come_from_a_data_list(tmp_path, bundle):
    for name in "abc":
        draw(tmp_path / "data" / "images" / f"{name}.png")
    rows = [{"image": "images/a.png", "patient_id": "p1"}, {"image": "images/b.png", "group": "g1"}]
    (tmp_path / "datalist.json").write_text(json.dumps({"name": "x", "pretraining": rows}))
    workspace = prepare_workspace(
        tmp_path / "w", tmp_path / "data" / "images", bundle, groups=tmp_path / "datalist.json"
    )
    assert workspace.groups() == {"a": "p1", "b": "g1", "c": "c"}


def test_files_of_one_name_in_several_folders_keep_their_own_patients(tmp_path, bundle):
    for name in ("a/1", "b/1", "b/2"):
        draw(tmp_path / "data" / f"{name}.png")
    rows = [{"image": f"{name}.png", "patient_id": name[0].upper()} for name in ("a/1", "b/1", "b/2")]
    (tmp_path / "datalist.json").write_text(json.dumps({"training": [*rows, {"image": "2.png", "patient_id": "X"}]}))
    workspace = prepare_workspace(tmp_path / "w", tmp_path / "data", bundle, groups=tmp_path / "datalist.json")
    assert workspace.groups() == {"a_1": "A", "b_1": "B", "b_2": "B"}
    (tmp_path / "datalist.json").write_text("[]")
    with pytest.raises(ValueError, match="is no data list"):
        prepare_workspace(tmp_path / "w", tmp_path / "data", bundle, groups=tmp_path / "datalist.json")


def test_another_picture_does_not_take_the_place_of_one_that_may_be_labelled(tmp_path, bundle):
    draw(tmp_path / "studies" / "a.png")
    workspace = prepare_workspace(tmp_path / "w", tmp_path / "studies", bundle)
    before = (workspace.frames / "a.png").read_bytes()
    Image.fromarray(np.zeros((20, 30), np.uint8)).save(tmp_path / "studies" / "a.png")
    with pytest.raises(ValueError, match=r"a\.png is another picture than the one that .* has as a"):
        prepare_workspace(tmp_path / "w", tmp_path / "studies", bundle)
    assert (workspace.frames / "a.png").read_bytes() == before


def test_a_second_preparation_adds_new_frames_and_keeps_labels_and_weights(tmp_path, bundle):
    studies = tmp_path / "studies"
    draw(studies / "a.png")
    workspace = prepare_workspace(tmp_path / "w", studies, bundle)
    (workspace.bundle / "models" / "model.safetensors").write_bytes(b"trained")
    draw(studies / "b.png")
    again = prepare_workspace(tmp_path / "w", studies, bundle)
    assert again == workspace == Workspace.open(tmp_path / "w")
    assert list(again.groups()) == ["a", "b"]
    assert (workspace.bundle / "models" / "model.safetensors").read_bytes() == b"trained"
    (bundle / "models" / "model.safetensors").write_bytes(b"others")
    with pytest.raises(ValueError, match="made with another bundle"):
        prepare_workspace(tmp_path / "w", studies, bundle)


def test_mistakes_are_named_before_anything_is_made(tmp_path, bundle):
    draw(tmp_path / "studies" / "a.png")
    with pytest.raises(FileNotFoundError, match="no file or folder"):
        prepare_workspace(tmp_path / "w", tmp_path / "nothing", bundle)
    with pytest.raises(FileNotFoundError, match="no bundle at"):
        prepare_workspace(tmp_path / "w", tmp_path / "studies", tmp_path / "nothing")
    (bundle / "models" / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="no weights at"):
        prepare_workspace(tmp_path / "w", tmp_path / "studies", bundle)
    bad = tmp_path / "bad.zip"
    bad.write_bytes(b"PK")
    with pytest.raises(ValueError, match="failed verification and is not used"):
        prepare_workspace(tmp_path / "w", tmp_path / "studies", bad)
    assert not (tmp_path / "w").exists()


def test_two_files_of_one_name_are_refused(tmp_path, bundle):
    draw(tmp_path / "studies" / "a_b.png")
    draw(tmp_path / "studies" / "a" / "b.png")
    with pytest.raises(ValueError, match="would get the name a_b"):
        prepare_workspace(tmp_path / "w", tmp_path / "studies", bundle)
