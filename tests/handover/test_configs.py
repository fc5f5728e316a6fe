import json

import pytest

from cmunet_monai.handover.configs import Network, check_extent, config_texts, differences, json_text
from cmunet_monai.handover.refused import Refused
from cmunet_monai.handover.release import BundleFiles

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


def test_difference_names_the_place_and_what_stands_there():
    expected = json_text({"a": {"b": [1, "$x"]}})
    for got, reason in (
        ({"a": {"b": [1, "$y"]}}, "f: `a#b#1` is '$y', where this release has '$x' (a text with $ in front is run"),
        ({"a": {"b": [1]}}, "f: `a#b` has 1 items, where this release's has 2"),
        ({"a": 1}, "f: `a` is 1, where this release has {'b': [1, '$x']}"),
        ({"a": {"b": [1, "$x"]}, "c": 0}, "f: key 'c' = 0 is not in this release's"),
        ({}, "f: key `a` is missing"),
    ):
        (found,) = differences("f", json_text(got), expected)
        assert found.startswith(reason)


def test_differences_beyond_the_first_few_are_counted():
    found = list(differences("f", json_text({f"k{n}": n for n in range(50)}), json_text({})))
    assert len(found) == 9
    assert found[-1] == "f: and 42 more differences from this release's"


def test_text_of_a_package_is_printed_as_plain_ascii_of_limited_length():
    evil = "\x1b[2J\u202e" + "x" * 10_000
    (found,) = differences("f", json_text({"a": evil}), json_text({"a": ""}))
    assert found.isascii()
    assert found.isprintable()
    assert len(found) < 300


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
        check_extent(Network(channels, size))
    else:
        with pytest.raises(Refused, match="where 268435456 are allowed"):
            check_extent(Network(channels, size))
