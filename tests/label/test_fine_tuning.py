"""Training from the server, without the server."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cmunet_monai.label.fine_tuning import dice, fine_tune, read_history, split_by_group, with_whole_labels
from cmunet_monai.label.segmenter import Segmenter, mask_of
from cmunet_monai.networks import file_digest

BUNDLE = Path(__file__).parents[2] / "bundles" / "coronary_xa_segmentation"


def rows_of(*groups):
    return [{"id": f"r{number}", "group": group} for number, group in enumerate(groups)]


def test_no_group_is_on_both_sides():
    rows = rows_of(*"aabbccddee")
    for seed in range(20):
        training, validation = split_by_group(rows, share=0.25, seed=seed)
        assert not {row["group"] for row in training} & {row["group"] for row in validation}
        assert len(training) + len(validation) == 10
        assert len(validation) == 4  # two groups of two are the first to reach 2.5


def test_each_side_has_a_group_and_the_order_of_rows_does_not_matter():
    rows = rows_of("a", "b")
    training, validation = split_by_group(rows, share=0.99)
    assert len(training) == len(validation) == 1
    assert split_by_group(rows[::-1], share=0.99) == (training, validation)


def test_one_group_cannot_be_split():
    with pytest.raises(ValueError, match="got 3 labelled frames of 1"):
        split_by_group(rows_of("a", "a", "a"), share=0.2)
    with pytest.raises(ValueError, match="`val_split` must be between 0 and 1, got 0"):
        split_by_group(rows_of("a", "b"), share=0)


def test_dice_of_two_empty_masks_is_one():
    assert dice(np.zeros(4, bool), np.zeros(4, bool)) == 1
    assert dice(np.array([1, 1, 0], bool), np.array([0, 1, 1], bool)) == 0.5


def test_largest_components_are_kept_frame_by_frame():
    probabilities = np.zeros((9, 9, 2), np.float32)
    probabilities[0:3, 0, 0] = probabilities[6:8, 6, 0] = probabilities[4, 4, 1] = 0.6
    assert mask_of(probabilities).sum() == 6
    assert mask_of(probabilities, largest_components=1).sum(axis=(0, 1)).tolist() == [3, 1]
    assert mask_of(probabilities, threshold=0.7).sum() == 0
    with pytest.raises(ValueError, match="`threshold` must be between 0 and 1"):
        mask_of(probabilities, threshold=1)


@pytest.fixture
def bundle(tmp_path):
    folder = tmp_path / "bundle"
    shutil.copytree(BUNDLE, folder, ignore=shutil.ignore_patterns("models"))
    path = folder / "configs" / "inference.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"channels": [4, 8, 16], "image_size": [64, 64]}))
    return folder


@pytest.fixture
def labelled(tmp_path):
    rows = []
    for number in range(4):
        frame = 150 + 12 * np.random.default_rng(number).standard_normal((64, 64))
        label = np.zeros((64, 64), np.uint8)
        label[10 + 10 * number : 16 + 10 * number, 4:60] = 255
        frame[label > 0] = 60
        paths = {"image": str(tmp_path / f"{number}.png"), "label": str(tmp_path / f"{number}_label.png")}
        Image.fromarray(frame.astype(np.uint8)).save(paths["image"])
        Image.fromarray(label).save(paths["label"])
        rows.append({"id": str(number), "group": f"g{number}", **paths})
    return rows


def test_worse_weights_do_not_replace_better_ones(bundle, labelled, dark_detector, tmp_path):
    weights = bundle / "models" / "model.safetensors"
    weights.parent.mkdir()
    shutil.copy(dark_detector, weights)
    before = file_digest(weights)
    done = fine_tune(bundle, labelled, tmp_path / "out", max_epochs=2, learning_rate=50)
    assert done["dice_after"] < done["dice_before"]
    assert not done["replaced"]
    assert file_digest(weights) == before == done["weights_sha256"]
    assert read_history(tmp_path / "out") == [done]


def test_better_weights_are_used_at_once_and_the_old_ones_are_kept(bundle, labelled, eager_detector, tmp_path):
    weights = bundle / "models" / "model.safetensors"
    weights.parent.mkdir()
    shutil.copy(eager_detector, weights)
    before = file_digest(weights)
    segmenter = Segmenter(bundle)
    first = segmenter.probabilities(labelled[0]["image"])
    done = fine_tune(bundle, labelled, tmp_path / "out", max_epochs=25, learning_rate=0.05, val_split=0.5)
    assert done["replaced"], done
    assert done["dice_after"] > done["dice_before"]
    assert file_digest(weights) == done["weights_sha256"] == segmenter.weights_sha256 != before
    assert file_digest(tmp_path / "out" / "0000" / "replaced.safetensors") == before
    assert not np.array_equal(segmenter.probabilities(labelled[0]["image"]), first)
    assert json.loads(weights.with_suffix(".json").read_text())["sha256"] == done["weights_sha256"]


def test_rows_of_damaged_labels_are_left_out_and_logged_with_their_reason(tmp_path, caplog):
    frame, label = tmp_path / "frame.png", tmp_path / "whole.png"
    Image.new("L", (30, 20), 9).save(frame)
    Image.new("L", (30, 20)).save(label)
    damaged = {"cut": label.read_bytes()[:50], "empty": b"", "other": b"II*\0", "small": None}
    for name, content in damaged.items():
        if content is None:
            Image.new("L", (9, 9)).save(tmp_path / f"{name}.png")
        else:
            (tmp_path / f"{name}.png").write_bytes(content)
    names = ["whole", *damaged, "missing"]
    rows = [{"id": name, "image": str(frame), "label": str(tmp_path / f"{name}.png"), "group": name} for name in names]
    whole, left_out = with_whole_labels(rows)
    assert whole == rows[:1]
    assert left_out == [*damaged, "missing"]
    said = [record.getMessage() for record in caplog.records]
    assert [name for name in left_out if not any(f"{name} is left out of training" in text for text in said)] == []
    assert str(tmp_path) not in said[0]
