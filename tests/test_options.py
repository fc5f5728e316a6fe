"""Errors name what the user typed."""

import argparse
import json
from pathlib import Path

import pytest

from cmunet_monai.__main__ import main
from cmunet_monai.networks import UNet, save_unet_weights
from cmunet_monai.options import options_named
from data_prep.__main__ import main as prepare


@pytest.fixture
def parser():
    parser = argparse.ArgumentParser()
    parser.add_argument("-i", "--input", dest="source")
    parser.add_argument("--spacing-mm", dest="spacing_mm")
    parser.add_argument("--frames", nargs="+")
    parser.add_argument("table", nargs="?")
    return parser


@pytest.mark.parametrize("kind", [ValueError, OSError, RuntimeError])
def test_the_option_stands_in_place_of_the_argument(parser, kind):
    with pytest.raises(kind) as raised, options_named(parser, {}):
        raise kind("`spacing_mm` of `source` and `x`")
    assert str(raised.value) == "`--spacing-mm` of `--input` and `x`"


def test_an_error_without_names_is_left_as_it_is(parser):
    with pytest.raises(FileNotFoundError) as raised, options_named(parser, {"source": Path("b.png"), "table": "a.png"}):
        raise FileNotFoundError(2, "No such file", "a.png")
    assert raised.value.filename == "a.png"


@pytest.mark.parametrize(
    "text, expected",
    [
        ("no file at /x/y.png", "no file at /x/y.png (--input)"),
        ("it must end in .nii, got y.png", "it must end in .nii, got y.png (--input)"),
        ("no file at /x/y.png/z or /w/x/y.png", None),
        ("all frames were passed over", None),
        ("'all' is not among them", "'all' is not among them (--frames)"),
        ("/x/y.png: give --frames", None),
        ("the table t.csv is cut", None),
    ],
)
def test_an_error_that_quotes_what_was_given_names_its_option(parser, text, expected):
    given = vars(parser.parse_args(["t.csv", "--input", "/x/y.png", "--frames", "all"]))
    with pytest.raises(ValueError) as raised, options_named(parser, given):  # noqa: PT011 (the text is compared below)
        raise ValueError(text)
    assert str(raised.value) == (expected or text)


STUDY = {"output_dir": "out", "bundle_root": "b", "datalist": "d.json", "draws": {}, "methods": {}}


@pytest.mark.parametrize(
    "words, option",
    [
        ("predict -i a.png -o out --spacing-mm 7", "`--spacing-mm`"),
        ("predict -i a.png -o out --frames 1 1", "`--frames`"),
        ("predict -i nothing.png -o out", "--input"),
        ("predict -i a.png -o out --bundle no/bundle", "--bundle"),
        ("label --studies a.png --token-file no/token", "--token-file"),
        ("study study.json --shard one", "--shard"),
        ("package bundle --output x.tar", "--output"),
        ("package --new-key key.txt", "--new-key"),
        ("package --new-key no/folder/key.pem", "--new-key"),
        ("verify a.png --key no/key.pem", "--key"),
    ],
)
def test_a_verb_names_the_option_that_cannot_be(words, option, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("a.png").touch()
    Path("study.json").write_text(json.dumps(STUDY))
    assert main(words.split()) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ")
    assert option in error


@pytest.mark.parametrize(
    "words, option",
    [
        ("dicom --source no/export --output out", "--input"),
        ("dicom --source . --output out --spacing-mm 7", "`--spacing-mm`"),
        ("deidentify --source . --output out --reviewed no/list.txt", "--reviewed"),
        ("split --datalist no/list.json --finetune-images 12 --output out", "--datalist"),
        ("synthesize --cine --frames 1 --output out", "--frames"),
        ("arcade --source no/arcade --output out", "--input"),
        ("trees --trees 0 --output out", "--trees"),
    ],
)
def test_a_verb_of_data_prep_names_the_option_that_cannot_be(words, option, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("a.png").touch()
    assert prepare(words.split()) == 2
    assert option in capsys.readouterr().err.splitlines()[-1]


def test_convert_names_the_option_of_the_file_that_it_cannot_write(tmp_path, monkeypatch, capsys):
    def convert(source, path):
        save_unet_weights(UNet(channels=(4, 8)), path)

    monkeypatch.setattr("cmunet_monai.networks.convert.convert_reference_weights", convert)
    assert main(["convert", "x.pth", "--output", str(tmp_path / "x.pt")]) == 2
    assert "`--output` must end in .safetensors, got x.pt" in capsys.readouterr().err
