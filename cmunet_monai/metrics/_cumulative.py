"""What the metric classes share: MONAI's buffers and reductions around a `compute_*` function."""

from abc import abstractmethod
from typing import Any

import torch
from monai.config import TensorOrList
from monai.metrics import CumulativeIterationMetric, do_metric_reduction
from monai.utils import MetricReduction
from torch import Tensor

from cmunet_monai.metrics._masks import check_spacing


class MaskMetric(CumulativeIterationMetric):
    """Base of the metric classes.

    Args:
        include_background: whether the first of several channels counts.
        reduction: MONAI's `MetricReduction`; only defined values are reduced.
        get_not_nans: whether `aggregate` also returns how many values were defined.

    Deviation from MONAI's metrics: a mean over undefined values alone is NaN, not 0, which would be a perfect distance.
    """

    def __init__(
        self,
        include_background: bool = False,
        reduction: MetricReduction | str = MetricReduction.MEAN,
        get_not_nans: bool = False,
    ) -> None:
        super().__init__()
        self.include_background = include_background
        self.reduction = MetricReduction(reduction)
        self.get_not_nans = get_not_nans

    @abstractmethod
    def _compute(self, y_pred: Tensor, y: Tensor, **options: Any) -> Tensor:
        """The values (B, C) of a batch."""

    def _compute_tensor(self, y_pred: Tensor, y: Tensor | None = None, **options: Any) -> Tensor:
        if y is None:  # MONAI passes None on for a `y` that is no tensor, too
            raise TypeError(f"{type(self).__name__} needs `y` as a torch.Tensor")
        return self._compute(y_pred, y, include_background=self.include_background, **options)

    def aggregate(self, reduction: MetricReduction | str | None = None) -> Tensor | tuple[Tensor, Tensor]:
        """Reduce what was collected; with `get_not_nans` a pair (value, count of defined values).

        Raises:
            ValueError: if nothing was collected.
        """
        data = self.get_buffer()
        if not isinstance(data, Tensor):
            raise ValueError(f"{type(self).__name__} has nothing to aggregate: call it on a batch first")
        kind = MetricReduction(reduction or self.reduction)
        value, not_nans = do_metric_reduction(data, kind)
        if kind in (MetricReduction.MEAN, MetricReduction.MEAN_BATCH, MetricReduction.MEAN_CHANNEL):
            value = torch.where(not_nans > 0, value, torch.nan)
        return (value, not_nans) if self.get_not_nans else value


class DistanceMetric(MaskMetric):
    """Base of the metric classes whose values are lengths.

    Args:
        include_background, reduction, get_not_nans: as in `MaskMetric`.
        spacing_mm: pixel size of all images in mm; None gives pixels. A call may give its own, a number or (B,).
    """

    def __init__(
        self,
        include_background: bool = False,
        reduction: MetricReduction | str = MetricReduction.MEAN,
        get_not_nans: bool = False,
        spacing_mm: float | None = None,
    ) -> None:
        super().__init__(include_background, reduction, get_not_nans)
        self.spacing_mm = spacing_mm

    def _compute_tensor(self, y_pred: Tensor, y: Tensor | None = None, **options: Any) -> Tensor:
        if options.get("spacing_mm") is None:
            options["spacing_mm"] = self.spacing_mm
        return super()._compute_tensor(y_pred, y, **options)

    def _compute_list(self, y_pred: TensorOrList, y: TensorOrList | None = None, **kwargs: Any) -> Any:
        # MONAI hands each item of a list the same keyword arguments: a spacing per image has to be dealt out
        if y is None or kwargs.get("spacing_mm") is None:
            return super()._compute_list(y_pred, y, **kwargs)
        spacings = check_spacing(kwargs.pop("spacing_mm"), len(y_pred))[:, 0]
        rows = [
            self._compute_tensor(p.detach()[None], r.detach()[None], spacing_mm=float(s), **kwargs)
            for p, r, s in zip(y_pred, y, spacings, strict=True)
        ]
        return torch.cat(rows)
