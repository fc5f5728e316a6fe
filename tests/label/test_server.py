"""The real server, from files to masks, labels and training. Runs by `make test-label`, where MONAI Label is."""

import gzip
import io
import json
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec

import nibabel
import numpy as np
import pydicom
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from cmunet_monai.prediction import predict
from tests.label.conftest import MODEL, picture, read, started, temporary, upload, write_bundle

pytestmark = [
    pytest.mark.skipif(find_spec("monailabel") is None, reason="MONAI Label is not installed: make test-label"),
    pytest.mark.timeout(1200),
]

CANARY = "QXZJWKVBNMPL"
PNG = [f"f{number}" for number in range(8)]


def write_dicom(path, frames):
    """Uncompressed XA by pydicom alone, which is version 2 here."""
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.12.1"
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"2.25.{len(frames)}"
    dataset.PatientID = dataset.PatientName = CANARY
    dataset.Modality, dataset.PhotometricInterpretation, dataset.PixelIntensityRelationship = "XA", "MONOCHROME2", "LIN"
    dataset.SamplesPerPixel, dataset.PixelRepresentation = 1, 0
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit = 7
    dataset.NumberOfFrames, dataset.Rows, dataset.Columns = frames.shape
    dataset.PixelData = frames.tobytes()
    dataset.is_little_endian, dataset.is_implicit_VR = True, False
    dataset.save_as(path, write_like_original=False)


@pytest.fixture(scope="module")
def server(tmp_path_factory, eager_detector):
    folder = tmp_path_factory.mktemp("label")
    studies, bundle = folder / "studies", folder / MODEL
    (studies / "later").mkdir(parents=True)
    texts = PngInfo()
    texts.add_text("Comment", CANARY)
    for seed, name in enumerate(PNG):
        Image.fromarray(picture(seed)[0]).save(studies / f"{name}.png", pnginfo=texts)
    affine = np.array([[0, -0.3, 0, 5], [0.2, 0, 0, -7], [0, 0, 1, 2], [0, 0, 0, 1.0]])
    single = nibabel.Nifti1Image(picture(20)[0].T, affine)
    single.header["descrip"] = CANARY
    nibabel.save(single, studies / "later" / "one.frame.nii.gz")
    nibabel.save(
        nibabel.Nifti1Image(np.stack([picture(seed)[0].T for seed in (30, 31, 32)], -1), affine), studies / "cine.nii"
    )
    write_dicom(studies / CANARY, np.stack([picture(40, 64, 64)[0]]))
    write_dicom(studies / f"{CANARY}.dcm", np.stack([picture(seed, 64, 64)[0] for seed in (50, 51, 52)]))
    (studies / "cut.png").write_bytes((studies / "f0.png").read_bytes()[:200])
    write_bundle(bundle, eager_detector)
    with started(folder) as running:
        yield running


@pytest.fixture(scope="module")
def alone(server, tmp_path_factory):
    """Masks of the bundle run alone on the same files, by the ids that the server gives them: (W, H) of 0 and 1."""
    output = tmp_path_factory.mktemp("alone")
    slices = output / "slices"
    slices.mkdir()
    cine = nibabel.load(server.studies / "cine.nii")
    for number in range(3):
        one = nibabel.Nifti1Image(np.asarray(cine.dataobj)[..., number], np.eye(4))
        nibabel.save(one, slices / f"cine_{number}.nii.gz")
    options = {"bundle": server.bundle, "frames": "all", "runtime": "torch", "overlays": False, "num_workers": 0}
    predict(server.studies, output / "a", key=f"{server.workspace}.key", **options)
    predict(slices, output / "b", **options)
    masks = {}
    for path in [*(output / "a" / "masks").rglob("*.*"), *(output / "b" / "masks").rglob("*.*")]:
        name = path.name.removesuffix(".png").removesuffix(".nii.gz")
        masks[{"one.frame": "later_one_frame"}.get(name, name)] = read(path.read_bytes(), path.name)[0]
    return masks


def runs_of(server):
    return sorted(path.name.removesuffix(".nii.gz") for path in (server.workspace / "frames").glob("R*.nii.gz"))


def test_info_names_labels_models_and_frames(server):
    info = server.ask("GET", "/info/").json()
    assert info["labels"] == ["coronary artery"]
    assert info["models"][MODEL]["config"] == {"device": ["cpu"], "threshold": 0.5, "largest_components": 0}
    assert next(iter(info["strategies"])) == "border_entropy"
    assert info["datastore"]["total"] >= len(PNG) + 2 + 4
    assert "3D Slicer" in server.ask("GET", "/").text


def test_masks_are_bit_equal_to_the_bundle_alone_and_have_the_inputs_geometry(server, alone):
    assert len({mask.tobytes() for mask in alone.values()}) == len(alone), "masks that could not be told apart"
    for name in PNG:
        answer = server.infer(name, ".png")
        assert answer.status_code == 200, answer.text
        np.testing.assert_array_equal(read(answer.content, ".png")[0], alone[name])
    assert len(runs_of(server)) == 4
    for name in ("later_one_frame", *runs_of(server)):
        mask, affine = read(server.infer(name, ".nii.gz").content, ".nii.gz")
        np.testing.assert_array_equal(mask, alone[name])
        np.testing.assert_array_equal(affine, nibabel.load(server.workspace / "frames" / f"{name}.nii.gz").affine)
    mask, affine = read(server.infer("cine", ".nii.gz").content, ".nii.gz")
    np.testing.assert_array_equal(mask, np.stack([alone[f"cine_{number}"] for number in range(3)], axis=-1))
    np.testing.assert_array_equal(affine, nibabel.load(server.studies / "cine.nii").affine)


def test_slicer_gets_nrrd_in_its_own_axes(server, alone):
    import nrrd

    path = server.workspace.parent / "mask.nrrd"
    path.write_bytes(server.infer("later_one_frame", ".nrrd").content)
    values, header = nrrd.read(str(path))
    np.testing.assert_array_equal(values[..., 0], alone["later_one_frame"])
    assert header["space"] == "left-posterior-superior"
    # right and anterior of the NIfTI file turn their signs
    np.testing.assert_allclose(header["space directions"], [[0, -0.2, 0], [0.3, 0, 0], [0, 0, 1]])
    np.testing.assert_allclose(header["space origin"], [-5, 7, 2])


def test_a_hundred_requests_at_once_get_each_their_own_mask(server, alone):
    names = [PNG[number % len(PNG)] for number in range(100)]
    with ThreadPoolExecutor(100) as pool:
        answers = list(pool.map(lambda name: server.infer(name, ".png"), names))
    for name, answer in zip(names, answers, strict=True):
        assert answer.status_code == 200
        np.testing.assert_array_equal(read(answer.content, ".png")[0], alone[name])


def test_clicks_change_the_mask_around_them_alone(server, alone):
    answer = server.infer("f0", ".png", model=f"{MODEL}_clicks", foreground=[[5, 5, 0]], background=[[8, 40, 0]])
    mask = read(answer.content, ".png")[0]
    assert mask[5, 5] == 1
    assert mask[8, 40] == 0
    columns, rows = np.nonzero(mask != alone["f0"])
    assert (np.minimum(np.hypot(columns - 5, rows - 5), np.hypot(columns - 8, rows - 40)) <= 40).all()
    bad = server.infer("f0", ".png", model=f"{MODEL}_clicks", foreground=[[64, 0, 0]])
    assert bad.status_code == 400
    assert "`foreground`" in bad.json()["detail"]


def test_what_cannot_be_answered_gets_a_message(server):
    def refused(answer, status, text):
        assert answer.status_code == status, answer.text
        assert text in answer.json()["detail"]

    refused(server.infer("nobody"), 404, "no image nobody")
    refused(server.infer("f0", model="nothing"), 404, "no such model")
    refused(server.infer("..%2F..%2Fetc%2Fpasswd"), 400, "`image` must be")
    assert server.infer("f0", ".png", image="/etc/passwd").content == server.infer("f0", ".png").content
    refused(server.infer("f0", ".exe"), 400, "`result_extension`")
    refused(server.infer("f0", threshold="much"), 400, "`threshold` must be a number")
    refused(server.infer("f0", device="cuda:9"), 400, "`device`")
    refused(server.ask("POST", "/infer/" + MODEL + "?image=f0", data={"params": "{"}), 400, "JSON")
    refused(server.ask("POST", "/infer/" + MODEL, files={"file": ("a.png", b"x")}), 400, "the form may hold params")
    refused(server.infer("f0", threshold=10**400), 400, "`threshold` must be a number")
    refused(server.infer("f0", model=f"{MODEL}_clicks", foreground=[[10**400, 2]]), 400, "`foreground`")
    refused(server.ask("GET", "/datastore/image?image=f0&check_sum=FOO:abc"), 400, "`check_sum`")
    refused(server.ask("POST", "/activelearning/nothing", json={}), 404, "no such strategy")
    refused(server.ask("POST", "/scoring/nothing", json={}), 404, "no such scoring")
    refused(server.ask("POST", "/train/nothing", json={}), 404, "no such trainer")
    refused(server.ask("PUT", f"/model/{MODEL}", files={"file": b"x"}), 405, "GET")
    refused(server.ask("GET", "/proxy/dicom/x"), 404, "no such page")
    refused(server.ask("GET", "/datastore/label?label=f0&tag=../../.."), 400, "`tag` must be")
    refused(server.ask("GET", "/info/", headers={"Host": "evil.example"}), 403, "127.0.0.1")
    refused(server.ask("GET", "/info/", headers={"Origin": "http://evil.example"}), 403, "web pages")


def test_labels_of_another_size_or_kind_are_refused(server):
    for answer, text in (
        (upload(server, "f0", np.zeros((64, 48))), "the size of its image"),
        (upload(server, "f0", b"no picture", suffix=".nii.gz"), "cannot be read"),
        (upload(server, "f0", b"import os", suffix=".py"), "cannot be read"),
        (upload(server, "f0", np.zeros((48, 64)), tag="a%2F..%2Fb"), "`tag` must be"),
    ):
        assert answer.status_code == 400
        assert text in answer.json()["detail"]
    assert upload(server, "nobody", np.zeros((48, 64))).status_code == 404
    too_much = server.ask("PUT", "/datastore/label?image=f0&tag=final", data=b"0" * (64 * 2**20 + 1))
    assert too_much.status_code == 413
    assert server.ask("GET", "/datastore/").json()["completed"] == 0


def nifti_bomb():
    """A small packed file, the values of which are said to begin behind half a GiB."""
    content = bytearray(nibabel.Nifti1Image(np.zeros((64, 48, 1), np.uint8), np.eye(4)).to_bytes())
    content[108:112] = np.float32(2**29).tobytes()
    return gzip.compress(bytes(content), 1) + gzip.compress(bytes(2**26), 1) * 8


def as_format(kind):
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((48, 64), np.uint8)).save(buffer, format=kind)
    return buffer.getvalue()


HOSTILE = {
    "endless PostScript": (
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 48\n{ } loop\n",
        ".png",
        "{}",
        "PostScript",
    ),
    "TIFF": (as_format("TIFF"), ".png", "{}", "TIFF"),
    "NIfTI bomb": (nifti_bomb(), ".nii.gz", "{}", "values must begin"),
    "PNG bomb": (as_format("PNG")[:16] + b"\0\0\xff\xff" * 2 + as_format("PNG")[24:], ".png", "{}", "65535 x 65535"),
    "deep parameters": (as_format("PNG"), ".png", '{"a": ' + "[" * 200 + "]" * 200 + "}", "nested"),
    "long parameters": (as_format("PNG"), ".png", json.dumps({"a": "x" * 10**5}), "65536 bytes"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_upload_is_refused_while_others_are_answered_and_leaves_nothing(server, kind):
    content, suffix, params, text = HOSTILE[kind]
    before = temporary(server)
    with ThreadPoolExecutor(1) as pool:
        begin = time.perf_counter()
        files = {"label": (f"label{suffix}", content)}
        path = "/datastore/label?image=f0&tag=final"
        sent = pool.submit(server.ask, "PUT", path, files=files, data={"params": params})
        while not sent.done():
            asked = time.perf_counter()
            assert server.ask("GET", "/info/").status_code == 200
            assert time.perf_counter() - asked < 5
        answer = sent.result()
    assert time.perf_counter() - begin < 10
    assert answer.status_code in (400, 413)
    assert text in answer.json()["detail"]
    assert temporary(server) == before


def test_refused_requests_leave_nothing_and_answers_name_no_path(server):
    before = temporary(server)
    server.infer("f0", ".exe")
    server.infer("f0", ".png", save_label=True, label_tag="a/b")
    upload(server, "nobody", np.zeros((48, 64)))
    assert temporary(server) == before
    for method, path in (
        ("GET", "/info/"),
        ("GET", "/datastore/?output=all"),
        ("GET", "/datastore/?output=train"),
        ("GET", "/datastore/image/info?image=f0"),
        ("POST", "/activelearning/random"),
        ("GET", "/logs/"),
        ("GET", f"/model/info/{MODEL}"),
    ):
        answer = server.ask(method, path)
        assert answer.status_code == 200, path
        assert str(server.workspace.parent) not in answer.text, path
    assert "all origins" not in server.log.read_text()
    assert "Allow Origins" not in server.log.read_text()


def test_a_batch_that_cannot_run_is_refused_at_once(server):
    for params, status in (
        ({"max_batch_size": -1}, 400),
        ({"images": ["../f0"]}, 400),
        ({"images": [f"R0123456789abcdef_{number:04d}" for number in range(5000)]}, 413),
    ):
        assert server.ask("POST", f"/batch/infer/{MODEL}", json=params).status_code == status


def test_labels_train_the_model_and_the_next_frame_is_asked_for(server):
    (server.workspace / "frames" / "damaged.png").write_bytes(b"\x89PNG\r\n\x1a\n cut")
    first = server.ask("POST", "/activelearning/border_entropy", json={"client_id": "test"}).json()
    assert first["unlabelled"] >= len(PNG)
    before = server.ask("GET", f"/model/info/{MODEL}").json()["checksum"]
    old = server.infer("f7", ".png").content
    for seed, name in enumerate(PNG[:6]):
        assert upload(server, name, picture(seed)[1]).json()["label"] == name
    upload(server, "f6", picture(6)[1])
    kept = server.workspace / "frames" / "labels" / "final" / "f6.png"
    kept.write_bytes(kept.read_bytes()[:50])  # damaged by whatever means
    assert server.ask("GET", "/datastore/").json()["completed"] == 7
    started = server.ask("POST", f"/train/{MODEL}", json={"max_epochs": 25, "val_split": 0.3, "learning_rate": 0.05})
    assert started.status_code == 200
    state = server.wait("/train/")
    assert state["status"] == "DONE", state
    info = server.ask("GET", f"/model/info/{MODEL}").json()
    training = info["trainings"][-1]
    assert training["replaced"], training
    assert training["dice_after"] > training["dice_before"]
    assert (training["training"], training["validation"], training["left_out"]) == (4, 2, ["f6"])
    assert info["checksum"] != before
    assert server.infer("f7", ".png").content != old
    following = server.ask("POST", "/activelearning/border_entropy", json={}).json()
    assert following["id"] not in PNG[:6]
    assert following["score"] is not None

    state = (server.ask("POST", "/scoring/border_entropy", json={}), server.wait("/scoring/"))[1]
    assert state["status"] == "DONE", state
    scores = json.loads((server.workspace / "scores.json").read_text())
    assert scores["damaged"]["error"] == "the image cannot be read"
    assert 0 <= scores["f7"]["score"] <= 1

    params = {"device": "cuda", "multi_gpu": True, "gpus": "all"}  # what clients send, also to a server without a GPU
    server.ask("POST", f"/batch/infer/{MODEL}", json=params)
    state = server.wait("/batch/infer")
    assert state["status"] == "DONE", state
    answer = server.ask("GET", "/datastore/label?label=f7&tag=original")
    assert answer.content == server.infer("f7", ".png").content


def test_no_name_or_text_of_a_patient_leaves_the_studies(server):
    said = server.log.read_text() + server.ask("GET", "/datastore/?output=all").text
    assert CANARY not in said
    for path in (server.workspace / "frames").rglob("*.*"):
        content = path.read_bytes()
        if path.name.endswith(".gz"):
            import gzip

            content = gzip.decompress(content)
        assert CANARY.encode() not in content, path.name
    assert "." not in "".join(server.ask("GET", "/datastore/?output=all").json()["objects"])
