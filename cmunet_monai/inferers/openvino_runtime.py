"""OpenVINO on the processor."""

import sys
import warnings
from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from cmunet_monai.inferers.onnx_runtime import EXAMPLE_SHAPE

# dtype -> (OpenVINO's name of it as a setting, and among what a processor can do)
PRECISIONS = {"bfloat16": ("bf16", "BF16"), "float16": ("f16", "FP16")}


def convert_to_openvino(
    network: nn.Module, *, in_channels: int = 1, dtype: str | None = None
) -> tuple[Callable[[Tensor], Tensor], str]:
    """A compiled OpenVINO model that computes a network, with as many threads as torch, and its type.

    Args:
        network: in eval mode, on the processor. Not modified.
        in_channels: C of its input.
        dtype: `bfloat16` or `float16` where the processor computes in it, else float32: OpenVINO's own default is
            bfloat16 on some processors, which would make masks differ between machines.
    """
    ov = import_openvino()
    core = openvino_core()
    setting, capability = PRECISIONS.get(dtype or "", ("f32", "FP32"))
    if dtype is None or capability not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        dtype, setting = "float32", "f32"
    batch, *size = EXAMPLE_SHAPE
    with warnings.catch_warnings():
        # that tracing is deprecated, and that checks of the input's shape are not traced
        warnings.simplefilter("ignore")
        model = ov.convert_model(network, example_input=torch.zeros(batch, in_channels, *size))
    settings = {
        "INFERENCE_PRECISION_HINT": setting,
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",  # one frame at a time on all threads
        "ENABLE_HYPER_THREADING": True,  # else it may take fewer threads than torch does
        "ENABLE_CPU_PINNING": False,  # other processes, such as the loading of frames, use the cores too
    }
    request = core.compile_model(model, "CPU", settings).create_infer_request()

    def run(image: Tensor) -> Tensor:
        result = request.infer([image.contiguous().numpy()], share_inputs=True)
        return torch.from_numpy(result[0])

    return run, dtype


@cache
def openvino_core() -> Any:
    """The one `Core` of this process, which stays.

    The processor's plugin gives the thread that makes it a signal stack, and unmaps it when the last `Core` goes
    without taking it back (OpenVINO 2026.4): the next signal, such as a loader process that ends, is then fatal.
    """
    return import_openvino().Core()


def import_openvino() -> ModuleType:
    """The package, without its telemetry: it otherwise reports its import and every conversion to Google Analytics.

    It asks nobody first. Where the telemetry package cannot be imported, OpenVINO puts an empty one in its place.
    """
    telemetry = "openvino_telemetry"
    found = telemetry in sys.modules
    if not found:
        sys.modules[telemetry] = None  # type: ignore[assignment]  # makes its import fail
    try:
        import openvino  # slow to import, and only needed where it was chosen
    finally:
        if not found:
            del sys.modules[telemetry]
    return openvino
