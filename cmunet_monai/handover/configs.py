"""Configs of a package: those of this release, set to the network of the weights, and nothing else.

A config is code: `$` strings are evaluated, `_target_` names what is called, and what an allowed component does depends
on its arguments. So no list of names or packages is a barrier (`torch.utils.collect_env.run` runs a shell), and nor is
one of allowed expressions, since references and macros move text about. A package's config must be, byte for byte, what
`package` makes of this release's config with the package's own `channels` and `image_size`, which are numbers.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cmunet_monai.handover.refused import Refused, quoted
from cmunet_monai.handover.release import BundleFiles
from cmunet_monai.handover.strict_json import read_json

MIN_SIDE, MAX_SIDE = 16, 4096
MAX_VALUES = 2**28  # in the largest array between two layers: 2048 x 2048 pixels of 64 channels, 1 GiB
MAX_DIFFERENCES = 8
_NUMBERS = re.compile(r"\[\n +(-?\d[-+\d.e, \n]*?)\n *\]")  # a list of numbers; texts have no line breaks in JSON


@dataclass(frozen=True)
class Network:
    """What configs say of a network.

    Attributes:
        channels: of each stage.
        image_size: (H, W) of its input in pixels.
    """

    channels: tuple[int, ...]
    image_size: tuple[int, int]


def config_texts(bundle: BundleFiles, network: Network) -> dict[str, bytes]:
    """The config files of a package, name -> content, metadata left out.

    A config that runs is set to `network`. An overlay that states another network is left out: with it, nothing would
    fit the weights.
    """
    settings = {"channels": list(network.channels), "image_size": list(network.image_size)}
    texts = {}
    for name, config in bundle.configs.items():
        own = {key: settings[key] for key in settings if key in config}
        if "run" in config or all(config[key] == value for key, value in own.items()):
            texts[name] = json_text(config | own)
    return texts


def metadata_text(bundle: BundleFiles, network: Network, eval_metrics: Mapping[str, Any]) -> bytes:
    """The metadata of a package: the release's, with the image size of the network and what was measured."""
    metadata = json.loads(json.dumps(bundle.metadata))
    for tensors in metadata["network_data_format"].values():
        for tensor in tensors.values():
            tensor["spatial_shape"] = list(network.image_size)
    return json_text(metadata | {"eval_metrics": dict(eval_metrics)})


def json_text(content: Any) -> bytes:
    """JSON as a package holds it: indented, lists of numbers on one line."""
    text = json.dumps(content, indent=4, ensure_ascii=False)
    return (_NUMBERS.sub(lambda match: "[" + re.sub(r",\s+", ", ", match[1]) + "]", text) + "\n").encode("utf-8")


def image_size_of(value: Any) -> tuple[int, int]:
    """(H, W) from JSON.

    Raises:
        Refused: unless it is two whole numbers within MIN_SIDE and MAX_SIDE.
    """
    good = isinstance(value, list) and len(value) == 2 and all(type(side) is int for side in value)
    if not good or not all(MIN_SIDE <= side <= MAX_SIDE for side in value):
        raise Refused(f"`image_size` must be two whole numbers from {MIN_SIDE} to {MAX_SIDE}, got {quoted(value)}")
    return (value[0], value[1])


def check_extent(network: Network) -> None:
    """Hold the product of channels and image size to what a test frame can be run with.

    Raises:
        Refused: where an array between two layers would be larger than MAX_VALUES.
    """
    pixels = network.image_size[0] * network.image_size[1]
    values = max(pixels // 4**stage * channels for stage, channels in enumerate(network.channels))
    if values > MAX_VALUES:
        raise Refused(
            f"`channels` {list(network.channels)} with `image_size` {list(network.image_size)} need arrays of {values} "
            f"values, where {MAX_VALUES} are allowed: a smaller image size, or fewer channels"
        )


def eval_metrics_of(value: Any) -> dict[str, float | int | None]:
    """Measured values from JSON.

    Raises:
        Refused: unless they are at most 100 numbers by plain names.
    """
    good = isinstance(value, dict) and len(value) <= 100
    for name, number in value.items() if good else ():
        good = good and bool(re.fullmatch(r"[a-z][a-z0-9_]{0,60}", name)) and type(number) in (int, float, type(None))
    if not good:
        raise Refused(f"`eval_metrics` must be numbers by plain names, got {quoted(value)}")
    return dict(value)


# Holding a package to it ----------------------------------------------------------------------------------------------


def check_configs(bundle: BundleFiles, files: Mapping[str, bytes], network: Network) -> Iterator[str]:
    """Say how configs (name -> content, metadata left out) differ from what `package` writes for `network`."""
    expected = config_texts(bundle, network)
    for name in sorted(files.keys() | expected.keys()):
        where = f"configs/{name}"
        if name not in files:
            yield f"{where}: missing"
        elif name not in expected:
            known = name in bundle.configs
            yield f"{where}: " + ("its network is not that of the weights" if known else "not a config of this release")
        else:
            yield from differences(where, files[name], expected[name])


def differences(where: str, got: bytes, expected: bytes) -> Iterator[str]:
    """Say where one JSON file differs from what it must be; nothing only where its bytes are the same."""
    if got == expected:
        return
    try:
        content = read_json(got)
    except Refused as error:
        yield f"{where}: {error}"
        return
    found = list(_compare((), json.loads(expected), content))
    for text in found[:MAX_DIFFERENCES]:
        yield f"{where}: {text}"
    if len(found) > MAX_DIFFERENCES:
        yield f"{where}: and {len(found) - MAX_DIFFERENCES} more differences from this release's"
    if not found:
        yield f"{where}: the content of this release's, but not written as `package` writes it"


def _compare(path: Sequence[str], expected: Any, got: Any) -> Iterator[str]:
    shown = f"`{'#'.join(path)}`" if path else "the file"
    if type(got) is not type(expected):
        yield _changed(path, shown, expected, got)
    elif isinstance(expected, dict):
        for key in got.keys() - expected.keys():
            yield f"key {quoted('#'.join([*path, key]))} = {quoted(got[key])} is not in this release's" + _why(got[key])
        for key, value in expected.items():
            if key in got:
                yield from _compare((*path, key), value, got[key])
            else:
                yield f"key `{'#'.join([*path, key])}` is missing"
        if list(got) != list(expected) and got.keys() == expected.keys():
            yield f"{shown}: its keys are in another order"
    elif isinstance(expected, list):
        for index, (one, other) in enumerate(zip(expected, got, strict=False)):
            yield from _compare((*path, str(index)), one, other)
        if len(got) != len(expected):
            more = "".join(f"; more: {quoted(item)}{_why(item)}" for item in got[len(expected) :][:3])
            yield f"{shown} has {len(got)} items, where this release's has {len(expected)}{more}"
    elif got != expected:
        yield _changed(path, shown, expected, got)


def _changed(path: Sequence[str], shown: str, expected: Any, got: Any) -> str:
    return f"{shown} is {quoted(got)}, where this release has {quoted(expected)}{_why(got, *path[-1:])}"


def _why(value: Any, key: str = "") -> str:
    """What a value would do."""
    if key == "_target_" or (isinstance(value, dict) and "_target_" in value):
        return " (`_target_` calls what it names)"
    if isinstance(value, str) and value[:1] in ("$", "@", "%"):
        does = {"$": "is run as Python", "@": "refers to something else", "%": "takes in another file or place"}
        return f" (a text with {value[0]} in front {does[value[0]]})"
    return ""
