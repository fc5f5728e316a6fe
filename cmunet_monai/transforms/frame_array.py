"""What every transform of frames asks of its input."""

import numpy as np
from monai.config.type_definitions import NdarrayOrTensor
from monai.utils import convert_data_type


def frame_name(img: NdarrayOrTensor) -> str:
    """`img`, with its file where it comes from one: for error messages."""
    file = getattr(img, "meta", {}).get("filename_or_obj")
    return f"`img` ({file})" if file else "`img`"


def frame_array(img: NdarrayOrTensor, *, channels: int | None = None) -> np.ndarray:
    """A frame as a numpy array that may share its memory: not to be written to.

    Args:
        img: (C, H, W).
        channels: how many are asked for; None takes any number.
    Raises:
        ValueError: if `img` has another shape, no pixels, or a value that is not finite.
    """
    array, *_ = convert_data_type(img, np.ndarray)
    if array.ndim != 3 or not array.size or channels not in (None, array.shape[0]):
        expected = f"({'C' if channels is None else channels}, H, W)"
        raise ValueError(f"{frame_name(img)} must be {expected}, got {tuple(array.shape)}")
    if not np.isfinite(array).all():
        raise ValueError(f"{frame_name(img)} holds values that are not finite (NaN or infinity)")
    return array
