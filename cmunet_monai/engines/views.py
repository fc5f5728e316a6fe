"""The views of a batch, on the device that they are needed on."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def prepare_views(
    batch: Mapping[str, Any], device: torch.device | str | None = None, non_blocking: bool = False, **_: Any
) -> tuple[dict[str, Tensor], None]:
    """The tensors of a batch as plain tensors on the device; images channels-last. There is no target."""
    views = {key: value for key, value in batch.items() if isinstance(value, Tensor)}
    moved = {key: torch.as_tensor(value).to(device, non_blocking=non_blocking) for key, value in views.items()}
    return {
        key: value.contiguous(memory_format=torch.channels_last) if value.ndim == 4 else value
        for key, value in moved.items()
    }, None
