import pytest

from cmunet_monai.check.run import check_packages


def test_mistyped_monai_name_is_named_with_the_nearest(bundle, only_problem):
    bundle.train["loss"]["_target_"] = "DiceCELos"
    assert only_problem() == "`loss`: MONAI has no `DiceCELos`; did you mean `DiceCELoss`?"


def test_mistyped_dotted_name_says_which_part_is_wrong(bundle, only_problem):
    bundle.train["optimizer"]["_target_"] = "torch.optim.AdamWW"
    assert only_problem() == "`optimizer`: `torch.optim` has no `AdamWW`; did you mean `AdamW`?"
    bundle.train["optimizer"]["_target_"] = "torch.optm.AdamW"
    assert only_problem().startswith("`optimizer`: `torch` has no `optm`; did you mean `optim`?")


def test_missing_package_of_a_target_is_named(bundle, only_problem):
    bundle.train["optimizer"]["_target_"] = "no_such_package.AdamW"
    assert only_problem() == (
        "`optimizer`: `no_such_package.AdamW` cannot be imported: there is no package `no_such_package`"
    )


def test_module_that_fails_on_import_is_named_with_its_reason(bundle, only_problem):
    (bundle.root / "scripts_of_broken_bundle").mkdir()
    (bundle.root / "scripts_of_broken_bundle" / "__init__.py").write_text("raise RuntimeError('half written')\n")
    bundle.train["loss"] = {"_target_": "scripts_of_broken_bundle.Loss"}
    problem = only_problem()
    assert "importing `scripts_of_broken_bundle.Loss` fails" in problem
    assert "half written" in problem


def test_modules_of_the_bundle_itself_are_found(bundle):
    (bundle.root / "scripts_of_whole_bundle.py").write_text("def loss(scale):\n    return scale\n")
    bundle.train["loss"] = {"_target_": "scripts_of_whole_bundle.loss", "scale": 1}
    assert bundle.problems() == []


def test_argument_that_the_target_does_not_take_is_named_with_the_nearest(bundle, only_problem):
    bundle.train["network_def"]["in_chanels"] = 1
    assert only_problem() == ("`network_def`: `BasicUNet` takes no argument `in_chanels`; did you mean `in_channels`?")


def test_argument_with_nothing_near_lists_what_the_target_takes(bundle, only_problem):
    bundle.train["train"]["transforms"]["transforms"][1] = {"_target_": "ToTensord", "keys": "image", "qqq": 1}
    problem = only_problem()
    assert problem.startswith("`train#transforms#transforms#1`: `ToTensord` takes no argument `qqq`; it takes `keys`")


def test_missing_argument_is_named(bundle, only_problem):
    del bundle.train["train"]["trainer"]["loss_function"]
    assert only_problem() == "`train#trainer`: `SupervisedTrainer` needs the argument `loss_function`"


def test_arguments_that_monais_loader_hands_to_torch_are_known(bundle, only_problem):
    bundle.train["train"]["dataloader"]["drop_last"] = False
    assert bundle.problems() == []
    bundle.train["train"]["dataloader"]["shufle"] = True
    assert only_problem() == "`train#dataloader`: `DataLoader` takes no argument `shufle`; did you mean `shuffle`?"


def test_target_that_takes_any_argument_is_not_judged(bundle):
    bundle.train["train"]["transforms"]["transforms"][0]["converter"] = None  # goes to the reader
    assert bundle.problems() == []


def test_partial_component_may_leave_arguments_open(bundle):
    bundle.train["train"]["trainer"]["prepare_batch"] = {
        "_target_": "monai.engines.utils.default_prepare_batch",
        "_mode_": "callable",
    }
    assert bundle.problems() == []


def test_component_that_is_switched_off_is_not_judged(bundle):
    bundle.train["train"]["trainer"]["decollate"] = {"_target_": "NotThere", "_disabled_": True}
    assert bundle.problems() == []


def test_expression_that_is_not_python_is_named(bundle, only_problem):
    bundle.train["device"] = "$torch.device('cpu'"
    problem = only_problem()
    assert problem.startswith("`device`: `$torch.device('cpu'` is not Python:")


def test_expression_with_an_unknown_name_is_named(bundle, only_problem):
    bundle.train["device"] = "$troch.device('cpu')"
    assert only_problem() == "`device`: `troch` is not defined; did you mean `torch`?"
    bundle.train["device"] = "$json.loads('1')"
    assert only_problem() == '`device`: `json` is not defined (is "$import json" missing?)'


def test_names_bound_inside_an_expression_are_known(bundle):
    bundle.train["device"] = "$[name for name in ('cpu', 'cuda') if len(name) == 3][0]"
    assert bundle.problems() == []


def test_function_that_a_module_does_not_have_is_named(bundle, only_problem):
    bundle.train["initialize"] = ["$monai.utils.set_determinsm(0)"]
    assert only_problem() == "`initialize#0`: `monai.utils` has no `set_determinsm`; did you mean `set_determinism`?"


def test_wrong_part_in_the_middle_of_a_called_name_is_named(bundle, only_problem):
    bundle.train["device"] = "$torch.cud.device('cpu')"
    assert only_problem() == "`device`: `torch` has no `cud`; did you mean `cuda`?"


def test_loader_class_that_hands_nothing_to_torch_takes_its_own_arguments_only(bundle, only_problem):
    (bundle.root / "loader_of_bundle.py").write_text(
        "from monai.data import DataLoader\n\n\nclass Loader(DataLoader):\n"
        "    def __init__(self, dataset):\n        super().__init__(dataset)\n"
    )
    bundle.train["train"]["dataloader"] = {"_target_": "loader_of_bundle.Loader", "dataset": "@train#dataset"}
    assert bundle.problems() == []
    bundle.train["train"]["dataloader"]["batch_size"] = 2
    assert only_problem().startswith("`train#dataloader`: `loader_of_bundle.Loader` takes no argument `batch_size`")


def test_arguments_of_calls_in_expressions_are_checked(bundle, only_problem):
    bundle.train["initialize"] = ["$monai.utils.set_determinism(sed=0)"]
    assert only_problem() == (
        "`initialize#0`: `monai.utils.set_determinism` takes no argument `sed`; did you mean `seed`?"
    )


def test_import_of_what_is_not_there_is_named_once(bundle, only_problem):
    bundle.train["imports"].append("$import no_such_module_at_all")
    bundle.train["device"] = "$no_such_module_at_all.device()"
    problem = only_problem()
    assert problem.startswith("`imports#2`: `import no_such_module_at_all` fails")


@pytest.mark.parametrize("wanted", ["0.9", "1.26", "1.26.0rc1", ">=1.9,<99"])
def test_versions_are_compared_as_versions_not_as_text(monkeypatch, wanted):
    monkeypatch.setattr("cmunet_monai.check.run.version", lambda name: "1.26.4")
    assert list(check_packages({"required_packages_version": {"numpy": wanted}})) == []


@pytest.mark.parametrize("wanted", ["1.100", "2.0", "<1.9"])
def test_too_old_or_too_new_package_is_named_with_both_versions(monkeypatch, wanted):
    monkeypatch.setattr("cmunet_monai.check.run.version", lambda name: "1.26.4")
    assert list(check_packages({"required_packages_version": {"numpy": wanted}})) == [
        f"package `numpy` is 1.26.4, but {wanted} is needed"
    ]


def test_missing_and_unreadable_packages_are_named():
    metadata = {"required_packages_version": {"no-such-package": "2.0", "numpy": "new"}}
    assert list(check_packages(metadata)) == [
        "package `no-such-package` is not installed (version 2.0 is needed)",
        "metadata: package `numpy` asks for 'new', which is no version",
    ]


def test_local_build_of_a_version_is_that_version(monkeypatch):
    monkeypatch.setattr("cmunet_monai.check.run.version", lambda name: "2.13.0+cpu")
    assert list(check_packages({"required_packages_version": {"torch": "2.13.0"}})) == []
