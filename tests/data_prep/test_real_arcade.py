"""On real angiograms, where CMUNET_REAL_DATA names the folder that holds them; skipped elsewhere."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage.filters import unsharp_mask

from cmunet_monai.transforms import CornerInpaint, UnsharpMask, ZScore
from data_prep.__main__ import main
from data_prep.arcade import rasterise, read_split

ARCADE = Path(os.environ.get("CMUNET_REAL_DATA", "")) / "arcade"
pytestmark = pytest.mark.skipif(
    "CMUNET_REAL_DATA" not in os.environ or not ARCADE.is_dir(), reason="CMUNET_REAL_DATA names no real angiograms"
)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("arcade")
    assert main(["arcade", "--source", str(ARCADE), "--output", str(folder)]) == 0
    return folder


def test_every_published_frame_is_in_one_list_or_dropped(prepared):
    datalist = json.loads((prepared / "datalist.json").read_text())
    ids = [row["id"] for name in ("training", "test", "dropped") for row in datalist[name]]
    assert len(ids) == len(set(ids)) == 1200
    assert len(datalist["test"]) == 200


def test_training_frames_known_to_resemble_test_frames_are_dropped(prepared):
    dropped = {row["id"] for row in json.loads((prepared / "datalist.json").read_text())["dropped"]}
    assert {f"syntax_train_{number:04d}" for number in (139, 215, 586)} <= dropped


def test_copies_share_a_group(prepared):
    rows = json.loads((prepared / "datalist.json").read_text())["training"]
    by_content = {}
    for row in rows:
        by_content.setdefault((prepared / row["image"]).read_bytes(), set()).add(row["group"])
    assert all(len(groups) == 1 for groups in by_content.values())


def test_masks_have_the_area_that_the_annotations_state():
    annotations = json.loads((ARCADE / "syntax/val/annotations/val.json").read_text())["annotations"]
    polygons = [polygon for frame in read_split(ARCADE, "syntax", "val").frames for polygon in frame.polygons]
    painted = sum(np.count_nonzero(rasterise([polygon], 512, 512, values="binary")) for polygon in polygons)
    assert painted == pytest.approx(sum(annotation["area"] for annotation in annotations), rel=0.005)


@pytest.mark.parametrize("number", [1, 50, 100, 150, 200])
def test_preprocessing_of_a_real_frame_is_scikit_images_and_normalised(number):
    frame = np.asarray(Image.open(ARCADE / f"syntax/val/images/{number}.png"), np.float32)[None]
    filled, field = CornerInpaint().fill(frame)
    sharp = UnsharpMask()(filled)
    assert np.abs(sharp[0] - unsharp_mask(filled[0], radius=60, amount=1, preserve_range=True)).max() < 0.5
    scaled = ZScore()(sharp, field)[field.numpy()]
    assert abs(scaled.mean()) < 1e-3
    assert scaled.std() == pytest.approx(1, abs=1e-3)
