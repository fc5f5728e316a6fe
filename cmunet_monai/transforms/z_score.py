"""Mean 0 and standard deviation 1 over the valid field."""

from collections.abc import Hashable, Mapping

import numpy as np
from monai.config import KeysCollection
from monai.config.type_definitions import NdarrayOrTensor
from monai.transforms import MapTransform, Transform
from monai.utils import convert_data_type, convert_to_dst_type
from monai.utils.enums import TransformBackends

from cmunet_monai.transforms.frame_array import frame_array, frame_name


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
        if std is not None and not std > 0:
            raise ValueError(f"`std` must be positive, got {std}")
        self.mean = mean
        self.std = std

    def __call__(self, img: NdarrayOrTensor, field: NdarrayOrTensor | None = None) -> NdarrayOrTensor:
        """Normalise one frame.

        Args:
            img: (C, H, W). Not modified.
            field: (1, H, W) bool, True where the frame is valid; None is everywhere.
        Returns:
            (C, H, W) float32; 0 outside the field; all 0 for a constant frame, and where nothing is valid.
        Raises:
            ValueError: if `img` is not (C, H, W), holds a value that is not finite, or the field has another size.
        """
        array = frame_array(img).astype(np.float64)  # a copy
        valid = np.ones(array.shape, dtype=bool)
        if field is not None:
            mask, *_ = convert_data_type(field, np.ndarray)
            if mask.shape != (1, *array.shape[1:]):
                raise ValueError(
                    f"`field` must be (1, {array.shape[1]}, {array.shape[2]}) as {frame_name(img)}, got {mask.shape}"
                )
            valid = np.broadcast_to(mask.astype(bool), array.shape)
        if self.mean is None or self.std is None:
            values = array[valid] if valid.any() else np.zeros(1)
            mean = values.mean()
            values -= mean
            std = np.sqrt(np.square(values, out=values).mean())
            if std <= 1e-6 * abs(mean):  # constant, but for the rounding of earlier transforms
                std = np.inf
        else:
            mean, std = self.mean, self.std
        array -= mean  # in place, here and above: new arrays of this size cost more than the sums
        array /= std
        array[~valid] = 0
        return convert_to_dst_type(array.astype(np.float32), img, dtype=np.float32)[0]


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
        for key in self.key_iterator(row):
            if self.field_key is not None and self.field_key not in row:
                raise KeyError(f"`field_key` {self.field_key!r} is not in the row, which holds {list(row)}")
            row[key] = self.transform(row[key], None if self.field_key is None else row[self.field_key])
        return row
