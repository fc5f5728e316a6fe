"""torch itself, tuned for inference: BatchNorm folded into the convolutions, channels last."""

import copy
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from cmunet_monai.inferers.autocast import DTYPES


def tune_torch(
    network: nn.Module, *, in_channels: int = 1, dtype: str | None = None
) -> tuple[Callable[[Tensor], Tensor], str]:
    """A folded, channels-last copy of a network, and the type that it computes in.

    `torch.compile` is left out: it needs a C++ compiler and about a minute, for ten frames of a partner's.

    Args:
        network: in eval mode. Not modified.
        in_channels: unused; runtimes that trace the network need it.
        dtype: `bfloat16` where the processor computes in it, `float16` on a GPU, else float32.
    """
    device = next((weight.device.type for weight in network.parameters()), "cpu")
    if dtype is None or (device == "cpu" and not (dtype == "bfloat16" and processor_has_bfloat16())):
        dtype = "float32"
    kind = DTYPES.get(dtype, torch.float32)
    folded = fold_batch_norms(network).to(kind)
    folded.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs leave this form out

    def run(image: Tensor) -> Tensor:
        result: Tensor = folded(image.to(dtype=kind, memory_format=torch.channels_last))
        return result.float()

    return run, dtype


def fold_batch_norms(network: nn.Module) -> nn.Module:
    """A copy in which a BatchNorm that follows a convolution in an `nn.Sequential` is part of that convolution.

    Elsewhere the order of calls is not known from the modules, and nothing is folded.

    Args:
        network: in eval mode. Not modified.
    """
    network = copy.deepcopy(network).requires_grad_(False)
    for block in [module for module in network.modules() if isinstance(module, nn.Sequential)]:
        for index, (layer, following) in enumerate(pairwise(list(block))):
            if isinstance(layer, nn.Conv2d) and isinstance(following, nn.BatchNorm2d):
                block[index], block[index + 1] = fuse_conv_bn_eval(layer, following), nn.Identity()
    return network


def processor_has_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 itself; where it does not, torch emulates it, slower than float32."""
    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()  # not in older versions of torch
    return any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
