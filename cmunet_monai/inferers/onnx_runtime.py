"""ONNX Runtime on the processor."""

import io
import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn

EXAMPLE_SHAPE = (2, 64, 64)  # B, H, W that a network is traced with; any other works with the result


def convert_to_onnx_runtime(
    network: nn.Module, *, in_channels: int = 1, dtype: str | None = None
) -> tuple[Callable[[Tensor], Tensor], str]:
    """A session of ONNX Runtime that computes a network, with as many threads as torch, and its type: float32.

    Args:
        network: in eval mode, on the processor. Not modified.
        in_channels: C of its input.
        dtype: ignored: ONNX Runtime's convolutions on a processor know float32 alone.
    """
    import onnxruntime  # slow to import, and only needed where it was chosen

    onnxruntime.disable_telemetry_events()  # Windows builds record usage otherwise
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    # Threads that spin while they wait take the processor from the loading of the next frame.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(
        onnx_model(network, in_channels=in_channels), options, providers=["CPUExecutionProvider"]
    )

    def run(image: Tensor) -> Tensor:
        (result,) = session.run(None, {"image": image.contiguous().numpy()})
        return torch.from_numpy(result)

    return run, "float32"


def onnx_model(network: nn.Module, *, in_channels: int = 1) -> bytes:
    """The network as a serialised ONNX model with input `image` and output `logits`, B, H and W free.

    By the exporter that traces: torch's newer one, which `torch.export` feeds, takes tens of times longer (12 s of
    computing for the UNet instead of 0.4 s) and needs onnxscript too, for the same graph.

    Args:
        network: in eval mode, on the processor. Not modified.
        in_channels: C of its input.
    """
    batch, *size = EXAMPLE_SHAPE
    stream = io.BytesIO()
    with warnings.catch_warnings():
        # that the exporter is deprecated, and that checks of the input's shape are not traced
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (torch.zeros(batch, in_channels, *size),),
            stream,  # type: ignore[arg-type]  # this exporter takes it, the newer one does not
            dynamo=False,
            input_names=["image"],
            output_names=["logits"],
            dynamic_axes={name: {0: "batch", 2: "height", 3: "width"} for name in ("image", "logits")},
        )
    return stream.getvalue()
