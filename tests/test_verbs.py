"""What all verbs share on the command line."""

import re
import subprocess
import sys

import pytest

from cmunet_monai.__main__ import main
from cmunet_monai.verbs import DATA_PREP_VERBS, VERBS

# Verbs whose arguments are another program's
FOREIGN = ("check",)
# one spelling of what several verbs have
SHORT = {"--input": "-i", "--output": "-o"}


@pytest.fixture(scope="module")
def shown():
    """The help of a verb, as a process of its own shows it."""
    texts = {}

    def show(verb, package="cmunet_monai"):
        if (verb, package) not in texts:
            done = subprocess.run([sys.executable, "-m", package, verb, "--help"], capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
            texts[verb, package] = done.stdout
        return texts[verb, package]

    return show


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_every_verb_has_one_form(verb, shown):
    usage, sentence, *rest = shown(verb).split("\n\n")
    summary = VERBS[verb].summary
    assert usage.startswith(f"usage: python -m cmunet_monai {verb} ")
    assert sentence == f"{summary[0].upper()}{summary[1:]}."
    assert verb in FOREIGN or any(part.startswith(("options:", "positional arguments:")) for part in rest)


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb not in FOREIGN])
def test_options_are_spelled_alike(verb, shown):
    for names in re.findall(r"^  (-.*?)(?:  |$)", shown(verb), re.MULTILINE):
        spellings = re.findall(r"(?:^|, )(--?[\w-]+)", names)
        assert not {"--source", "--studies"} & set(spellings) or spellings[-1] == "--input"
        for long, short in SHORT.items():
            assert (long in spellings) == (short in spellings), names


@pytest.mark.parametrize("verb", DATA_PREP_VERBS)
def test_both_programs_say_the_same_of_the_verbs_of_data_prep(verb, shown):
    own = shown(verb, "data_prep")
    assert own.startswith(f"usage: python -m data_prep {verb} ")
    assert _words_behind(own, verb) == _words_behind(shown(verb), verb)


def _words_behind(text, verb):
    return text.partition(f" {verb} ")[2].split()


@pytest.mark.parametrize(
    "name, expected",
    [
        ("/usr/bin/cmunet", "cmunet"),
        ("cmunet.exe", "cmunet"),
        ("/site/cmunet_monai/__main__.py", "python -m cmunet_monai"),
        ("pytest", "python -m cmunet_monai"),
    ],
)
@pytest.mark.parametrize("verb", ["predict", "trees"])
def test_help_names_the_program_as_it_was_called(monkeypatch, verb, name, expected, capsys):
    monkeypatch.setattr(sys, "argv", [name, verb, "--help"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: {expected} {verb} ")


def test_help_lists_all_verbs_and_exit_codes_without_importing_monai_or_data_prep():
    program = (
        "import sys\nfrom cmunet_monai.__main__ import main\nmain(['--help'])\n"
        "assert not {'monai', 'numpy', 'data_prep'} & set(sys.modules)"
    )
    text = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    for verb in VERBS:
        assert f"\n  {verb} " in text
    assert re.findall(r"^  (\d+) ", text, re.MULTILINE) == ["0", "1", "2", "3", "130"]


def test_nothing_asked_for_shows_the_help_as_an_error(capsys):
    assert main([]) == 2
    assert capsys.readouterr().err.startswith("usage: ")


@pytest.mark.parametrize(
    "word, nearest", [("predct", "predict"), ("chekc", "check"), ("bundle", "bundles"), ("synthesise", "synthesize")]
)
def test_an_unknown_verb_is_an_error_that_names_the_nearest(word, nearest, capsys):
    assert main([word]) == 2
    assert capsys.readouterr().err == f"error: there is no verb `{word}`; did you mean `{nearest}`?\n"


def test_a_verb_like_none_is_an_error_that_lists_them(capsys):
    assert main(["qqq"]) == 2
    assert capsys.readouterr().err == f"error: there is no verb `qqq`; there are {', '.join(VERBS)}\n"


@pytest.mark.parametrize("words", [["predict"], ["split"], ["verify"], ["predict", "-i", "a", "-o", "b", "--treshold"]])
def test_a_mistake_in_the_arguments_ends_as_an_error_with_code_2(words, capsys):
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: ")


def test_the_old_spelling_of_an_option_is_taken(tmp_path, capsys):
    for spelling in ("-i", "--source", "--input"):
        assert main(["arcade", spelling, str(tmp_path / "none"), "-o", str(tmp_path / "out")]) == 2
        assert str(tmp_path / "none") in capsys.readouterr().err
