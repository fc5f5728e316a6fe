"""Read one label, PNG or NIfTI, as classes."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from monai.config import PathLike
from monai.data import ImageReader
from monai.utils import ensure_tuple

from cmunet_monai.readers.label_file import read_label
from cmunet_monai.readers.nifti_file import is_nifti


class LabelReader(ImageReader):
    """`read_label` as a reader of MONAI: classes (W, H), 0 for background, never luminance.

    A palette's numbers are classes, what is transparent is not drawn, and what is open is refused. `LoadLabeld` also
    brings a label into the order of its frame's axes.

    Files are opened in `get_data`, as in `FrameReader`.
    """

    def verify_suffix(self, filename: Sequence[PathLike] | PathLike) -> bool:
        return all(is_nifti(name) or os.fspath(name).lower().endswith(".png") for name in ensure_tuple(filename))

    def read(self, data: Sequence[PathLike] | PathLike, **kwargs: Any) -> tuple[str, ...]:
        """The path of the label, for `get_data`."""
        return tuple(os.fspath(path) for path in ensure_tuple(data))

    def get_data(self, img: tuple[str, ...]) -> tuple[np.ndarray, dict]:
        """Read the label at the path that `read` gave.

        Returns:
            (W, H) uint8, and MONAI's meta data of it.
        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if there are several paths, or as of `read_label`, or the file holds several frames.
        """
        if len(img) != 1:
            raise ValueError(f"one file makes a label, got {len(img)}: {', '.join(img)}")
        label = read_label(img[0])
        if label.classes.shape[2] != 1:
            raise ValueError(f"{img[0]}: no label of one frame: it holds {label.classes.shape[2]}")
        affine = np.eye(4) if label.affine is None else label.affine
        meta = {
            "affine": affine.copy(),
            "original_affine": affine.copy(),
            "spatial_shape": np.asarray(label.classes.shape[:2]),
            "original_channel_dim": float("nan"),
        }
        return label.classes[..., 0], meta
