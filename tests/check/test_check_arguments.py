import json
import shlex

import pytest

from cmunet_monai.check import parse_arguments


def test_arguments_are_read_as_monai_reads_them():
    arguments = parse_arguments(
        shlex.split(
            "training --bundle_root B --config_file \"['a.json','b.json']\" --train#trainer#max-epochs=3 "
            "--roi [64,64] --meta_file m.json --amp"
        )
    )
    assert arguments.config_files == ("a.json", "b.json")
    assert arguments.overrides == {"bundle_root": "B", "train#trainer#max_epochs": 3, "roi": [64, 64], "amp": True}
    assert arguments.settings == {"run_id": "training", "meta_file": "m.json"}
    assert arguments.problems == ()


def test_one_config_file_needs_no_list():
    assert parse_arguments(["--config_file", "configs/train.json"]).config_files == ("configs/train.json",)


def test_bare_config_files_are_merged_in_order():
    arguments = parse_arguments(["train.json", "compact.json", "--max_epochs", "1"])
    assert arguments.config_files == ("train.json", "compact.json")
    assert arguments.overrides == {"max_epochs": 1}
    assert arguments.settings == {}


def test_repeated_config_file_is_merged_and_reported_because_run_keeps_the_last_only():
    arguments = parse_arguments(["--config_file", "a.json", "--config_file=b.json", "--x", "1"])
    assert arguments.config_files == ("a.json", "b.json")
    assert len(arguments.problems) == 1
    assert "--config_file is given 2 times" in arguments.problems[0]


def test_repeated_override_is_reported():
    (problem,) = parse_arguments(["--config_file", "a.json", "--x", "1", "--x", "2"]).problems
    assert problem == "--x is given 2 times: `run` keeps the last one only"


def test_comma_separated_files_are_reported_because_run_does_not_merge_them():
    arguments = parse_arguments(["--config_file", "configs/a.json,configs/b.json"])
    assert arguments.config_files == ("configs/a.json", "configs/b.json")
    assert "is not merged by `run`" in arguments.problems[0]


def test_override_with_none_is_reported_because_run_drops_it():
    arguments = parse_arguments(["--config_file", "a.json", "--weights", "None"])
    assert arguments.overrides == {}
    assert arguments.problems == ("--weights None: `run` drops it and keeps what the config says",)


def test_args_file_gives_defaults_that_the_command_line_overrides(tmp_path):
    args_file = tmp_path / "args.json"
    args_file.write_text(json.dumps({"config_file": "a.json", "max_epochs": 5, "seed": 1}))
    arguments = parse_arguments(["--args_file", str(args_file), "--seed", "2"])
    assert arguments.config_files == ("a.json",)
    assert arguments.overrides == {"max_epochs": 5, "seed": 2}


def test_no_config_file_is_an_error():
    with pytest.raises(ValueError, match="no config file is given"):
        parse_arguments(["--max_epochs", "1"])


def test_unreadable_args_file_is_an_error_that_names_it():
    with pytest.raises(ValueError, match=r"nowhere\.json"):
        parse_arguments(["--args_file", "nowhere.json"])
