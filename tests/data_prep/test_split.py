import hashlib
import json
import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_prep.__main__ import main
from data_prep.datalist import validate_datalist
from data_prep.split import draw_splits, images_for_ratio


def _make_dataset(folder: Path, sizes: dict[str, int], *, unlabelled: dict[str, int] | None = None) -> Path:
    """Groups of labelled frames by their size, groups of unlabelled ones, and five test frames."""
    (folder / "images").mkdir(parents=True)
    frame = Image.fromarray(np.full((4, 4), 255, np.uint8))
    frame.putpixel((0, 0), 0)  # also a label, which must hold background

    def rows(groups: dict[str, int], prefix: str, is_labelled: bool) -> list[dict[str, object]]:
        made = []
        for group, size in groups.items():
            for number in range(size):
                name = f"{prefix}_{group}_{number}"
                row = {"id": name, "image": f"images/{name}.png", "group": group, "view": "LAO"}
                if is_labelled:
                    row["label"] = f"images/{name}_mask.png"
                    frame.save(folder / row["label"])
                frame.save(folder / row["image"])
                made.append(row)
        return made

    document = {
        "name": "set",
        "training": rows(sizes, "train", True),
        "pretraining": rows(unlabelled or {}, "free", False),
        "validation": [],
        "test": rows({f"t{number}": 1 for number in range(5)}, "test", True),
    }
    path = folder / "datalist.json"
    path.write_text(json.dumps(document))
    return path


def _singles(count: int) -> dict[str, int]:
    return {f"g{number:03d}": 1 for number in range(count)}


def _split(datalist: Path, output: str, *options: str) -> Path:
    folder = datalist.parent.parent / output
    assert main(["split", "--datalist", str(datalist), "--output", str(folder), *options]) == 0
    return folder


def _ids(path: Path) -> dict[str, list[str]]:
    document = json.loads(path.read_text())
    return {name: [row["id"] for row in document[name]] for name in ("pretraining", "training", "validation", "test")}


def _groups(path: Path, name: str) -> set[str]:
    return {row["group"] for row in json.loads(path.read_text())[name]}


def _error(datalist: Path, capsys, *options: str) -> str:
    folder = datalist.parent.parent / "failed"
    assert main(["split", "--datalist", str(datalist), "--output", str(folder), *options]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert not folder.exists()
    return captured.err


@pytest.fixture(scope="module")
def singles(tmp_path_factory):
    """160 labelled frames, each in a group of its own."""
    return _make_dataset(tmp_path_factory.mktemp("singles") / "dataset", _singles(160))


@pytest.fixture
def grouped(tmp_path):
    """24 labelled frames in groups of 1, 2 and 3; c and u also hold unlabelled frames."""
    sizes = {"a": 3, "b": 2, "c": 3, "d": 1, "e": 1, "f": 2, "g": 3, "h": 1, "i": 2, "j": 1, "k": 3, "l": 2}
    return _make_dataset(tmp_path / "dataset", sizes, unlabelled={"c": 2, "u": 4})


# What is in the files


def test_final_holds_all_fine_tuning_rows_and_the_test_rows(singles):
    final = _ids(_split(singles, "final", "--finetune-images", "18") / "final.json")
    assert {name: len(ids) for name, ids in final.items()} == {
        "pretraining": 142, "training": 18, "validation": 0, "test": 5
    }  # fmt: skip
    assert len(set(final["pretraining"]) | set(final["training"])) == 160
    assert final["test"] == [f"test_t{number}_0" for number in range(5)]


def test_folds_validate_each_fine_tuning_row_once_and_hold_no_test_row(singles):
    folder = _split(singles, "folds", "--finetune-images", "18", "--folds", "4")
    final = _ids(folder / "final.json")
    folds = [_ids(folder / f"fold_{number}.json") for number in range(4)]
    assert sorted(row for fold in folds for row in fold["validation"]) == final["training"]
    assert sorted(len(fold["validation"]) for fold in folds) == [4, 4, 5, 5]
    for fold in folds:
        assert sorted(fold["training"] + fold["validation"]) == final["training"]
        assert fold["test"] == []
        assert fold["pretraining"] == final["pretraining"]
    assert sorted(path.name for path in folder.iterdir()) == [
        "final.json", "fold_0.json", "fold_1.json", "fold_2.json", "fold_3.json"
    ]  # fmt: skip


def test_rows_for_pretraining_keep_all_but_the_label(singles):
    final = json.loads((_split(singles, "labels", "--finetune-images", "18") / "final.json").read_text())
    row = final["pretraining"][0]
    assert row == {
        "id": row["id"],
        "image": f"images/{row['id']}.png",
        "group": row["id"].split("_")[1],
        "spacing_mm": None,
        "spacing_source": "unknown",
        "view": "LAO",
    }
    assert all("label" not in row for row in final["pretraining"])
    assert all(row["label"] == f"images/{row['id']}_mask.png" for row in final["training"] + final["test"])


def test_split_files_fit_the_dataset_folder(singles):
    folder = _split(singles, "fit", "--finetune-images", "18")
    for path in folder.iterdir():
        validate_datalist(path, singles.parent, deep=True)


def test_settings_counts_and_source_are_recorded(singles):
    folder = _split(singles, "record", "--ratio", "79:1", "--folds", "2", "--seed", "5")
    document = json.loads((folder / "fold_1.json").read_text())
    assert document["source_sha256"] == hashlib.sha256(singles.read_bytes()).hexdigest()
    assert document["source_datalist"] == "datalist.json"
    assert document["settings"] == {
        "ratio": "79:1", "finetune_images": 2, "folds": 2, "seed": 5, "draws": 1, "draw": 0, "draw_seed": 5
    }  # fmt: skip
    assert document["counts"] == {"pretraining": 158, "training": 1, "validation": 1, "test": 0}


# The choice


@pytest.mark.parametrize(
    "ratio, labelled, expected",
    [("79:1", 1000, 13), ("79:1", 992, 12), ("79:1", 40, 1), ("50:30", 800, 300), ("75:5", 100, 6), ("1:1", 3, 2)],
)
def test_ratio_is_a_share_of_the_labelled_frames_to_the_nearest(ratio, labelled, expected):
    # 12.5, 12.4, 0.5, 300, 6.25 and 1.5 frames
    assert images_for_ratio(ratio, labelled) == expected


def test_same_seed_gives_the_same_files_whatever_the_order_of_rows(singles, tmp_path):
    shuffled = _make_dataset(tmp_path / "dataset", _singles(160))
    document = json.loads(shuffled.read_text())
    for name in ("training", "test"):
        random.Random(1).shuffle(document[name])
    shuffled.write_text(json.dumps(document))
    options = ("--finetune-images", "18", "--seed", "3")
    one, other = _split(singles, "ordered", *options), _split(shuffled, "shuffled", *options)
    for name in ("fold_0.json", "fold_1.json", "fold_2.json", "final.json"):
        assert _ids(one / name) == _ids(other / name)


def test_other_seeds_choose_other_rows(singles):
    chosen = [
        _ids(_split(singles, f"seed{seed}", "--finetune-images", "18", "--seed", str(seed)) / "final.json")["training"]
        for seed in range(4)
    ]
    assert len({tuple(ids) for ids in chosen}) == 4


def test_every_row_is_chosen_about_equally_often(singles):
    datalist = validate_datalist(singles)
    counts = {row.id: 0 for row in datalist.lists["training"]}
    for seed in range(60):
        (draw,) = draw_splits(datalist, count=40, folds=3, seed=seed, draws=1)
        for row in draw.rows:
            counts[row.id] += 1
    # 60 draws of 40 in 160: 15 expected each, with a standard deviation of 3.4; five of them at most
    assert min(counts.values()) >= 1
    assert max(counts.values()) <= 32


def test_no_group_is_in_two_lists(grouped):
    for seed in range(12):
        folder = _split(grouped, "groups", "--finetune-images", "9", "--seed", str(seed))
        final = folder / "final.json"
        assert len(_ids(final)["training"]) == 9
        assert not _groups(final, "pretraining") & _groups(final, "training")
        for number in range(3):
            fold = folder / f"fold_{number}.json"
            assert not _groups(fold, "training") & _groups(fold, "validation")
            assert _groups(fold, "training") | _groups(fold, "validation") == _groups(final, "training")


def test_unlabelled_rows_and_labelled_ones_of_their_group_always_pretrain(grouped):
    # 21 of the 24 can be chosen: c holds unlabelled frames
    final = _split(grouped, "free", "--finetune-images", "21") / "final.json"
    assert _ids(final)["pretraining"] == [
        "free_c_0", "free_c_1", "free_u_0", "free_u_1", "free_u_2", "free_u_3", "train_c_0", "train_c_1", "train_c_2"
    ]  # fmt: skip


def test_patients_are_kept_together_where_they_are_known(singles, tmp_path):
    datalist = _make_dataset(tmp_path / "dataset", _singles(12))
    document = json.loads(datalist.read_text())
    for place, row in enumerate(document["training"]):
        row["patient_id"] = f"p{place // 2}"
    datalist.write_text(json.dumps(document))
    rows = json.loads((_split(datalist, "patients", "--finetune-images", "6") / "final.json").read_text())
    chosen = [row["patient_id"] for row in rows["training"]]
    assert len(chosen) == 6
    assert len(set(chosen)) == 3
    assert not set(chosen) & {row["patient_id"] for row in rows["pretraining"]}


def test_exact_number_is_found_where_the_first_groups_do_not_add_up(tmp_path):
    # 18 is 10 + 8 or 5 + 5 + 8; the first groups that fit may be 5 + 10, which leads nowhere
    datalist = _make_dataset(tmp_path / "dataset", {"a": 5, "b": 5, "c": 5, "d": 10, "e": 8})
    for seed in range(8):
        folder = _split(datalist, f"sum{seed}", "--finetune-images", "18", "--folds", "2", "--seed", str(seed))
        assert _groups(folder / "final.json", "training") in (
            {"d", "e"},
            {"a", "b", "e"},
            {"a", "c", "e"},
            {"b", "c", "e"},
        )


# Draws


def test_draws_share_no_row_and_one_pretraining_serves_all(singles):
    folder = _split(singles, "draws", "--finetune-images", "18", "--draws", "3", "--seed", "7")
    finals = [_ids(folder / f"draw_{number}" / "final.json") for number in range(3)]
    chosen = [row for final in finals for row in final["training"]]
    assert len(set(chosen)) == 54
    for number, final in enumerate(finals):
        assert len(final["training"]) == 18
        assert final["pretraining"] == finals[0]["pretraining"]
        assert sorted(final["pretraining"] + chosen) == sorted(_ids(singles)["training"])
        for fold in range(3):
            assert _ids(folder / f"draw_{number}" / f"fold_{fold}.json")["pretraining"] == final["pretraining"]
        settings = json.loads((folder / f"draw_{number}" / "final.json").read_text())["settings"]
        assert (settings["draw"], settings["draw_seed"]) == (number, 7 + number)


def test_first_draw_is_that_of_a_single_one(singles):
    many = _ids(_split(singles, "first3", "--finetune-images", "18", "--draws", "3") / "draw_0/final.json")
    single = _ids(_split(singles, "first1", "--finetune-images", "18") / "final.json")
    assert many["training"] == single["training"]


def test_draws_inside_a_set_are_part_of_it_and_pretraining_has_seen_none_of_it(singles):
    options = ("--finetune-images", "18", "--draws", "2", "--inside", "40")
    folder = _split(singles, "nested", *options)
    outer, *draws = (_ids(folder / name / "final.json") for name in ("inside", "draw_0", "draw_1"))
    assert len(outer["training"]) == 40
    assert len(set(draws[0]["training"] + draws[1]["training"])) == 36
    assert set(draws[0]["training"] + draws[1]["training"]) < set(outer["training"])
    for lists in (outer, *draws):
        assert sorted(lists["pretraining"] + outer["training"]) == sorted(_ids(singles)["training"])
    folds = [_ids(folder / "inside" / f"fold_{fold}.json") for fold in range(3)]
    assert sorted(row for fold in folds for row in fold["validation"]) == sorted(outer["training"])


# Running again


def test_second_run_changes_no_file(singles):
    options = ("--finetune-images", "18", "--draws", "2")
    folder = _split(singles, "again", *options)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.json")}
    _split(singles, "again", *options)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.json")} == before
    assert len(before) == 8


def test_interrupted_change_leaves_no_file_of_the_old_split(singles, monkeypatch):
    folder = _split(singles, "torn", "--finetune-images", "18")
    monkeypatch.setattr("data_prep.split.write_datalist", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
    options = ["--datalist", str(singles), "--output", str(folder), "--finetune-images", "18", "--seed", "1"]
    assert main(["split", *options]) == 130
    assert list(folder.rglob("*.json")) == []


def test_files_of_another_form_of_split_are_not_left_beside_the_new_ones(singles, capsys):
    folder = _split(singles, "mixed", "--finetune-images", "18", "--folds", "4")
    before = {path: path.read_bytes() for path in folder.iterdir()}
    options = ["--datalist", str(singles), "--output", str(folder), "--finetune-images", "18", "--folds", "3"]
    assert main(["split", *options]) == 2
    assert f"{folder} holds another split ({folder / 'fold_3.json'})" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


# What cannot be done


@pytest.mark.parametrize(
    "options, message",
    [
        (("--finetune-images", "161"), "1 x 161 fine-tuning frames were requested, but only 160 labelled frames"),
        (("--finetune-images", "60", "--draws", "3"), "3 x 60 fine-tuning frames were requested, but only 160"),
        (("--finetune-images", "0"), "--finetune-images must be 1 or more, got 0"),
        (("--finetune-images", "2"), "3 folds asked for, but the fine-tuning frames are in 2 groups only"),
        (("--finetune-images", "18", "--folds", "1"), "--folds must be 2 or more, got 1"),
        (("--finetune-images", "18", "--draws", "0"), "--draws must be 1 or more, got 0"),
        (
            ("--ratio", "399:1"),
            "--ratio 399:1 gives 0 fine-tuning frames, since there are 160 labelled non-test frames",
        ),
        (("--ratio", "79/1"), "--ratio must be two positive whole numbers such as 79:1, got '79/1'"),
        (("--ratio", "79:0"), "--ratio must be two positive whole numbers such as 79:1, got '79:0'"),
    ],
)
def test_impossible_request_says_why(singles, capsys, options, message):
    assert message in _error(singles, capsys, *options)


def test_a_set_smaller_than_its_draws_is_refused(singles, capsys):
    options = ["--finetune-images", "18", "--draws", "3", "--inside", "50", "--output", str(singles.parent / "small")]
    assert main(["split", "--datalist", str(singles), *options]) == 2
    assert "--inside must be at least the 54 frames of all draws together, got 50" in capsys.readouterr().err


def test_number_that_whole_groups_cannot_make_names_the_nearest(tmp_path, capsys):
    datalist = _make_dataset(tmp_path / "dataset", {"a": 5, "b": 5, "c": 10})
    message = _error(datalist, capsys, "--finetune-images", "18")
    assert "no set of whole groups has exactly 18 frames (they have 5 to 10 each)" in message
    assert "the nearest number below is 15" in message
    assert str(datalist) in message


def test_rows_that_cannot_be_chosen_are_counted(grouped, capsys):
    message = _error(grouped, capsys, "--finetune-images", "22")
    assert "only 21 labelled frames are available (3 more share a group with `pretraining` rows)" in message


def test_given_validation_rows_are_refused(tmp_path, capsys):
    datalist = _make_dataset(tmp_path / "dataset", _singles(8))
    document = json.loads(datalist.read_text())
    document["validation"] = [document["training"].pop()]
    datalist.write_text(json.dumps(document))
    assert "the list `validation` has 1 rows, expected none" in _error(datalist, capsys, "--finetune-images", "3")


def test_missing_frame_is_found_before_anything_is_written(tmp_path, capsys):
    datalist = _make_dataset(tmp_path / "dataset", _singles(8))
    (datalist.parent / "images/train_g003_0.png").unlink()
    message = _error(datalist, capsys, "--finetune-images", "3")
    assert f"{datalist.parent / 'images/train_g003_0.png'} of row train_g003_0 is missing" in message
