"""One probability map of what several views or networks say of a frame."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from torch import Tensor


@dataclass(frozen=True)
class JoinedViews:
    """What several views say together.

    Attributes:
        probability: (1, W, H) float32, mean probability of vessel.
        spread: (1, W, H) float32, standard deviation of the probability between the views; None of a single one.
        agreement: Dice of what all views take for vessel with what any does: 1 where they agree, also on nothing; None
            of a single view.
    """

    probability: Tensor
    spread: Tensor | None
    agreement: float | None


def join_views(logits: Tensor) -> JoinedViews:
    """Join the views of a frame.

    Args:
        logits: (2 * views, W, H), background and vessel of each view after one another. Not modified.
    Raises:
        ValueError: if the number of channels is odd.
    """
    if logits.ndim != 3 or logits.shape[0] % 2 or not logits.shape[0]:
        raise ValueError(f"`logits` must be (2 * views, W, H), got {tuple(logits.shape)}")
    vessel = logits.float().unflatten(0, (-1, 2)).softmax(dim=1)[:, 1]
    probability = vessel.mean(dim=0, keepdim=True)
    if len(vessel) == 1:
        return JoinedViews(probability, None, None)
    masks = vessel >= 0.5
    all_say, any_says = masks.all(dim=0).sum().item(), masks.any(dim=0).sum().item()
    agreement = 2 * all_say / (all_say + any_says) if any_says else 1.0
    return JoinedViews(probability, vessel.std(dim=0, correction=0, keepdim=True), agreement)


class JoinViewsd(MapTransform):
    """Dictionary form of `join_views`.

    Args:
        keys: logits; become the probability, as a `MetaTensor`, as does the spread.
        spread_key, agreement_key: where the others go, if there are several views.
        allow_missing_keys: as in MONAI.
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        spread_key: str = "uncertainty",
        agreement_key: str = "agreement",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.spread_key = spread_key
        self.agreement_key = agreement_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        item = dict(data)
        for key in self.key_iterator(item):
            logits = item[key]
            joined = join_views(logits.as_tensor() if isinstance(logits, MetaTensor) else logits)
            # with a warning alone, `Invertd` leaves a plain tensor as it is
            item[key] = MetaTensor(joined.probability)
            if joined.spread is not None:
                item |= {self.spread_key: MetaTensor(joined.spread), self.agreement_key: joined.agreement}
        return item
