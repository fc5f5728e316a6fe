"""Read one frame, PNG or NIfTI, as one channel."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.config import PathLike
from monai.data import ImageReader, NibabelReader, PILReader
from PIL import Image

COLOUR_MODES = ("RGB", "RGBA", "LA", "P", "PA", "CMYK", "YCbCr")


class FrameReader(ImageReader):
    """MONAI's PIL and nibabel readers behind one name, for frames that are a single grey channel.

    Colour pictures (as viewers export them) become luminance; 16-bit greys keep their depth. A NIfTI file of shape
    (W, H, 1) is read as (W, H). The axes are MONAI's: (x, y).

    Raises:
        ValueError: if the file cannot be read whole, or holds several frames.
    """

    def __init__(self) -> None:
        super().__init__()
        self.picture = PILReader(converter=to_grayscale)
        self.nifti = NibabelReader()

    def verify_suffix(self, filename: Sequence[PathLike] | PathLike) -> bool:
        return self.picture.verify_suffix(filename) or self.nifti.verify_suffix(filename)

    def read(self, data: Sequence[PathLike] | PathLike, **kwargs: Any) -> Any:
        path = Path(str(data if isinstance(data, str | Path) else data[0]))
        if not path.is_file():
            raise FileNotFoundError(f"no frame at {path}")
        reader = self.nifti if self.nifti.verify_suffix(path) else self.picture
        try:
            return reader.read(path, **kwargs)
        except Exception as error:  # PIL and nibabel raise many kinds; the file must be named
            raise ValueError(f"{path} cannot be read as a PNG or NIfTI frame (cut?): {error}") from error

    def get_data(self, img: Any) -> tuple[np.ndarray, dict]:
        reader = self.picture if isinstance(img, Image.Image) else self.nifti
        array, meta = reader.get_data(img)
        array = np.asarray(array)
        if array.ndim > 2 and array.shape[2:] == (1,) * (array.ndim - 2):
            array = array.reshape(array.shape[:2])
            meta["spatial_shape"] = np.asarray(array.shape)
        if array.ndim != 2:
            raise ValueError(f"{meta.get('filename_or_obj')} must hold one frame, got an array of shape {array.shape}")
        meta["original_channel_dim"] = float("nan")
        return array, meta


def to_grayscale(image: Image.Image) -> Image.Image:
    """Colour and palette pictures to 8-bit luminance (ITU-R 601); grey ones as they are, 16 bits included.

    Raises:
        OSError: if the picture is cut.
    """
    image.load()
    if image.mode == "1":
        return image.convert("L")
    return image.convert("L") if image.mode in COLOUR_MODES else image
