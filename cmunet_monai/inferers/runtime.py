"""Which runtime computes a trained network: torch, ONNX Runtime or OpenVINO, with the same masks."""

import logging
from collections.abc import Callable
from importlib.util import find_spec
from time import perf_counter
from typing import Any

import torch
from monai.data import MetaTensor
from torch import Tensor, nn

from cmunet_monai.inferers.autocast import DTYPES
from cmunet_monai.inferers.onnx_runtime import convert_to_onnx_runtime
from cmunet_monai.inferers.openvino_runtime import convert_to_openvino
from cmunet_monai.inferers.torch_runtime import tune_torch

logger = logging.getLogger(__name__)

# runtime -> (what it needs beside torch, what converts a network for it); the fastest on a processor first
RUNTIMES: dict[str, tuple[tuple[str, ...], Callable[..., tuple[Callable[[Tensor], Tensor], str]]]] = {
    "openvino": (("openvino",), convert_to_openvino),
    "onnx": (("onnx", "onnxruntime"), convert_to_onnx_runtime),
    "torch": ((), tune_torch),
}


def missing_packages(runtime: str) -> list[str]:
    """What is not installed of the packages that a runtime needs."""
    return [name for name in RUNTIMES[runtime][0] if find_spec(name) is None]


def choose_runtime(runtime: str = "auto", *, device: torch.device | str = "cpu") -> tuple[str, str]:
    """A runtime that is installed and fits the device, and why it is this one.

    Args:
        runtime: `openvino`, `onnx`, `torch`, or `auto`: the first of these that is installed, torch on other devices
            than the processor.
        device: device of the network.
    Raises:
        ValueError: for another runtime, one that is not installed, or one that does not run on `device`.
    """
    if runtime not in (*RUNTIMES, "auto"):
        raise ValueError(f"`runtime` must be one of {', '.join(RUNTIMES)} or auto, got {runtime!r}")
    kind = torch.device(device).type
    if runtime == "auto":
        if kind != "cpu":
            return "torch", f"the device is {kind}"
        absent = [name for name in RUNTIMES if missing_packages(name)]
        chosen = next(name for name in RUNTIMES if name not in absent)
        return chosen, "the fastest installed" + (f"; not installed: {', '.join(absent)}" if absent else "")
    if kind != "cpu" and runtime != "torch":
        raise ValueError(f"runtime {runtime} computes on the processor, but `device` is {device}: use torch or auto")
    if missing := missing_packages(runtime):
        raise ValueError(
            f"runtime {runtime} needs {' and '.join(missing)}, not installed here: "
            "pip install 'cmunet_monai[runtimes]', or use torch or auto"
        )
    return runtime, "as asked for"


class RuntimeNetwork(nn.Module):
    """A trained network, computed by another runtime. For inference only: no gradients.

    The conversion happens in memory at the first call, and again whenever the weights have changed since: a bundle
    loads its weights after its network is built, and a mask of other weights than the network's would go unnoticed.
    B, H and W may change from call to call. `state_dict` and `load_state_dict` are those of the network.

    Args:
        network: maps (B, C, H, W) to (B, K, H, W). Put into eval mode; otherwise not modified.
        runtime: as of `choose_runtime`.
        device: device of the network and its inputs; None leaves the network where it is.
        dtype: `bfloat16`, `float16` or None for float32, whatever autocast is on around the call. A runtime or
            processor that lacks the type computes in float32, and the log says so.
    Attributes:
        runtime: the runtime that was chosen.
        precision: type that it computes in, such as `float32`; None before the first call.
        conversion_seconds: what the last conversion took; None before the first call.
    Raises:
        ValueError: as `choose_runtime`; for another `dtype`; from a call: for an input that is not (B, C, H, W), or in
            training mode.
    Deviations from the network's own result: in float32, rounding (below 1e-4 of the largest logit for the UNet).
    """

    def __init__(
        self,
        network: nn.Module,
        runtime: str = "auto",
        *,
        device: torch.device | str | None = None,
        dtype: str | None = None,
    ) -> None:
        super().__init__()
        if dtype is not None and dtype not in DTYPES:
            raise ValueError(f"`dtype` must be one of {', '.join(DTYPES)} or null, got {dtype!r}")
        if device is None:
            device = next((weight.device for weight in network.parameters()), torch.device("cpu"))
        self.runtime, self.reason = choose_runtime(runtime, device=device)
        self.dtype = dtype
        self.precision: str | None = None
        self.conversion_seconds: float | None = None
        self.network = network.to(device)
        self.eval()
        self._run: Callable[[Tensor], Tensor] | None = None
        self._state: tuple[Any, ...] = ()

    def forward(self, image: Tensor) -> Tensor:
        """(B, C, H, W), also as a MetaTensor -> (B, K, H, W) float32, a plain tensor."""
        if image.ndim != 4:
            raise ValueError(f"`image` must be (B, C, H, W), got {tuple(image.shape)}")
        if self.training:
            raise ValueError(f"runtime {self.runtime} is for inference: call .eval(), or train the network itself")
        if isinstance(image, MetaTensor):
            image = image.as_tensor()
        with torch.no_grad(), torch.autocast(image.device.type, enabled=False):
            state = _state(self.network)
            if self._run is None or state != self._state:
                self._convert(image.shape[1])
                self._state = state
            assert self._run is not None
            return self._run(image.float())

    def _convert(self, in_channels: int) -> None:
        begin = perf_counter()
        self._run, self.precision = RUNTIMES[self.runtime][1](self.network, in_channels=in_channels, dtype=self.dtype)
        self.conversion_seconds = perf_counter() - begin
        wanted = self.dtype or "float32"
        logger.info(
            "network computed by %s (%s) in %s%s, %d threads; converted in %.1f s",
            self.runtime,
            self.reason,
            self.precision,
            f" ({wanted} is not available)" if self.precision != wanted else "",
            torch.get_num_threads(),
            self.conversion_seconds,
        )

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Return the state dict of the network, without a prefix."""
        return self.network.state_dict(*args, **kwargs)

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Load a state dict into the network."""
        return self.network.load_state_dict(*args, **kwargs)


def _state(network: nn.Module) -> tuple[Any, ...]:
    """Where every weight and buffer lies and how often it was written: equal as long as none has changed."""
    tensors = (*network.parameters(), *network.buffers())
    return tuple((tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version) for tensor in tensors)
