"""Errors name what the user typed."""

import argparse

import pytest

from cmunet_monai.__main__ import main
from cmunet_monai.options import options_named


@pytest.fixture
def parser():
    parser = argparse.ArgumentParser()
    parser.add_argument("-i", "--input", dest="source")
    parser.add_argument("--spacing-mm", dest="spacing_mm")
    return parser


@pytest.mark.parametrize("kind", [ValueError, OSError, RuntimeError])
def test_the_option_stands_in_place_of_the_argument(parser, kind):
    with pytest.raises(kind) as raised, options_named(parser):
        raise kind("`spacing_mm` of `source` and `x`")
    assert str(raised.value) == "`--spacing-mm` of `--input` and `x`"


def test_an_error_without_names_is_left_as_it_is(parser):
    with pytest.raises(FileNotFoundError) as raised, options_named(parser):
        raise FileNotFoundError(2, "No such file", "a.png")
    assert raised.value.filename == "a.png"


@pytest.mark.parametrize(
    "words, option",
    [(["--spacing-mm", "7"], "`--spacing-mm`"), (["--frames", "1", "1"], "`--frames`")],
)
def test_predict_names_the_option_that_cannot_be(words, option, tmp_path, capsys):
    (tmp_path / "a.png").touch()
    assert main(["predict", "-i", str(tmp_path), "-o", str(tmp_path / "out"), *words]) == 2
    assert option in capsys.readouterr().err
