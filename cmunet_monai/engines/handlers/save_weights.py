"""Write the UNet's weights in the one checkpoint form."""

import os
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events

from cmunet_monai.engines.distributed import is_main_process
from cmunet_monai.networks import UNet, save_unet_weights
from cmunet_monai.networks.weights import PARTS


class SaveUNetWeights:
    """Save the UNet after every few epochs and at the end, over the same file.

    MONAI's `CheckpointSaver` writes pickles, and not the transferred parts alone.

    Args:
        network: the UNet (or its wrapper in distributed training).
        path: `.safetensors` file to write.
        parts: which of `encoder`, `decoder`, `head`.
        every: epochs between two writes; the last epoch is always written.
        sidecar: further facts for the JSON file beside it; `epoch` is added.
    """

    def __init__(
        self,
        network: UNet,
        path: str | os.PathLike[str],
        *,
        parts: tuple[str, ...] = PARTS,
        every: int = 1,
        sidecar: dict[str, Any] | None = None,
    ) -> None:
        self.network = network
        self.path = Path(path)
        self.parts = tuple(parts)
        self.every = every
        self.sidecar = sidecar or {}

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        epoch = engine.state.epoch
        if is_main_process() and (epoch % self.every == 0 or epoch == engine.state.max_epochs):
            save_unet_weights(self.network, self.path, parts=self.parts, epoch=epoch, **self.sidecar)
