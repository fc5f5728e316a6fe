"""The same frame seen in four ways."""

from collections.abc import Callable
from typing import Any

import torch
from monai.inferers import Inferer
from torch import Tensor


class FlipViews(Inferer):
    """Call the network on a frame and its mirror images, and flip the outputs back.

    Args:
        inferer: how the network is called.
        flips: False calls it once, on the frame itself.
    """

    AXES: tuple[tuple[int, ...], ...] = ((), (2,), (3,), (2, 3))

    def __init__(self, inferer: Inferer, flips: bool = True) -> None:
        super().__init__()
        self.inferer = inferer
        self.flips = flips

    def __call__(self, inputs: Tensor, network: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        """(B, 1, W, H) -> (B, views * C, W, H): the C channels of each view after one another."""
        if not self.flips:
            return self.inferer(inputs, network, *args, **kwargs)
        views = [self.inferer(torch.flip(inputs, axes), network, *args, **kwargs).flip(axes) for axes in self.AXES]
        return torch.cat(views, dim=1)
