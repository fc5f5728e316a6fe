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

from cmunet_monai.files.atomic import atomic_path, write_text_atomic

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
    broken = _not_finite(state)
    if broken:
        raise ValueError(f"{path.name} was not written: weights are not finite in {', '.join(broken[:4])}")
    with atomic_path(path) as temporary:
        save_file(state, temporary)
        digest = file_digest(temporary)
    architecture = {name: getattr(network, name) for name in ("in_channels", "out_channels", "channels")}
    facts = {"architecture": architecture, "parts": list(parts), "keys": len(state), "sha256": digest, **sidecar}
    write_text_atomic(path.with_suffix(".json"), json.dumps(facts, indent=2) + "\n")


def _not_finite(state: Mapping[str, Tensor]) -> list[str]:
    return [key for key, value in state.items() if not torch.isfinite(value).all()]


def file_digest(path: str | os.PathLike[str] | None) -> str | None:
    """The SHA-256 of a file as hexadecimal digits; None for None."""
    if path is None:
        return None
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def provenance(datalist: str | os.PathLike[str] | None, **facts: Any) -> dict[str, Any]:
    """Where weights come from, for their sidecar: package version, git revision (null outside a checkout), data list.

    The data list is named by its SHA-256 alone, since paths may hold names; null where it is not known.
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


def read_checkpoint(path: str | os.PathLike[str]) -> Any:
    """Read `.safetensors`, or any other file by `torch.load(weights_only=True)`; nothing in it is executed.

    Raises:
        OSError: if there is no such file, or it cannot be opened.
        ValueError: if the file is cut, is no checkpoint, or holds objects whose loading would run code.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no weights at {path}" + (", which is a folder" if path.is_dir() else ""))
    with path.open("rb") as file:
        if file.read(40).startswith(b"version https://git-lfs"):
            raise ValueError(f"{path} is a git-lfs pointer, not the weights: fetch them with `git lfs pull`")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, OSError, RuntimeError, EOFError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as weights (cut or not a checkpoint?): {error}") from error
    except Exception as error:  # torch raises pickle's own UnpicklingError for code in the file
        names = ", ".join(_foreign_names(path)[:4])
        raise ValueError(
            f"{path} is refused: it holds more than tensors{f' ({names})' if names else ', or is no checkpoint'}, and "
            "loading that would run code. If you trust it, save its weights alone in the environment where its classes "
            "can be imported: x = torch.load(FILE, map_location='cpu', weights_only=False), then "
            "torch.save(x.state_dict(), NEW) for a whole model, torch.save(x['state_dict'], NEW) for a checkpoint"
        ) from error


def _foreign_names(path: Path) -> list[str]:
    """Functions and classes that a file of `torch.save` asks for, torch's last, by static disassembly; else []."""
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except Exception:
        return []
    return sorted(names, key=lambda name: (name.startswith("torch."), name))


def read_state_dict(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Read a flat state dict from `.safetensors`, or from `.pt`/`.pth` with `weights_only=True`.

    Raises:
        OSError: if there is no such file, or it cannot be opened.
        ValueError: if the file is cut, holds pickled code, or is not a flat dictionary of tensors.
    """
    state = read_checkpoint(path)
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{path} must hold a flat state dict (name -> tensor), as `save_unet_weights` writes it")
    return dict(state)


def load_unet_weights(network: nn.Module, path: str | os.PathLike[str]) -> WeightsReport:
    """Copy every matching key of a weights file into `network`, and report (and log) what matched.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file cannot be read, nothing in it fits the network, or weights are not finite.
    """
    state = read_state_dict(path)
    broken = _not_finite(state)
    if broken:
        raise ValueError(f"{path}: weights are not finite in {', '.join(broken[:4])}; take those of another epoch")
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
