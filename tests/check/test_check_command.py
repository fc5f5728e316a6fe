import subprocess
import sys

import pytest

from cmunet_monai.__main__ import DATA_PREP_VERBS, VERBS, main


def test_sound_run_exits_with_0_and_one_line(bundle, capsys):
    assert main(["check", *bundle.write()]) == 0
    captured = capsys.readouterr()
    assert captured.out == "train.json: ready to run (10 components, 1 override(s), rows: training 2)\n"


def test_each_mistake_has_a_line_of_its_own_and_the_exit_code_is_2(bundle, capsys):
    assert main(["check", *bundle.write(), "--max_epoch", "1", "--seeed", "2"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(":")[:2] for line in lines[:2]] == [["error", " --max_epoch"], ["error", " --seeed"]]
    assert lines[2] == "train.json: 2 problem(s), not ready to run"


def test_command_line_without_config_is_an_error_without_traceback(capsys):
    assert main(["check", "--max_epochs", "1"]) == 2
    assert capsys.readouterr().err.startswith("error: no config file is given")


def test_unknown_verb_is_an_error_that_lists_the_verbs(capsys):
    assert main(["chekc"]) == 2
    assert capsys.readouterr().err == f"error: there is no verb `chekc`; there are {', '.join(VERBS)}\n"


def test_help_lists_the_verbs_of_both_packages_without_importing_monai():
    program = "import sys\nfrom cmunet_monai.__main__ import main\nmain(['--help'])\nassert 'monai' not in sys.modules"
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    for verb in [*VERBS, *DATA_PREP_VERBS]:
        assert f"\n  {verb} " in shown


@pytest.mark.parametrize("verb", DATA_PREP_VERBS)
def test_verbs_named_of_data_prep_are_there(verb):
    shown = subprocess.run([sys.executable, "-m", "data_prep", verb, "--help"], capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(verb):
    shown = subprocess.run([sys.executable, "-m", "cmunet_monai", verb, "--help"], capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.startswith(f"usage: python -m cmunet_monai {verb}")
