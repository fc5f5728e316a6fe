"""What the documentation takes from code and results, where it stands on the built pages."""

import importlib.util
import json
import re
from pathlib import Path

import pytest

from cmunet_monai.verbs import VERBS

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def from_code():
    specification = importlib.util.spec_from_file_location("from_code", ROOT / "docs" / "from_code.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_every_verb_has_a_section_with_its_options(from_code):
    text = "\n".join(from_code.commands())
    assert re.findall(r"^## cmunet (\w+)$", text, re.MULTILINE) == list(VERBS)
    assert "`-i`, `--input` `" in text
    assert "usage: cmunet predict" in text
    assert "Takes the arguments of `python -m monai.bundle run`" in text  # `check` has no parser


def test_option_of_a_config_stands_beside_what_overlays_make_of_it(from_code):
    text = "\n".join(from_code.config_options())
    (row,) = re.findall(r"^\| `view_size` \|.*$", text, re.MULTILINE)
    assert row == "| `view_size` | size of the views, in px | `224` | `compact.json`: `160` |"
    (row,) = re.findall(r"^\| `bank_dir` \|.*$", text, re.MULTILINE)
    assert row.endswith("| `methods/painted_arteries.json` | `$@dataset_dir + '/trees'` |")
    assert "| `network_def` |" not in text


def test_every_option_has_a_meaning_and_no_meaning_is_left_over(from_code):
    shown = re.findall(r"^\| `(\w+)` \|", "\n".join(from_code.config_options()), re.MULTILINE)
    assert set(shown) == set(json.loads((ROOT / "docs" / "reference" / "options.json").read_text()))


def test_configs_that_run_alone_have_a_section_each(from_code):
    found = re.findall(r"^### (.+)$", "\n".join(from_code.config_options()), re.MULTILINE)
    assert found == ["train.json", "evaluate.json", "inference.json", "train.json"]


def test_tables_of_results_are_those_of_the_csv(from_code):
    text = "\n".join(from_code.comparison("18", from_code.FIRST_18))
    rows = [line for line in text.splitlines() if line.startswith("| ") and "---" not in line]
    assert len(rows) == 2 * (1 + 10)
    assert rows[1].startswith("| random start, 500 epochs | 0.670 [0.648, 0.691] |")  # the best first
    first, second = (row for row in rows if row.startswith("| CM-UNet |"))
    assert first.endswith("| +0.007 [-0.003, +0.018] | 0.22 (primary) |")
    assert second == "| CM-UNet | 0.645 [0.623, 0.667] | 25.4 [22.0, 29.6] | 1.35 [1.11, 1.61] | 12.6% |"


def test_every_public_name_is_documented(from_code):
    text = "\n".join(from_code.python_api())
    for name in ("networks.UNet", "methods.PaintedArteries", "metrics.compute_all", "readers.XADicomReader"):
        assert f":: cmunet_monai.{name}\n" in text, name
    for config in sorted((ROOT / "bundles").glob("*/configs/**/*.json")):
        for target in set(re.findall(r'"_target_": "(cmunet_monai\.[\w.]+)"', config.read_text(encoding="utf-8"))):
            assert f":: {target}\n" in text, target
