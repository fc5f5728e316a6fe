"""Weights of a package: safetensors of a whole segmentation UNet, whose header follows from its channels.

A safetensors file is a header (names, types, shapes, places, as JSON) and numbers. Of the header, the number of stages
and their channels are read; it must be, byte for byte, what `save_unet_weights` writes for that network.

Source: https://github.com/huggingface/safetensors#format.
"""

import json
import struct

from cmunet_monai.handover.refused import Refused, quoted
from cmunet_monai.handover.strict_json import difference, read_json

MAX_STAGES, MAX_CHANNELS = 8, 4096
MAX_HEADER = 2**20
PARTS = ["encoder", "decoder", "head"]


def read_channels(head: bytes, size: int) -> tuple[int, ...]:
    """The channels of the network whose weights a file holds.

    Args:
        head: the beginning of the file, MAX_HEADER bytes where it is as long.
        size: of the file in bytes.
    Raises:
        Refused: unless it is a safetensors file of all weights of such a `UNet` (1 channel in, 2 out) and nothing else.
    """
    (length,) = struct.unpack_from("<Q", head.ljust(8, b"\xff"))
    header = head[8 : 8 + length]
    if len(header) < length:
        raise Refused(f"not safetensors, or damaged: a header of {length} bytes in a file of {size}")
    try:
        content = read_json(header)
    except Refused as error:
        raise Refused(f"not safetensors, or damaged: its header is {error}") from None
    channels: list[int] = []
    try:
        while (name := f"encoder.stages.{len(channels)}.0.weight") in content and len(channels) <= MAX_STAGES:
            channels.append(content[name]["shape"][0])
    except (TypeError, LookupError):
        channels = []
    if not 2 <= len(channels) <= MAX_STAGES or not all(type(n) is int and 0 < n <= MAX_CHANNELS for n in channels):
        raise Refused(
            f"not the weights of a UNet of 2 to {MAX_STAGES} stages of at most {MAX_CHANNELS} channels: it holds "
            f"{quoted(list(content)[:3])}"
        )
    expected, end = weights_header(channels)
    what = f"the trained segmentation UNet of channels {channels}"
    lacking, more = sorted(json.loads(expected).keys() - content), sorted(content.keys() - json.loads(expected))
    if lacking or more:
        raise Refused(f"not the weights of {what}: {quoted(lacking[:3])} missing, {quoted(more[:3])} beside them")
    if header != expected:
        raise Refused(f"its header is not that of {what}: {difference(header, expected)}")
    if size != 8 + length + end:
        raise Refused(f"{size} bytes, where {what} takes {8 + length + end}")
    return tuple(channels)


def weights_header(channels: list[int]) -> tuple[bytes, int]:
    """The header that safetensors writes for a `UNet`, and how many bytes of numbers follow it."""
    import torch

    from cmunet_monai.networks import UNet

    with torch.device("meta"):  # shapes without memory
        state = UNet(in_channels=1, out_channels=2, channels=channels).state_dict()
    names = {torch.int64: "I64", torch.float32: "F32"}  # in the order in which they are written
    tensors, end = {}, 0
    for name in sorted(state, key=lambda name: (list(names).index(state[name].dtype), name)):
        value, start = state[name], end
        end += value.nbytes
        tensors[name] = {"dtype": names[value.dtype], "shape": list(value.shape), "data_offsets": [start, end]}
    text = json.dumps(tensors, separators=(",", ":")).encode()
    return text.ljust(-(-len(text) // 8) * 8), end
