"""The one checkpoint form: a UNet state dict as safetensors, with a JSON sidecar that says where it comes from."""

import hashlib
import json
import logging
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from cmunet_monai.atomic import atomic_path, write_text_atomic

logger = logging.getLogger(__name__)

PARTS = ("encoder", "decoder", "head")


@dataclass(frozen=True)
class WeightsReport:
    """What `load_unet_weights` did, by key.

    Attributes:
        loaded: keys copied into the network.
        skipped: keys of the file that the network does not have, or has in another shape (the reason follows the key).
        missing: keys of the network that keep their initial values.
    """

    loaded: tuple[str, ...]
    skipped: tuple[str, ...]
    missing: tuple[str, ...]

    def __str__(self) -> str:
        counts = f"{len(self.loaded)} keys loaded, {len(self.skipped)} skipped, {len(self.missing)} left as initialised"
        details = [
            f"{name}: {', '.join(keys[:8])}{', ...' if len(keys) > 8 else ''}"
            for name, keys in (("skipped", self.skipped), ("left", self.missing))
            if keys
        ]
        return "; ".join([counts, *details])


def save_unet_weights(
    network: nn.Module, path: str | os.PathLike[str], *, parts: tuple[str, ...] = PARTS, **sidecar: Any
) -> None:
    """Write the weights of a `UNet` as safetensors, and `<path without suffix>.json` beside them.

    Args:
        network: a `UNet` (or its wrapper in distributed training).
        path: file to write, ending in `.safetensors`.
        parts: which of `encoder`, `decoder`, `head` are written: what a method transfers.
        sidecar: further facts for the JSON file, such as `method="CMUNet"`; the architecture, number of keys
            and SHA-256 are added.
    Raises:
        ValueError: for another suffix, an unknown part, or weights that are not finite.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise ValueError(f"`path` must end in .safetensors, got {path.name}")
    if not parts or set(parts) - set(PARTS):
        raise ValueError(f"`parts` must be some of {PARTS}, got {tuple(parts)}")
    network = getattr(network, "module", network)
    state = {
        key: value.detach().cpu().contiguous().clone()
        for key, value in network.state_dict().items()
        if key.split(".")[0] in parts
    }
    broken = [key for key, value in state.items() if not torch.isfinite(value).all()]
    if broken:
        raise ValueError(f"{path.name} was not written: weights are not finite in {', '.join(broken[:4])}")
    with atomic_path(path) as temporary:
        save_file(state, temporary)
        digest = file_digest(temporary)
    architecture = {name: getattr(network, name) for name in ("in_channels", "out_channels", "channels")}
    facts = {"architecture": architecture, "parts": list(parts), "keys": len(state), "sha256": digest, **sidecar}
    write_text_atomic(path.with_suffix(".json"), json.dumps(facts, indent=2) + "\n")


def file_digest(path: str | os.PathLike[str] | None) -> str | None:
    """The SHA-256 of a file as hexadecimal digits; None for None."""
    return None if path is None else hashlib.sha256(Path(path).read_bytes()).hexdigest()


def provenance(datalist: str | os.PathLike[str], **facts: Any) -> dict[str, Any]:
    """Where weights come from, for their sidecar: package version, git revision (null outside a checkout), data list.

    The data list is named by its SHA-256 alone, since paths may hold names.
    """
    git = subprocess.run(
        ["git", "rev-parse", "--quiet", "--verify", "HEAD"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return {
        "cmunet_monai": version("cmunet_monai"),
        "git_revision": git.stdout.strip() or None,
        "datalist_sha256": file_digest(datalist),
        **facts,
    }


def read_state_dict(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Read a flat state dict from `.safetensors`, or from `.pt`/`.pth` with `weights_only=True`.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is cut, holds pickled code, or is not a flat dictionary of tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no weights at {path}")
    try:
        state: Any = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    except (SafetensorError, RuntimeError, EOFError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as weights (cut or not a checkpoint?): {error}") from error
    except Exception as error:  # torch raises pickle's own UnpicklingError for code in the file
        raise ValueError(f"{path} holds more than tensors and is refused: save `model.state_dict()`") from error
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{path} must hold a flat state dict (name -> tensor), as `save_unet_weights` writes it")
    return dict(state)


def load_unet_weights(network: nn.Module, path: str | os.PathLike[str]) -> WeightsReport:
    """Copy every matching key of a weights file into `network`, and report (and log) what matched.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file cannot be read, or nothing in it fits the network.
    """
    state = read_state_dict(path)
    own = network.state_dict()
    fitting = {key: value for key, value in state.items() if key in own and own[key].shape == value.shape}
    skipped = tuple(
        f"{key} (shape {tuple(value.shape)}, the network has {tuple(own[key].shape)})" if key in own else key
        for key, value in state.items()
        if key not in fitting
    )
    if not any(value.ndim > 1 for value in fitting.values()):  # counters of BatchNorm fit every network
        raise ValueError(
            f"nothing in {path} fits this network: {len(state)} keys such as {', '.join(skipped[:3]) or '(none)'}; "
            f"the network has {', '.join(list(own)[:3])}, ... Were they trained with other channels?"
        )
    network.load_state_dict(fitting, strict=False)
    report = WeightsReport(tuple(fitting), skipped, tuple(key for key in own if key not in fitting))
    logger.info("%s: %s", Path(path).name, report)
    return report
