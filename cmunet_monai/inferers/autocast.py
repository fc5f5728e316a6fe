"""Half precision by config, on the CPU too."""

from collections.abc import Callable
from typing import Any

import torch
from monai.inferers import Inferer, SimpleInferer
from torch import Tensor

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


class AutocastInferer(Inferer):
    """Call a network inside `torch.autocast` on the device of its input; floating-point results come back as float32.

    MONAI's engines ignore `amp` on the CPU without a word, since their autocast is fixed to CUDA.

    Args:
        inferer: MONAI inferer that calls the network; None is `SimpleInferer`.
        dtype: `bfloat16`, `float16`, or None for full precision, in which case nothing is wrapped.
    Raises:
        ValueError: for another `dtype`, or for training in float16, which needs a gradient scaler.
    """

    def __init__(self, inferer: Inferer | None = None, dtype: str | None = None) -> None:
        super().__init__()
        if dtype is not None and dtype not in DTYPES:
            raise ValueError(f"`dtype` must be one of {', '.join(DTYPES)} or null, got {dtype!r}")
        self.inferer = inferer or SimpleInferer()
        self.dtype = dtype

    def __call__(self, inputs: Any, network: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """`network(inputs)`; `inputs` is a tensor, or a dictionary that holds one."""
        if self.dtype is None:
            return self.inferer(inputs, network, *args, **kwargs)
        if self.dtype == "float16" and torch.is_grad_enabled():
            raise ValueError("float16 is for inference only (no gradient scaler here): train in bfloat16 or null")
        with torch.autocast(_device_type(inputs), DTYPES[self.dtype]):
            return _to_float32(self.inferer(inputs, network, *args, **kwargs))


def _device_type(inputs: Any) -> str:
    values = inputs.values() if isinstance(inputs, dict) else [inputs]
    return str(next(value.device.type for value in values if isinstance(value, Tensor)))


def _to_float32(output: Any) -> Any:
    if isinstance(output, Tensor):
        return output.float() if output.is_floating_point() else output
    if isinstance(output, dict):
        return {key: _to_float32(value) for key, value in output.items()}
    if isinstance(output, list | tuple):
        return type(output)(_to_float32(value) for value in output)
    return output
