import json
from pathlib import Path

import pytest


def test_a_sound_bundle_has_no_problem(bundle):
    report = bundle.check()
    assert report.problems == ()
    assert report.rows == {"training": 2}
    assert report.components == 10  # network, optimiser, loss, Compose and its 3, dataset, loader, trainer


def test_monai_runs_what_the_check_passes_and_ignores_a_mistyped_override(bundle, monkeypatch):
    """The reason for this check: three wrong letters, and MONAI trains for 2 epochs instead of 1."""
    import monai.bundle
    from monai.engines import SupervisedTrainer

    epochs = []
    run = SupervisedTrainer.run

    def counted(self):
        run(self)
        epochs.append(self.state.epoch)

    monkeypatch.setattr(SupervisedTrainer, "run", counted)
    bundle.write()
    for override in ({"max_epochs": 1}, {"max_epoch": 1}):
        monai.bundle.run(config_file=bundle.config("train.json"), bundle_root=str(bundle.root), **override)
    assert epochs == [1, 2]
    assert bundle.problems("--max_epochs", "1") == []
    assert bundle.problems("--max_epoch", "1") != []


def test_mistyped_override_is_named_with_the_nearest_id(only_problem):
    assert only_problem("--max_epoch", "1") == (
        "--max_epoch: unknown id, it would be ignored; did you mean `max_epochs`?"
    )


def test_mistyped_override_with_nothing_near_lists_what_can_be_set(only_problem):
    problem = only_problem("--zzz", "1")
    assert problem.startswith("--zzz: unknown id")
    assert "`learning_rate`" in problem
    assert "`network_def`" not in problem


def test_override_of_a_place_that_does_not_exist_is_named(only_problem):
    problem = only_problem("--train#trainr#max_epochs", "1")
    assert problem == "--train#trainr#max_epochs: no such id; did you mean `train#trainer#max_epochs`?"


def test_override_that_adds_an_argument_the_component_takes_is_right(bundle):
    assert bundle.problems("--train#dataloader#num_workers", "2", "--train#trainer#amp", "False") == []


def test_override_that_adds_an_argument_the_component_does_not_take_is_named(only_problem):
    problem = only_problem("--loss#softmaxx", "True")
    assert problem == "`loss`: `DiceCELoss` takes no argument `softmaxx`; did you mean `softmax`?"


def test_override_of_an_id_that_nothing_uses_is_named(bundle, only_problem):
    bundle.train["val_every"] = 1
    assert only_problem("--val_every", "5") == ("--val_every: changes nothing, since nothing in these configs uses it")


def test_override_that_supplies_a_referenced_id_is_right(bundle, only_problem):
    del bundle.train["learning_rate"]
    assert bundle.problems("--learning_rate", "0.1") == []
    assert only_problem() == "`@learning_rate` is not defined, used in `optimizer#lr`"


def test_text_for_a_number_is_named(only_problem):
    assert only_problem("--max_epochs", "1O") == "--max_epochs 1O: is text, where the config has 2"


def test_expression_for_a_number_is_right(bundle):
    assert bundle.problems("--max_epochs", "$1 + 1") == []


def test_mistyped_overlay_key_is_named_with_its_file(bundle, only_problem):
    bundle.overlays["compact.json"] = {"_desc_": "small", "batch_size": 1, "learning_rat": 0.1}
    problem = only_problem()
    assert problem == (
        f"{bundle.config('compact.json')}: `learning_rat`: unknown id, it would be ignored; "
        "did you mean `learning_rate`?"
    )


def test_overlay_key_into_a_missing_place_is_named(bundle, only_problem):
    bundle.overlays["compact.json"] = {"trian#trainer#max_epochs": 1}
    assert only_problem().endswith("`trian#trainer#max_epochs`: no such id; did you mean `train#trainer#max_epochs`?")


def test_overlay_may_serve_several_configs_of_a_bundle(bundle, only_problem):
    """`compact.json` sets a learning rate, which `evaluate.json` does not have."""
    bundle.overlays["compact.json"] = {"batch_size": 1, "momentum": 0.9}
    assert "`momentum`: unknown id" in only_problem()
    Path(bundle.config("other.json")).write_text(json.dumps({"momentum": 0.5}))
    assert bundle.problems() == []
    assert "--momentum: changes nothing" in only_problem("--momentum", "0.8")


def test_overlay_may_add_what_it_uses_and_entry_points_and_imports(bundle):
    bundle.overlays["overlay.json"] = {
        "more_imports": ["$import json"],
        "wrapped": {"_target_": "torch.nn.DataParallel", "module": "@network"},
        "train#trainer#network": "@wrapped",
        "initialize": ["$monai.utils.set_determinism(0)"],
        "finalize": ["$json.dumps([])"],
    }
    assert bundle.problems() == []


def test_overlay_that_adds_to_a_list_is_right_and_to_a_number_is_named(bundle, only_problem):
    bundle.overlays["overlay.json"] = {"+train#transforms#transforms": [{"_target_": "EnsureTyped", "keys": "image"}]}
    assert bundle.check().components == 11
    bundle.overlays["overlay.json"] = {"+max_epochs": [1]}
    assert "cannot be added" in only_problem()


@pytest.mark.parametrize("key", ["train.json", "extra.json"])
def test_json_syntax_error_is_named_with_file_and_line(bundle, key):
    bundle.overlays["extra.json"] = {"batch_size": 1}
    arguments = bundle.write()
    Path(bundle.config(key)).write_text('{\n    "a": 1,\n    "b" 2\n}\n')
    from cmunet_monai.check import check_run, parse_arguments

    (problem,) = check_run(parse_arguments(arguments)).problems
    assert problem == f"{bundle.config(key)}:3:9: not valid JSON: Expecting ':' delimiter"


def test_every_unreadable_file_is_named_at_once(bundle):
    from cmunet_monai.check import check_run, parse_arguments

    bundle.write()
    Path(bundle.config("list.json")).write_text("[]")
    Path(bundle.config("twice.json")).write_text('{"a": 1, "a": 2}')
    names = ["tran.json", "list.json", "twice.json"]
    problems = check_run(parse_arguments(["--config_file", str([bundle.config(name) for name in names])])).problems
    assert problems[0] == (
        f"{bundle.config('tran.json')}: no such config file; did you mean `{bundle.config('train.json')}`?"
    )
    assert problems[1] == f"{bundle.config('list.json')}: must hold a dictionary, got a list"
    assert problems[2:] == (f"{bundle.config('twice.json')}: Duplicate key: `a`",)


def test_unresolved_reference_is_named_with_its_place_and_the_nearest_id(bundle, only_problem):
    bundle.train["optimizer"]["lr"] = "@learnign_rate"
    assert only_problem() == ("`@learnign_rate` is not defined, used in `optimizer#lr`; did you mean `learning_rate`?")


def test_unresolved_reference_inside_an_expression_is_named(bundle, only_problem):
    bundle.train["run"] = ["$@train#trainr.run()"]
    assert only_problem() == "`@train#trainr` is not defined, used in `run#0`; did you mean `train#trainer`?"


def test_relative_references_are_followed(bundle, only_problem):
    bundle.train["train"]["dataset"]["data"] = "@##data"
    assert bundle.problems() == []
    bundle.train["train"]["dataset"]["data"] = "@##dat"
    assert only_problem().startswith("`@train#dat` is not defined, used in `train#dataset#data`; did you mean")


def test_circle_of_references_is_named(bundle):
    bundle.train["bundle_root"] = "@dataset_dir"
    bundle.write()
    from cmunet_monai.check import check_run, parse_arguments

    problems = check_run(parse_arguments(["--config_file", bundle.config("train.json")])).problems
    assert "references in a circle: `bundle_root` -> `dataset_dir` -> `bundle_root`" in problems


def test_macro_is_copied_and_a_macro_to_nothing_is_named(bundle, only_problem):
    bundle.train["train"]["trainer"]["max_epochs"] = "%max_epochs"
    assert bundle.problems("--max_epochs", "3") == []
    bundle.train["train"]["trainer"]["max_epochs"] = "%max_epoch"
    assert only_problem() == (
        "`train#trainer#max_epochs`: `%max_epoch` copies what is not there; did you mean `max_epochs`?"
    )


def test_missing_entry_point_is_named(bundle, only_problem):
    assert only_problem("--run_id", "rnu") == "nothing to run: the config has no `rnu`; did you mean `run`?"


def test_all_mistakes_are_named_in_one_go(bundle):
    bundle.train["loss"]["_target_"] = "DiceCELos"
    bundle.lists["training"].append(bundle.row("lost"))
    problems = bundle.problems("--max_epoch", "1", "--batch_siz", "4")
    assert len(problems) == 5  # two overrides, the loss, a missing image and its label


def test_nothing_is_instantiated_evaluated_or_written(bundle):
    marker = bundle.root / "made"
    bundle.train["side_effect"] = f"$open({str(marker)!r}, 'w')"
    bundle.train["output_dir"] = f"$os.makedirs({str(marker)!r}) or 'x'"
    bundle.train["weights"] = f"$open({str(marker)!r}, 'w').name"
    bundle.train["initialize"] = ["@side_effect"]
    bundle.write()
    before = {path: path.stat().st_mtime_ns for path in bundle.root.rglob("*")}
    assert bundle_check(bundle) == ()
    assert {path: path.stat().st_mtime_ns for path in bundle.root.rglob("*")} == before


def bundle_check(bundle):
    """Check what lies on the disk, without writing it again."""
    from cmunet_monai.check import check_run, parse_arguments

    arguments = ["--bundle_root", str(bundle.root), "--config_file", bundle.config("train.json")]
    return check_run(parse_arguments(arguments)).problems


def test_metadata_given_by_name_are_read(bundle, tmp_path, only_problem):
    other = tmp_path / "other.json"
    other.write_text(json.dumps({"required_packages_version": {"no-such-package": "1"}}))
    assert only_problem("--meta_file", str(other)) == (
        "package `no-such-package` is not installed (version 1 is needed)"
    )
