"""The check says what MONAI's own command line would make of a value."""

import re
import shlex

import pytest

from cmunet_monai.check import check_run, parse_arguments

MISREAD = {
    "Study #1": "would be read as `Study`",
    "Study-#1": "would be read as `Study-::1`",
    "$(x)": "is a file or folder here, but would be run as Python",
    "@study": "is a file or folder here, but would be taken for a reference",
    "%study": "is a file or folder here, but would be replaced by another piece of config",
    "2024": "is read as a number",
    "1e3": "is read as a number",
    "my,data": "is read as a list",
    "True": "is read as true or false",
}


@pytest.mark.parametrize("name", MISREAD)
def test_a_folder_whose_name_monai_misreads_is_named_with_the_right_way_to_write_it(
    bundle, name, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    words = [*bundle.write(), "--dataset_dir"]
    (tmp_path / "data").rename(tmp_path / name)
    problems = bundle_problems([*words, name])
    (problem,) = [text for text in problems if MISREAD[name] in text]
    (advised,) = shlex.split(re.search(r"write (?:--dataset_dir )?(.*)$", problem)[1])
    assert bundle_problems([*words, advised]) == []


def bundle_problems(words):
    return list(check_run(parse_arguments(words)).problems)


@pytest.mark.parametrize(
    "words",
    [
        ("--device", "$torch.device('cpu')"),
        ("--learning_rate", "0.5"),
        ("--max_epochs", "$1 + 1"),
        ("--weights", "@bundle_root"),
    ],
)
def test_expressions_references_and_numbers_where_they_belong_are_no_mistake(bundle, words):
    assert not [text for text in bundle.problems(*words) if "as a text, write" in text]
