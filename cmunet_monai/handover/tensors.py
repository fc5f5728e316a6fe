"""The header of a safetensors file, read without trusting it, and the network that its tensors make.

safetensors holds numbers alone, by design; its own reader checks the header as well. This one bounds what it reads, and
reads from the middle of a zip.

Source: the format's description, https://github.com/huggingface/safetensors#format.
"""

import math
import struct
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO

from cmunet_monai.handover.refused import Refused, quoted
from cmunet_monai.handover.strict_json import read_json

MAX_HEADER = 2**20
MAX_TENSORS = 2000
MAX_STAGES, MAX_CHANNELS = 8, 4096
_BYTES = {"F32": 4, "I64": 8}  # what `save_unet_weights` writes: weights, and BatchNorm's counters
_STAGE = "encoder.stages.{}.0.weight"


def read_header(stream: BinaryIO, size: int) -> dict[str, tuple[str, tuple[int, ...]]]:
    """The header of a safetensors file of `size` bytes that begins where `stream` stands.

    Returns:
        tensor -> (dtype, shape).
    Raises:
        Refused: unless it is a header of float32 and int64 tensors that fill the rest of the file without gaps.
    """
    head = stream.read(8)
    if size < 8 or len(head) < 8:
        raise Refused("not safetensors: shorter than the length of its header")
    (length,) = struct.unpack("<Q", head)
    if length > min(MAX_HEADER, size - 8):
        raise Refused(f"not safetensors, or damaged: a header of {length} bytes in a file of {size}")
    raw = stream.read(length)
    if raw[:1] != b"{":
        raise Refused("not safetensors: its header does not begin with `{`")
    try:
        content = read_json(raw, limit=MAX_HEADER)
    except Refused as error:
        raise Refused(f"its header is refused: {error}") from None
    notes = content.pop("__metadata__", {})
    if not isinstance(notes, dict) or not all(isinstance(text, str) for text in notes.values()):
        raise Refused("its header's `__metadata__` must be texts by name")
    if not 0 < len(content) <= MAX_TENSORS:
        raise Refused(f"{len(content)} tensors, where a network has 1 to {MAX_TENSORS}")
    tensors = {name: _tensor(name, facts) for name, facts in content.items()}
    end = 0
    for name, (_, _, first, last) in sorted(tensors.items(), key=lambda item: item[1][2:]):
        if first != end:
            raise Refused(f"tensor {quoted(name)} begins at byte {first}, not at {end}: gaps or overlapping tensors")
        end = last
    if end != size - 8 - length:
        raise Refused(f"its tensors take {end} bytes, and {size - 8 - length} are there")
    return {name: (dtype, shape) for name, (dtype, shape, _, _) in tensors.items()}


def _tensor(name: str, facts: Any) -> tuple[str, tuple[int, ...], int, int]:
    shown = f"tensor {quoted(name)}"
    if not isinstance(facts, dict) or facts.keys() != {"dtype", "shape", "data_offsets"}:
        raise Refused(f"{shown} must have a dtype, a shape and offsets, got {quoted(facts)}")
    dtype, shape, offsets = facts["dtype"], facts["shape"], facts["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _BYTES:
        raise Refused(f"{shown} must be one of {', '.join(_BYTES)}, got {quoted(dtype)}")
    for numbers in (shape, offsets):
        if not isinstance(numbers, list) or len(numbers) > 8 or not all(_is_size(number) for number in numbers):
            raise Refused(f"{shown}: not a list of sizes: {quoted(numbers)}")
    if len(offsets) != 2 or offsets[1] - offsets[0] != math.prod(shape) * _BYTES[dtype]:
        raise Refused(f"{shown}: shape {shape} and offsets {offsets} do not agree")
    return dtype, tuple(shape), offsets[0], offsets[1]


def _is_size(number: Any) -> bool:
    return type(number) is int and 0 <= number < 2**40


def channels_of(tensors: Mapping[str, tuple[str, Sequence[int]]]) -> tuple[int, ...]:
    """The channels of the `UNet` (1 channel in, 2 out) that these tensors are all the weights of.

    Raises:
        Refused: where they are not; the first tensors that differ are named.
    """
    import torch

    from cmunet_monai.networks import UNet

    channels: list[int] = []
    while (name := _STAGE.format(len(channels))) in tensors and len(channels) <= MAX_STAGES:
        shape = tensors[name][1]
        channels.append(shape[0] if shape else 0)
    if not 2 <= len(channels) <= MAX_STAGES or not all(1 <= number <= MAX_CHANNELS for number in channels):
        raise Refused(
            f"not the weights of a UNet of 2 to {MAX_STAGES} stages of at most {MAX_CHANNELS} channels: tensors "
            f"such as {quoted(next(iter(tensors)))}"
        )
    with torch.device("meta"):  # shapes without memory
        network = UNet(in_channels=1, out_channels=2, channels=channels)
    state = network.state_dict()
    names = {torch.float32: "F32", torch.int64: "I64"}
    expected = {name: (names[value.dtype], tuple(value.shape)) for name, value in state.items()}
    missing, foreign = sorted(expected.keys() - tensors.keys()), sorted(tensors.keys() - expected.keys())
    if missing:
        hint = ": they are no trained segmentation model" if any(name.startswith("head.") for name in missing) else ""
        raise Refused(
            f"{len(missing)} tensors of the UNet of channels {channels} are missing, such as {missing[0]}{hint}"
        )
    if foreign:
        raise Refused(
            f"{len(foreign)} tensors are not of the UNet of channels {channels}, such as {quoted(foreign[0])}"
        )
    for name, value in expected.items():
        if tensors[name] != value:
            raise Refused(f"tensor {name} is {tensors[name]}, where the UNet of channels {channels} has {value}")
    return tuple(channels)
