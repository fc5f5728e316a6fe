"""Published checkpoints of the CM-UNet authors' UNet, and of the methods they compare, in the one checkpoint form."""

import json
import logging
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from cmunet_monai.networks.unet import UNet
from cmunet_monai.networks.weights import PARTS, file_digest, provenance, read_checkpoint, save_unet_weights

logger = logging.getLogger(__name__)

# Module of our UNet -> module of the published one, whose stages and layers are numbered alike
MODULES = {
    **{f"encoder.stages.{depth}": f"down_conv{depth + 1}.double_conv.double_conv" for depth in range(4)},
    "encoder.stages.4": "double_conv.double_conv",
    **{f"decoder.ups.{step}": f"up_conv{4 - step}.up_sample" for step in range(4)},
    **{f"decoder.stages.{step}": f"up_conv{4 - step}.double_conv.double_conv" for step in range(4)},
    "head": "conv_last",
}
# How the published names of each part begin
STARTS = {"encoder": ("down_conv", "double_conv."), "decoder": ("up_conv",), "head": ("conv_last.",)}
# Kind of checkpoint -> what stands before the names of each part that is transferred. Nothing tells the UNet of Models
# Genesis or MAE from a fine-tuned one.
KINDS = {
    "CMUNet": {"encoder": "backbone.", "decoder": "pixel_decoder."},
    "SparK": {"encoder": "sparse_encoder.sp_cnn.", "decoder": "dense_decoder."},
    "MoCoV2": {"encoder": "encoder_q."},
    "UNet": {"encoder": "", "decoder": "", "head": ""},
}
NESTING = ("state_dict", "model", "module")


@dataclass(frozen=True)
class ConversionReport:
    """What `convert_reference_weights` did, by the names in the source (without `module.` of a wrapped model).

    Attributes:
        kind: `CMUNet`, `SparK` or `MoCoV2` for a checkpoint of that pre-training, `UNet` for names without a prefix.
        channels: of the UNet's stages, from full resolution down.
        parts: of `encoder`, `decoder`, `head`, those that were written.
        converted: keys that were written.
        left_out: all else, such as momentum encoder, projector, pre-training head, optimiser.
    """

    kind: str
    channels: tuple[int, ...]
    parts: tuple[str, ...]
    converted: tuple[str, ...]
    left_out: tuple[str, ...]

    def __str__(self) -> str:
        modules = {key.split(".")[0] for key in self.converted}
        groups = Counter(
            key.rpartition(".")[0] if key.split(".")[0] in modules else key.split(".")[0] for key in self.left_out
        )
        return (
            f"{self.kind} checkpoint with channels {', '.join(map(str, self.channels))}: {len(self.converted)} keys "
            f"converted ({', '.join(self.parts)}), {len(self.left_out)} left out"
            + (f": {', '.join(f'{name} ({count})' for name, count in groups.items())}" if groups else "")
        )


def convert_reference_weights(source: str | os.PathLike[str], path: str | os.PathLike[str]) -> ConversionReport:
    """Write a published checkpoint as weights of `UNet`, by key names; the same image then gives the same logits.

    A checkpoint of a pre-training gives encoder and decoder (MoCo: encoder), as that method transfers them; a plain
    UNet gives all it has. Its head is kept, although one that reconstructs has the same names as one that segments:
    `load_unet_weights` skips it where the network has another number of classes.

    Args:
        source: `.safetensors`, or a file of `torch.save` with nothing but tensors and plain values: a state dict, also
            one of a wrapped model (`module.`) or nested under `state_dict`, `model` or `module`.
        path: `.safetensors` file to write, with a JSON sidecar. A file that is there is replaced if it was made from
            the same source. Weights become float32.
    Returns:
        What was recognised, converted and left out; logged too.
    Raises:
        OSError: if `source` is no file that can be opened.
        ValueError: if `source` is cut, holds pickled code, is of no known kind, lacks a key of the UNet, has layers
            that it does not have, or shapes that contradict it; if weights are not finite; if `path` holds
            something else, or does not end in `.safetensors`.
    Source: names of the code published with Challier et al. 2025.
    """
    source, path = Path(source), Path(path)
    kind, state, beside = _recognise(read_checkpoint(source), source)
    parts, names = _match(state, KINDS[kind], source)
    network = _fill(state, names, source)
    digest = file_digest(source)
    _refuse_other(path, digest)
    origin = {"kind": kind, "keys": len(state), "bytes": source.stat().st_size, "sha256": digest}
    method = None if kind == "UNet" else kind
    save_unet_weights(network, path, parts=parts, **provenance(None, method=method, converted_from=origin))
    converted = tuple(names.values())
    written = set(converted)
    left_out = (*(key for key in state if key not in written), *beside)
    report = ConversionReport(kind, network.channels, parts, converted, left_out)
    logger.info("%s: %s", path.name, report)
    return report


def _recognise(checkpoint: object, source: Path) -> tuple[str, dict[str, Tensor], tuple[str, ...]]:
    """Kind of a checkpoint, the state dict in it, and the names of what is beside that."""
    candidates = list(_state_dicts(checkpoint))
    for state, beside in candidates:
        for kind, prefixes in KINDS.items():
            if _keys(state, "encoder", prefixes["encoder"]):
                return kind, state, beside
    seen = max((list(state) or list(beside) for state, beside in candidates), key=len, default=[])
    known = "; ".join(
        f"{kind} ({', '.join(prefix + start + '*' for part, prefix in prefixes.items() for start in STARTS[part])})"
        for kind, prefixes in KINDS.items()
    )
    raise ValueError(
        f"no UNet is recognised in {source}: its first keys are {', '.join(seen[:4]) or '(none)'}; known are {known}, "
        f"bare or under {', '.join(NESTING)}, with or without `module.`"
    )


def _state_dicts(
    value: object, beside: tuple[str, ...] = (), depth: int = 3
) -> Iterator[tuple[dict[str, Tensor], tuple[str, ...]]]:
    """What may be a state dict in a checkpoint: tensors by name, `module.` removed, and the names of all else."""
    if not isinstance(value, Mapping):
        return
    state = {key: item for key, item in value.items() if isinstance(key, str) and isinstance(item, Tensor)}
    others = tuple(str(key) for key in value if key not in state)
    unwrapped = state
    while unwrapped and all(key.startswith("module.") for key in unwrapped):
        unwrapped = {key.removeprefix("module."): item for key, item in unwrapped.items()}
    yield unwrapped, (*others, *beside)
    for name in NESTING if depth else ():
        rest = tuple(key for key in (*state, *others) if key != name)
        yield from _state_dicts(value.get(name), (*rest, *beside), depth - 1)


def _keys(state: Mapping[str, Tensor], part: str, prefix: str) -> set[str]:
    return {key for key in state if key.startswith(tuple(prefix + start for start in STARTS[part]))}


def _match(
    state: Mapping[str, Tensor], prefixes: Mapping[str, str], source: Path
) -> tuple[tuple[str, ...], dict[str, str]]:
    """Parts of the UNet in a state dict, each with those before it, and their keys: ours -> published."""
    found = {part: _keys(state, part, prefix) for part, prefix in prefixes.items()}
    parts = PARTS[: 1 + max(PARTS.index(part) for part in found if found[part])]
    with torch.device("meta"):
        own = [key for key in UNet().state_dict() if key.split(".")[0] in parts]
    names = {key: prefixes[key.split(".")[0]] + published_name(key) for key in own}
    missing = [name for name in names.values() if name not in state]
    surplus = sorted(set().union(*(found[part] for part in parts)).difference(names.values()))
    for keys, what in ((missing, "keys of the UNet are missing"), (surplus, "keys belong to no layer of the UNet")):
        if keys:
            raise ValueError(f"{source}: {len(keys)} {what}: {', '.join(keys[:4])}{', ...' if len(keys) > 4 else ''}")
    return parts, names


def published_name(key: str) -> str:
    """`encoder.stages.4.0.weight` -> `double_conv.double_conv.0.weight`."""
    return next(theirs + key[len(ours) :] for ours, theirs in MODULES.items() if key.startswith(f"{ours}."))


def _fill(state: Mapping[str, Tensor], names: Mapping[str, str], source: Path) -> UNet:
    """A UNet of the sizes of the published convolutions, with their weights; parts that are not named have none."""

    def size(key: str, axis: int) -> int:
        shape = state[names[key]].shape
        if len(shape) != 4 or 0 in shape:
            raise ValueError(f"{source}: `{names[key]}` must be the weight of a convolution, got {tuple(shape)}")
        return shape[axis]

    channels = tuple(size(f"encoder.stages.{depth}.0.weight", 0) for depth in range(5))
    out_channels = size("head.weight", 0) if "head.weight" in names else 2
    with torch.device("meta"):
        network = UNet(size("encoder.stages.0.0.weight", 1), out_channels, channels)
    own = network.state_dict()
    wrong = [
        f"`{name}` must be {tuple(own[key].shape)}, got {tuple(state[name].shape)}"
        for key, name in names.items()
        if state[name].shape != own[key].shape
    ]
    if wrong:
        raise ValueError(f"{source}: shapes contradict a UNet of channels {channels}: {'; '.join(wrong[:4])}")
    values = {key: state[name].to(own[key].dtype) for key, name in names.items()}
    network.load_state_dict(values, strict=False, assign=True)
    return network


def _refuse_other(path: Path, source_sha256: str | None) -> None:
    """Raise unless `path` and its sidecar are absent, or come from the same source."""
    sidecar = path.with_suffix(".json")
    if not path.exists() and not sidecar.exists():
        return
    try:
        origin = json.loads(sidecar.read_text(encoding="utf-8"))["converted_from"]["sha256"]
    except (OSError, ValueError, LookupError, TypeError):
        origin = None
    if origin != source_sha256:
        raise ValueError(
            f"{path} or {sidecar.name} already exists and was made from another source: give another --output"
        )
