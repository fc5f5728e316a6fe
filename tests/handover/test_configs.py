import json

import pytest

from cmunet_monai.handover.configs import Network, checked_network, config_texts
from cmunet_monai.handover.refused import Refused
from cmunet_monai.handover.release import BundleFiles
from cmunet_monai.handover.strict_json import difference, json_text

SMALL = {"_desc_": "overlay", "channels": [4, 8], "image_size": [32, 32], "batch_size": 2}
FILES = BundleFiles(
    configs={
        "train.json": {"channels": [1, 2], "image_size": [16, 16], "seed": 0, "run": ["$1"]},
        "small.json": SMALL,
        "gpus.json": {"device": "$2"},
    },
    metadata={},
    digests={},
)


def test_config_that_runs_is_set_to_the_network_and_nothing_else_changes():
    text = config_texts(FILES, Network((16, 32, 64), (128, 96)))["train.json"]
    assert json.loads(text) == {"channels": [16, 32, 64], "image_size": [128, 96], "seed": 0, "run": ["$1"]}


@pytest.mark.parametrize(
    "network, kept",
    [(Network((4, 8), (32, 32)), True), (Network((4, 8), (64, 32)), False), (Network((4, 16), (32, 32)), False)],
)
def test_overlay_is_kept_where_it_states_the_network_of_the_weights(network, kept):
    names = {"train.json", "gpus.json"} | ({"small.json"} if kept else set())
    assert config_texts(FILES, network).keys() == names


def test_lists_of_numbers_stand_on_one_line_and_texts_stay():
    content = {"a": [1, -2.5, 3e-7], "b": ["[\n    1,\n    2\n]", "[ 1, 2 ]", []], "c": [[1, 2], [True, None]]}
    text = json_text(content).decode()
    assert json.loads(text) == content
    assert '"a": [1, -2.5, 3e-07]' in text
    assert "        [1, 2],\n        [\n" in text


def test_difference_names_the_line_and_what_stands_there():
    expected = json_text({"a": {"b": [1, "$x"]}})
    for got, reason in (
        ({"a": {"b": [1, "$y"]}}, """line 5 is '"$y"', where `package` writes '"$x"'"""),
        ({"a": {"b": [1]}}, """line 3 is '"b": [1]', where `package` writes '"b": ['"""),
        ({"a": 1}, """line 2 is '"a": 1', where `package` writes '"a": {'"""),
        ({"a": {"b": [1, "$x"]}, "c": 0}, """line 8 is '"c": 0', where `package` writes '}'"""),
        ({}, """line 1 is '{}', where `package` writes '{'"""),
    ):
        assert difference(json_text(got), expected) == reason


def test_difference_of_other_texts_is_of_their_lines_as_they_stand():
    assert difference(b"a\nb,\n", b"a\nb\n") == "line 2 is 'b,', where `package` writes 'b'"
    assert difference(b"a\n", b"a") == "line 2 is '', where `package` writes missing"
    assert difference(b"a\r\nb", b"a\nb") == "line 1 is 'a\\r', where `package` writes 'a'"


def test_text_of_a_package_is_printed_as_plain_ascii_of_limited_length():
    evil = "\x1b[2J\u202e" + "x" * 10_000
    found = difference(json_text({"a": evil}), json_text({"a": ""}))
    assert found.isascii()
    assert found.isprintable()
    assert len(found) < 500


@pytest.mark.parametrize(
    "channels, size, good",
    [
        ((64, 128, 256, 512, 1024), (2048, 2048), True),  # 2^28 values in the first stage
        ((64, 128, 256, 512, 1024), (2048, 2049), False),
        ((64, 128, 256, 512, 1024), (4096, 4096), False),
        ((16, 32, 64, 128, 256), (4096, 4096), True),
        ((1, 2, 4096), (2048, 2048), False),  # 2^30 in the last
        ((1, 2, 1024), (2048, 2048), True),
    ],
)
def test_channels_and_image_size_are_bounded_together(channels, size, good):
    if good:
        assert checked_network(channels, list(size)) == Network(channels, size)
    else:
        with pytest.raises(Refused, match="where 268435456 are allowed"):
            checked_network(channels, list(size))
