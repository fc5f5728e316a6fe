"""Mean 0 and standard deviation 1 over the valid field."""

from collections.abc import Hashable, Mapping

import numpy as np
from monai.config import KeysCollection
from monai.config.type_definitions import NdarrayOrTensor
from monai.transforms import MapTransform, Transform
from monai.utils import convert_data_type, convert_to_dst_type
from monai.utils.enums import TransformBackends


class ZScore(Transform):
    """Normalise a frame with its own mean and standard deviation, or with those of a data set.

    MONAI's `NormalizeIntensity` takes non-zero pixels at most, not a field, and leaves the pixels outside as they are.

    Args:
        mean: of the data set, in the frame's grey levels; None takes each frame's own.
        std: of the data set; None takes each frame's own. Both are given, or neither.
    Source: Challier et al. 2025, section IV-A (data-set statistics; the authors' code takes each frame's own).
    """

    backend = [TransformBackends.NUMPY]

    def __init__(self, mean: float | None = None, std: float | None = None) -> None:
        if (mean is None) != (std is None):
            raise ValueError(f"`mean` and `std` are given together or not at all, got {mean} and {std}")
        if std is not None and std <= 0:
            raise ValueError(f"`std` must be positive, got {std}")
        self.mean = mean
        self.std = std

    def __call__(self, img: NdarrayOrTensor, field: NdarrayOrTensor | None = None) -> NdarrayOrTensor:
        """Normalise one frame.

        Args:
            img: (C, H, W). Not modified.
            field: (1, H, W) bool, True where the frame is valid; None is everywhere.
        Returns:
            (C, H, W) float32; 0 outside the field; all 0 for a constant frame.
        Raises:
            ValueError: if a pixel of the frame is not finite, or the field has another size.
        """
        array, *_ = convert_data_type(img, np.ndarray)
        valid = np.ones(array.shape, bool)
        if field is not None:
            mask, *_ = convert_data_type(field, np.ndarray)
            if mask.shape[-2:] != array.shape[-2:]:
                raise ValueError(f"`field` must be (1, H, W) like `img` {array.shape}, got {mask.shape}")
            valid = np.broadcast_to(mask.astype(bool), array.shape)
        if not np.isfinite(array).all():
            raise ValueError("`img` holds values that are not finite (NaN or infinity)")
        values = array[valid].astype(np.float64)
        if not values.size:
            values = np.zeros(1)
        mean = values.mean() if self.mean is None else self.mean
        std = values.std() if self.std is None else self.std
        constant = self.std is None and std <= 1e-6 * max(abs(mean), 1.0)
        scaled = np.zeros(array.shape) if constant else (array - mean) / std
        return convert_to_dst_type(np.where(valid, scaled, 0).astype(np.float32), img, dtype=np.float32)[0]


class ZScored(MapTransform):
    """`ZScore` on frames of a dictionary.

    Args:
        keys: frames, (C, H, W).
        field_key: key of the valid field, as `CornerInpaintd` writes it; None is the whole frame.
        mean, std: see `ZScore`.
    """

    backend = ZScore.backend

    def __init__(
        self,
        keys: KeysCollection,
        field_key: str | None = None,
        mean: float | None = None,
        std: float | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.field_key = field_key
        self.transform = ZScore(mean, std)

    def __call__(self, data: Mapping[Hashable, NdarrayOrTensor]) -> dict[Hashable, NdarrayOrTensor]:
        row = dict(data)
        field = None if self.field_key is None else row[self.field_key]
        for key in self.key_iterator(row):
            row[key] = self.transform(row[key], field)
        return row
