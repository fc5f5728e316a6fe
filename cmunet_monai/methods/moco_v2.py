"""MoCo v2: momentum contrast with a queue of keys."""

from collections.abc import Mapping
from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.nn import functional

from cmunet_monai.losses.info_nce import gather_rows
from cmunet_monai.methods.base import PretrainingMethod, update_average
from cmunet_monai.networks import UNet, UNetEncoder


class MoCoV2(PretrainingMethod):
    """Match the embedding of a view with that of a second view of the same frame, among a queue of other frames'.

    Query: view A -> encoder -> mean over positions -> two-layer perceptron -> unit length. Key: view B through a
    momentum copy of both. The keys of the last batches are the negatives. Encoder and momentum encoder have 37,699,968
    parameters together, as published. The decoder takes no part and is frozen.

    BatchNorm can tell a query which keys are of its own batch (He et al. 2020, section 3.3: the loss falls, the
    features do not get better). As there, several processes shuffle: each encodes keys of frames of all of them (every
    process' n-th frame), so that they are normalised by other frames than the queries. One process has nothing to
    shuffle: both are normalised by the frames of its batch.

    Args:
        network: the UNet whose encoder fine-tuning starts from.
        queue_length: number of keys kept, over all processes. The longer it is beside the data set, the more often a
            frame's own earlier key is among its negatives: at half of the frames, drawn anew each epoch, for one query
            in eight.
        momentum: of the exponential moving average after each step. Parameters are averaged; BatchNorm in the momentum
            branch normalises with the statistics of its own batch, and its running statistics are its own.
        temperature: divides the cosine similarities.
        hidden_features: of the perceptron; None: as many as the bottleneck has channels.
        embedding_features: of the contrastive space.
    Raises:
        ValueError: for a `queue_length` below 1, a `momentum` outside [0, 1), or a `temperature` that is not positive.
    Source: Chen et al. 2020 (MoCo v2); He et al. 2020, algorithm 1. Deviations: the queue turns over (wraps) wherever
        a batch ends, so that no length needs to be a multiple of the batch; the shuffle is a fixed interleaving, since
        batches are drawn in random order already.
    """

    transferred = ("encoder",)
    queue: Tensor
    pointer: Tensor

    def __init__(
        self,
        network: UNet,
        *,
        queue_length: int,
        momentum: float = 0.999,
        temperature: float = 0.2,
        hidden_features: int | None = None,
        embedding_features: int = 128,
    ) -> None:
        super().__init__(network)
        if queue_length < 1:
            raise ValueError(f"`queue_length` must be 1 or more, got {queue_length}")
        if not 0 <= momentum < 1:
            raise ValueError(f"`momentum` must be in [0, 1), got {momentum}: at 1 the keys would never learn")
        if temperature <= 0:
            raise ValueError(f"`temperature` must be positive, got {temperature}")
        self.momentum = momentum
        self.temperature = temperature
        self.network.decoder.requires_grad_(False)
        features = network.channels[-1]
        hidden = hidden_features or features
        self.projector = nn.Sequential(
            nn.Linear(features, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, embedding_features)
        )
        self.momentum_encoder = deepcopy(network.encoder).requires_grad_(False)
        self.momentum_projector = deepcopy(self.projector).requires_grad_(False)
        self.register_buffer("queue", functional.normalize(torch.randn(queue_length, embedding_features), dim=1))
        self.register_buffer("pointer", torch.zeros((), dtype=torch.long))  # the row that is overwritten next

    def forward(self, views: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Loss of a batch against the queue as it was; in training, its keys enter the queue then.

        Args:
            views: `view_a` and `view_b`, (B, 1, H, W) z-scored. H and W must be multiples of the UNet's divisor.
        Returns:
            `loss`, the cross-entropy of (key, queue) / temperature, and `accuracy`, the share of queries that are
            nearer to their key than to all of the queue.
        """
        queries = _embed(self.network.encoder, self.projector, views["view_a"])  # q: (B, F)
        keys, all_keys = self._keys(views["view_b"])  # k: (B, F), those of all processes: (N, F)
        with torch.autocast(queries.device.type, enabled=False):
            positive = (queries * keys).sum(dim=1, keepdim=True)  # l_pos: (B, 1)
            # a copy, since the queue changes before the backward pass reads it
            negative = queries @ self.queue.clone().T  # l_neg: (B, K)
            logits = torch.cat((positive, negative), dim=1) / self.temperature  # (B, 1 + K), the key at 0
            loss = functional.cross_entropy(logits, logits.new_zeros(len(logits), dtype=torch.long))
        if self.training:
            self._enqueue(all_keys)
        return {"loss": loss, "accuracy": (logits.argmax(dim=1) == 0).float().mean()}

    def after_step(self) -> None:
        """Move the momentum encoder and projector towards the online ones."""
        update_average(self.momentum_encoder, self.network.encoder, self.momentum)
        update_average(self.momentum_projector, self.projector, self.momentum)

    @torch.no_grad()
    def _keys(self, view: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 1, H, W) -> the keys of this process, (B, F), and of all of them, in the order of their ranks."""
        frames, first = gather_rows(view)
        processes, rank = len(frames) // len(view), first // len(view)
        keys, _ = gather_rows(_embed(self.momentum_encoder, self.momentum_projector, frames[rank::processes]))
        keys = keys.unflatten(0, (processes, -1)).transpose(0, 1).flatten(0, 1)  # undo the interleaving
        return keys[first : first + len(view)], keys

    @torch.no_grad()
    def _enqueue(self, keys: Tensor) -> None:
        """(N, F): overwrite the oldest keys, going on at the queue's start where its end is reached."""
        length = len(self.queue)
        rows = (self.pointer + torch.arange(len(keys), device=keys.device)) % length
        self.queue[rows[-length:]] = keys[-length:]
        self.pointer.add_(len(keys)).remainder_(length)


def _embed(encoder: UNetEncoder, projector: nn.Module, view: Tensor) -> Tensor:
    """(B, 1, H, W) -> (B, F) float32 of unit length."""
    return functional.normalize(projector(encoder(view)[-1].mean(dim=(-2, -1))).float(), dim=1)
