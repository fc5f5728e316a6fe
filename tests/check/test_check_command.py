from cmunet_monai.__main__ import main


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
