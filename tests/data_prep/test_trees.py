import json

import numpy as np
import pytest

from cmunet_monai.transforms.paint_arteries import TreeBank
from data_prep.__main__ import main
from data_prep.synthetic import synthesize_frame


def project(output, *options):
    return main(["trees", "--size", "64", "--output", str(output), *options])


def maps(folder, name):
    with np.load(folder / "trees" / name) as found:
        return {key: found[key] for key in found.files}


def test_a_bank_holds_what_pre_training_reads(tmp_path):
    assert project(tmp_path, "--trees", "3") == 0
    bank = TreeBank(tmp_path)
    assert len(bank) == 3
    tree = bank[2]
    assert {item.shape for item in (tree.agent_mm, tree.devices, tree.mask, tree.frame)} == {(64, 64)}
    assert np.unique(tree.mask).tolist() == [0, 1]
    assert (tree.agent_mm[tree.mask > 0] > 0).mean() > 0.97  # a thin artery may miss the rays of a pixel's centre
    assert tree.devices.min() >= 0


def test_a_tree_is_that_of_the_synthetic_frame_of_its_patient(tmp_path):
    project(tmp_path, "--trees", "2", "--seed", "4")
    frame = synthesize_frame(4, 1, 0, size=64, round_corners=False)
    found = maps(tmp_path, "tree_4_00001.npz")
    assert np.array_equal(found["frame"], frame.image)
    assert np.array_equal(found["mask"] * 255, frame.mask)
    assert found["agent_mm"] == pytest.approx(frame.agent_mm, abs=0.01)


def test_an_interrupted_bank_goes_on_and_a_longer_one_begins_with_the_shorter(tmp_path, capsys):
    project(tmp_path / "whole", "--trees", "4", "--workers", "2")
    project(tmp_path / "part", "--trees", "4")
    (tmp_path / "part" / "trees.json").unlink()
    kept = tmp_path / "part" / "trees" / "tree_0_00001.npz"
    (tmp_path / "part" / "trees" / "tree_0_00002.npz").unlink()
    before = kept.stat().st_mtime_ns
    assert project(tmp_path / "part", "--trees", "4") == 0
    assert "4 trees, 1 of them new" in capsys.readouterr().out
    assert kept.stat().st_mtime_ns == before
    for number in range(4):
        one, other = (maps(tmp_path / name, f"tree_0_{number:05d}.npz") for name in ("whole", "part"))
        assert all(np.array_equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize(
    "options, words", [(["--trees", "0"], "--trees"), (["--size", "32"], "--size"), (["--workers", "0"], "--workers")]
)
def test_bad_options_are_named(tmp_path, capsys, options, words):
    assert main(["trees", "--output", str(tmp_path / "b"), *options]) == 2
    assert words in capsys.readouterr().err


def test_another_bank_in_the_folder_is_refused(tmp_path, capsys):
    project(tmp_path, "--trees", "1")
    assert project(tmp_path, "--trees", "1", "--seed", "1") == 2
    assert "another data set" in capsys.readouterr().err
    assert len(json.loads((tmp_path / "trees.json").read_text())["trees"]) == 1
