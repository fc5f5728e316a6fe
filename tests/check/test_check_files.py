import pytest


def test_missing_dataset_and_list_are_named(bundle):
    problems = bundle.problems("--dataset_dir", str(bundle.root / "nowhere"))
    assert problems == [
        f"`dataset_dir`: no such folder: {bundle.root}/nowhere",
        f"`datalist`: no such file: {bundle.root}/nowhere/datalist.json",
    ]


@pytest.mark.parametrize("name", ["dataset_dir", "output_dir", "datalist"])
def test_a_folder_that_is_read_as_a_number_is_named(bundle, name):
    bundle.train["initialize"] = ["$str(@output_dir)"]
    assert f"`{name}` 2024 is read as a number: write ./2024" in bundle.problems(f"--{name}", "2024")


def test_missing_weights_are_named_and_unset_ones_are_right(bundle, only_problem):
    bundle.train["initialize"] = ["$str(@weights)"]
    assert bundle.problems() == []
    assert only_problem("--weights", "lost.safetensors") == "`weights`: no such file: lost.safetensors"


def test_output_folder_that_cannot_be_made_is_named(bundle, only_problem):
    blocked = bundle.root / "data" / "datalist.json" / "out"
    bundle.train["initialize"] = ["$str(@output_dir)"]
    assert only_problem("--output_dir", str(blocked)) == (
        f"`output_dir`: {blocked} cannot be made: {bundle.root}/data/datalist.json is not a folder"
    )


def test_output_folder_without_permission_is_named(bundle, only_problem, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: False)
    assert only_problem() == (
        f"`output_dir`: {bundle.root}/runs/first cannot be written: no permission in {bundle.root}"
    )


@pytest.mark.parametrize("value", ["", None, ["a"]])
def test_unset_output_folder_is_named(bundle, only_problem, value):
    bundle.train["output_dir"] = value
    assert only_problem() == f"`output_dir` must be a folder, got {value!r}"


def test_missing_images_and_labels_are_counted_and_named(bundle):
    (bundle.root / "data" / "images" / "t1.png").unlink()
    (bundle.root / "data" / "labels" / "t1.png").unlink()
    (bundle.root / "data" / "labels" / "t2.png").unlink()
    where = f"{bundle.root}/data/datalist.json: list `training` (read by `train#data`)"
    assert bundle.problems() == [
        f"{where}: 1 of 2 images are missing in {bundle.root}/data: images/t1.png",
        f"{where}: 2 of 2 labels are missing in {bundle.root}/data: labels/t1.png, labels/t2.png",
    ]


def test_images_of_lists_that_are_not_read_may_be_elsewhere(bundle):
    (bundle.root / "data" / "images" / "x1.png").unlink()
    assert bundle.problems() == []


def test_empty_list_in_use_is_named(bundle, only_problem):
    bundle.lists["training"] = []
    assert only_problem().endswith("list `training` (read by `train#data`) is empty")


def test_empty_list_is_right_where_the_config_says_what_is_left_out_without_it(bundle, only_problem):
    data = "$monai.data.load_decathlon_datalist(@datalist, True, 'validation', @dataset_dir)"
    handler = {"_target_": "ValidationHandler", "interval": 1}
    bundle.train["validate"] = {"data": data}
    bundle.train["train"]["trainer"]["train_handlers"] = [handler]
    assert only_problem().endswith("list `validation` (read by `validate#data`) is empty")
    handler["_disabled_"] = "$not @validate#data"
    assert bundle.problems() == []


def test_list_that_is_not_there_is_named_with_the_nearest(bundle, only_problem):
    bundle.lists["trainin"] = bundle.lists.pop("training")
    assert only_problem().endswith("list `training` (read by `train#data`) is not there; did you mean `trainin`?")


def test_row_without_label_is_named_where_labels_are_loaded(bundle, only_problem):
    bundle.lists["training"][1]["label"] = None
    assert only_problem().endswith("has 1 row(s) without a label: t2")


def test_row_without_label_is_right_where_only_images_are_loaded(bundle):
    bundle.lists["training"][1]["label"] = None
    bundle.train["train"]["transforms"]["transforms"] = [{"_target_": "LoadImaged", "keys": "image"}]
    assert bundle.problems() == []


def test_label_that_is_loaded_as_a_frame_is_named(bundle, only_problem):
    bundle.train["train"]["transforms"]["transforms"][0]["reader"] = "cmunet_monai.transforms.FrameReader"
    problem = only_problem()
    assert problem.startswith("`train#transforms#transforms#0`: `label` is loaded by FrameReader")
    assert "LoadLabeld" in problem


def test_row_without_image_is_named(bundle, only_problem):
    bundle.lists["training"].append({"id": "t3"})
    assert only_problem().endswith("has 1 row(s) without an image: number 2")


@pytest.mark.parametrize(
    "key,word", [("image", "image"), ("id", "id"), ("patient_id", "patient"), ("group", "near-duplicate group")]
)
def test_row_shared_by_training_and_test_is_named(bundle, only_problem, key, word):
    bundle.lists["training"][0][key] = "images/t2.png" if key == "image" else "same"
    bundle.lists["test"][1][key] = bundle.lists["training"][0][key]
    if key == "image":
        bundle.lists["training"].pop(1)
    assert only_problem("--batch_size", "1") == (
        f"{bundle.root}/data/datalist.json: lists `training` and `test` share 1 {word}(s): "
        + bundle.lists["training"][0][key]
    )


def test_every_pair_of_lists_is_compared(bundle):
    bundle.lists["validation"] = [bundle.row("p1", group="g-x1")]
    problems = [problem.split("lists ")[1] for problem in bundle.problems()]
    assert problems == [
        "`pretraining` and `validation` share 1 image(s): images/p1.png",
        "`pretraining` and `validation` share 1 id(s): p1",
        "`validation` and `test` share 1 near-duplicate group(s): g-x1",
    ]


def test_rows_without_a_patient_are_not_the_same_patient(bundle):
    for rows in bundle.lists.values():
        for row in rows:
            row.update(patient_id=None, group="")
    assert bundle.problems() == []


def test_image_listed_twice_is_named(bundle):
    bundle.lists["training"].append(bundle.row("t1"))
    problems = [problem.split("list ")[1] for problem in bundle.problems()]
    assert problems == ["`training` has 1 image(s) twice: images/t1.png", "`training` has 1 id(s) twice: t1"]


def test_broken_datalist_is_named_with_its_line(bundle):
    from cmunet_monai.check import check_run, parse_arguments

    arguments = bundle.write()
    (bundle.root / "data" / "datalist.json").write_text('{"training": [\n  {"id": "a",}\n]}')
    (problem,) = check_run(parse_arguments(arguments)).problems
    assert problem.startswith(f"{bundle.root}/data/datalist.json:2:")
    assert "not valid JSON" in problem


def test_fewer_rows_than_a_batch_are_named_where_incomplete_batches_are_dropped(bundle, only_problem):
    assert bundle.problems("--batch_size", "3") == []
    bundle.train["train"]["dataloader"]["drop_last"] = True
    assert bundle.problems("--batch_size", "2") == []
    assert only_problem("--batch_size", "3") == (
        "`train#dataloader`: list `training` has 2 rows, fewer than one batch of 3, and incomplete batches are dropped"
    )


def test_folder_without_a_frame_is_named(bundle, only_problem):
    bundle.train["train"]["data"] = {"_target_": "cmunet_monai.readers.list_frames", "source": "@dataset_dir"}
    assert bundle.problems() == []
    bundle.train["dataset_dir"] = "$@bundle_root + '/configs'"
    del bundle.train["datalist"]
    problem = only_problem()
    assert problem.startswith(f"`train#data`: no frame (.png, .nii, .nii.gz, DICOM) in {bundle.root}/configs")


def test_missing_checkpoint_of_a_loader_is_named_unless_it_is_switched_off(bundle, only_problem):
    loader = {"_target_": "CheckpointLoader", "load_path": "$@output_dir + '/model.pt'", "load_dict": {"a": "@network"}}
    bundle.train["train"]["trainer"]["train_handlers"] = [loader]
    problem = only_problem()
    assert problem == f"`train#trainer#train_handlers#0`: no such checkpoint: {bundle.root}/runs/first/model.pt"
    loader["_disabled_"] = "$not os.path.exists(@output_dir + '/model.pt')"
    assert bundle.problems() == []
