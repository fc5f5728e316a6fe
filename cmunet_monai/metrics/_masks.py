"""The checks that every mask metric makes, and the loop over images and classes that all of them share."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from monai.utils import convert_to_tensor
from torch import Tensor

from cmunet_monai.metrics._geometry import MaskGeometry

Spacing = float | Sequence[float] | np.ndarray | Tensor | None


def check_masks(mask: Tensor, name: str, *, include_background: bool) -> np.ndarray:
    """Check a mask and return its foreground channels as (B, C, H, W) bool.

    Raises:
        TypeError: if `mask` is not a tensor.
        ValueError: if `mask` is not (B, C, H, W), each at least 1, or holds anything but 0 and 1 (NaN included).
    """
    if not isinstance(mask, Tensor):
        raise TypeError(f"`{name}` must be a torch.Tensor, got {type(mask).__name__}")
    if mask.ndim != 4 or 0 in mask.shape:
        raise ValueError(f"`{name}` must be (B, C, H, W), got {tuple(mask.shape)}")
    values = convert_to_tensor(mask, track_meta=False).detach().cpu()
    # numpy has no bfloat16; 0 and 1 keep their values in float32, and so does whatever else is to be refused
    values = (values.float() if values.dtype == torch.bfloat16 else values).numpy()
    if not include_background and values.shape[1] > 1:
        values = values[:, 1:]
    foreground = values != 0
    if values.dtype != np.bool_ and not (values == foreground).all():  # NaN != 0 is True, and NaN == True is False
        wrong = values[values != foreground][0]
        raise ValueError(f"`{name}` must hold only 0 and 1, got {wrong}")
    return foreground


def check_pair(y_pred: Tensor, y: Tensor, *, include_background: bool) -> tuple[np.ndarray, np.ndarray]:
    """Both masks as (B, C, H, W) bool, the background channel left out where there is one.

    Raises:
        TypeError, ValueError: as in `check_masks`, and if the two shapes differ.
    """
    if isinstance(y_pred, Tensor) and isinstance(y, Tensor) and y_pred.shape != y.shape:
        raise ValueError(f"`y_pred` and `y` must have the same shape, got {tuple(y_pred.shape)} and {tuple(y.shape)}")
    return (
        check_masks(y_pred, "y_pred", include_background=include_background),
        check_masks(y, "y", include_background=include_background),
    )


def check_spacing(spacing_mm: Spacing, batch_size: int) -> np.ndarray:
    """Pixel size of each image as (B, 1) float64; ones where `spacing_mm` is None, which leaves distances in pixels.

    Raises:
        ValueError: if it is neither a number nor (B,), or not positive and finite.
    """
    if spacing_mm is None:
        return np.ones((batch_size, 1))
    spacing = np.asarray(spacing_mm.detach().cpu() if isinstance(spacing_mm, Tensor) else spacing_mm, dtype=np.float64)
    if spacing.shape not in ((), (batch_size,)):
        raise ValueError(f"`spacing_mm` must be a number or ({batch_size},), got shape {spacing.shape}")
    if not (np.isfinite(spacing) & (spacing > 0)).all():
        raise ValueError(f"`spacing_mm` must be positive and finite, got {spacing.tolist()}")
    return np.broadcast_to(spacing, (batch_size,))[:, None]


def for_each_pair(
    function: Callable[[MaskGeometry, MaskGeometry], float | tuple[float, ...]], y_pred: np.ndarray, y: np.ndarray
) -> np.ndarray:
    """`function(prediction, reference)` of every image and class, as (B, C, number of values it gives) float64."""
    values = [
        [function(MaskGeometry(p), MaskGeometry(r)) for p, r in zip(image_pred, image, strict=True)]
        for image_pred, image in zip(y_pred, y, strict=True)
    ]
    return np.array(values, dtype=np.float64).reshape(*y.shape[:2], -1)


def as_result(values: np.ndarray, like: Tensor) -> Tensor:
    """A float32 tensor on the device of `like`."""
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32)).to(like.device)
