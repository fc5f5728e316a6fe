"""InfoNCE between predictions of one branch and detached targets of the other."""

import torch
import torch.distributed
from torch import Tensor, nn
from torch.nn import functional


class InfoNCELoss(nn.Module):
    """Cross-entropy of cosine similarities: row i of `input` belongs to row i of `target`, the others are negatives.

    Computed in float32 whatever autocast says; the only large value is the (B, world * B) matrix of similarities.
    MONAI's `ContrastiveLoss` keeps (2B)^2 F values and gives NaN in half precision at this temperature.

    Args:
        temperature: divides the similarities.
        detach_target: no gradient reaches `target`; False only to train an adapter behind a frozen branch.
    Source: van den Oord et al. 2018; Challier et al. 2025, equations 2 and 3. The authors' code multiplies this loss by
        2 * temperature: choose lambda_c accordingly to compare.
    """

    def __init__(self, temperature: float = 0.07, *, detach_target: bool = True) -> None:
        super().__init__()
        if temperature <= 0:
            raise ValueError(f"`temperature` must be positive, got {temperature}")
        self.temperature = temperature
        self.detach_target = detach_target

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """(B, F), (B, F) of this process -> scalar, the mean over its rows; negatives come from all processes.

        Raises:
            ValueError: if the shapes differ or are not (B, F), or there is no negative at all.
        """
        if input.ndim != 2 or input.shape != target.shape:
            raise ValueError(
                f"`input` and `target` must both be (B, F), got {tuple(input.shape)} and {tuple(target.shape)}"
            )
        if self.detach_target:
            target = target.detach()
        with torch.autocast(input.device.type, enabled=False):
            queries = functional.normalize(input.float(), dim=1)  # (B, F)
            keys, first = gather_rows(functional.normalize(target.float(), dim=1))  # (world B, F)
            if len(keys) < 2:
                raise ValueError("InfoNCE needs at least 2 images a step over all processes, got 1")
            positives = first + torch.arange(len(queries), device=queries.device)
            similarities = queries @ keys.T / self.temperature  # (B, world B)
            return functional.cross_entropy(similarities, positives)


def gather_rows(rows: Tensor) -> tuple[Tensor, int]:
    """(B, ...) of this process -> the rows of all, its own ones with their gradient, and the index of its first row."""
    if not torch.distributed.is_initialized() or torch.distributed.get_world_size() == 1:
        return rows, 0
    rank = torch.distributed.get_rank()
    parts = [torch.empty_like(rows) for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather(parts, rows.detach().contiguous())
    parts[rank] = rows
    return torch.cat(parts), rank * len(rows)
