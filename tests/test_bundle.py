"""Values reach a bundle literally."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from cmunet_monai import bundle as bundle_module
from cmunet_monai.bundle import Config, config_parser, literal, load_workflow, run_command

# What MONAI evaluates, follows, rewrites, or takes for a number, a list or nothing
TEXTS = (
    *("$1 + 1", "$open('EVALUATED', 'w').close() or 'x'", "$(x)", "$import os", "@study", "@", "@#other", "@::other"),
    *("%study", "%a.json::b", "Study #1", "a#b::c", "#", "2024", "1e3", "my,data", "['a', 'b']", "{'a': 1}", "True"),
    *(
        "None",
        "null",
        "-x",
        "--weights",
        "a=b",
        "it's",
        'a "quoted" one',
        "back\\slash",
        "\\x40",
        "new\nline",
        " a ",
        "",
    ),
    *("caf\udce9", "über", "__local_refs['other']", "Study #1 $(x) @y %z"),
)


@pytest.fixture
def config(tmp_path):
    """A config that takes a value, uses it in an expression, and gives both to a component that writes them down."""
    (tmp_path / "configs").mkdir()
    path = tmp_path / "configs" / "inference.json"
    content = {
        "value": "default",
        "number": 1,
        "other": "taken",
        "study": "taken",
        "longer": "$@value + '/end'",
        "out": "out.txt",
        "run": ["$open(@out, 'w').write(ascii([@value, @longer, @number]))"],
    }
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_comes_out_of_a_config_as_it_went_in(config, text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    parser = config_parser([config], {"value": text})
    assert parser.get_parsed_content("value") == text
    assert parser.get_parsed_content("longer") == f"{text}/end"
    assert not (tmp_path / "EVALUATED").exists()


def test_every_text_survives_the_command_line_of_monai(config, tmp_path):
    """In one process: the command of each text is read as MONAI reads it, and its config resolved."""
    code = (
        "import json, sys, fire, torch\n"
        "from monai.bundle import ConfigParser\n"
        "found = []\n"
        "def take(config_file=None, **options):\n"
        "    parser = ConfigParser()\n"
        "    parser.read_config(config_file)\n"
        "    parser.update(options)\n"
        "    found.append([parser.get_parsed_content('value'), parser.get_parsed_content('longer')])\n"
        "for words in json.load(sys.stdin):\n"
        "    fire.Fire(take, command=words)\n"
        "print(json.dumps(found))\n"
    )
    commands = [run_command([config], {"value": text})[4:] for text in TEXTS]
    done = subprocess.run([sys.executable, "-c", code], input=json.dumps(commands), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == [[text, f"{text}/end"] for text in TEXTS]


@pytest.mark.parametrize("name", ["Study #1 $(x) @y %z", "$open('EVALUATED', 'w')", "2024", "my,data", "@value"])
def test_a_config_in_a_folder_of_any_name_runs_in_this_process_and_in_another(config, name, tmp_path):
    folder = tmp_path / name
    folder.mkdir()
    config = config.rename(folder / "inference.json")
    options = {"value": Path(name), "out": folder / "here.txt"}
    load_workflow(config, workflow_type="infer", options=options).run()
    subprocess.run(
        run_command([config], options | {"out": folder / "there.txt"}), check=True, capture_output=True, cwd=tmp_path
    )
    for file in ("here.txt", "there.txt"):
        assert ast.literal_eval((folder / file).read_text()) == [name, f"{name}/end", 1]
    assert not (tmp_path / "EVALUATED").exists()


@pytest.mark.parametrize("value", [3, 0.5, True, None, torch.device("cpu"), Path("a @b")])
def test_what_is_no_text_is_what_it_is_and_a_path_is_its_text(config, value):
    expected = str(value) if isinstance(value, Path) else value
    assert config_parser([config], {"value": value}).get_parsed_content("value") == expected


def test_lists_and_dictionaries_hold_texts_and_no_components(config):
    rows = [{"image": "a #1.png", "_target_": "os.getcwd", "spacing_mm": None, "size": [2, 0.5]}, {"image": "$1"}]
    assert config_parser([config], {"value": rows}).get_parsed_content("value") == rows


@pytest.mark.parametrize("value", [[float("nan")], {"device": torch.device("cpu")}, [Config("$1")]])
def test_what_has_no_literal_is_refused(value):
    with pytest.raises(ValueError, match="only texts, numbers, true, false and null can be passed"):
        literal(value)


def test_what_is_marked_as_config_is_monais_to_read(config):
    parser = config_parser([config], {"value": Config("@other"), "number": Config("$1 + 1")})
    assert (parser.get_parsed_content("value"), parser.get_parsed_content("number")) == ("taken", 2)


def test_nothing_else_runs_or_loads_a_bundle():
    own = Path(bundle_module.__file__)
    for path in own.parent.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert path == own or not re.search(r"ConfigWorkflow\(|\"monai\.bundle\"", text), path


def test_what_is_none_is_left_to_the_config_of_a_command():
    words = run_command(["a.json"], {"value": None, "number": 2})
    assert words[3:] == ["run", "--config_file", "['a.json']", "--number", "2"]
