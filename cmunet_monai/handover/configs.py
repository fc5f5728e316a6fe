"""Configs of a package: those of this release, set to the network of the weights, and nothing else.

A config is code: `$` strings are evaluated, `_target_` names what is called, and what an allowed component does depends
on its arguments. So no list of names or packages is a barrier (`torch.utils.collect_env.run` runs a shell), and nor is
one of allowed expressions, since references and macros move text about. A package's config must be, byte for byte, what
`package` makes of this release's config with the package's own `channels` and `image_size`, which are numbers.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cmunet_monai.handover.refused import Refused, quoted
from cmunet_monai.handover.release import BundleFiles
from cmunet_monai.handover.strict_json import json_text

MIN_SIDE, MAX_SIDE = 16, 4096
MAX_VALUES = 2**28  # in the largest array between two layers: 2048 x 2048 pixels of 64 channels, 1 GiB


@dataclass(frozen=True)
class Network:
    """What configs say of a network: the channels of each stage, and (H, W) of its input in pixels."""

    channels: tuple[int, ...]
    image_size: tuple[int, int]


def checked_network(channels: Sequence[int], image_size: Any) -> Network:
    """A network that a test frame can be run with.

    Args:
        channels: of each stage.
        image_size: (H, W), from JSON.
    Raises:
        Refused: unless the sides are whole numbers, and no array between two layers is larger than MAX_VALUES.
    """
    good = isinstance(image_size, list) and len(image_size) == 2 and all(type(side) is int for side in image_size)
    if not good or not all(MIN_SIDE <= side <= MAX_SIDE for side in image_size):
        raise Refused(f"`image_size` must be two whole numbers from {MIN_SIDE} to {MAX_SIDE}, got {quoted(image_size)}")
    height, width = image_size
    values = max(height * width // 4**stage * number for stage, number in enumerate(channels))
    if values > MAX_VALUES:
        raise Refused(
            f"`channels` {list(channels)} with `image_size` {image_size} need arrays of {values} values, where "
            f"{MAX_VALUES} are allowed: a smaller image size (--image-size), or fewer channels"
        )
    return Network(tuple(channels), (height, width))


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


def plain_metrics(value: Any) -> dict[str, float | int | None]:
    """The numbers by plain names among what metadata state as measured; with anything else, they are not made again."""
    items = value.items() if isinstance(value, dict) else ()
    plain = re.compile("[a-z][a-z0-9_]{0,60}")
    return {
        name: number for name, number in items if plain.fullmatch(name) and type(number) in (int, float, type(None))
    }
