"""Read one frame, PNG or NIfTI, as one channel."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from monai.config import PathLike
from monai.data import ImageReader, NibabelReader, PILReader
from monai.data.utils import correct_nifti_header_if_necessary
from monai.utils import ensure_tuple
from PIL import Image

from cmunet_monai.readers.nifti_file import is_nifti, read_nifti
from cmunet_monai.readers.picture_file import MAX_PIXELS, read_picture

GREY_MODES = ("L", "I", "F", "I;16", "I;16B", "I;16L", "I;16N")


class FrameReader(ImageReader):
    """MONAI's PIL and nibabel readers behind one name, for frames that are a single grey channel; not for labels.

    Colour and palette pictures (as viewers export them) become luminance; labels, in which a colour or an index is a
    class, have `LabelReader`. 16-bit greys keep their depth; the white of a 1-bit picture is 255. A NIfTI file of shape
    (W, H, 1) is read as (W, H). The axes are MONAI's: (x, y). Whatever the name, nothing but PNG and NIfTI is opened.

    Files are opened in `get_data`: `LoadImage` takes an error raised in `read` for a reader that does not fit, and goes
    on to MONAI's own, which take the first of several frames and do not name the file in their errors.
    """

    def __init__(self) -> None:
        super().__init__()
        self.picture = PILReader()
        self.nifti = NibabelReader()

    def verify_suffix(self, filename: Sequence[PathLike] | PathLike) -> bool:
        return self.picture.verify_suffix(filename) or self.nifti.verify_suffix(filename)

    def read(self, data: Sequence[PathLike] | PathLike, **kwargs: Any) -> tuple[str, ...]:
        """The path of the frame, for `get_data`."""
        return tuple(os.fspath(path) for path in ensure_tuple(data))

    def get_data(self, img: tuple[str, ...]) -> tuple[np.ndarray, dict]:
        """Read the frame at the path that `read` gave.

        Returns:
            the frame, (W, H), in the type of the file, and MONAI's meta data of it.
        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if there are several paths, the file cannot be read whole, is 16-bit colour (which PIL cuts to 8
            bits), or does not hold one grey frame.
        """
        if len(img) != 1:
            raise ValueError(f"one file makes a frame, got {len(img)}: {', '.join(img)}")
        path = img[0]
        if not os.path.isfile(path):
            raise FileNotFoundError(f"no frame at {path}")
        try:
            if is_nifti(path):  # by its end: MONAI's readers take `a.nii.gz.png` for NIfTI
                self.nifti.filenames = (path,)
                image = correct_nifti_header_if_necessary(read_nifti(path, max_values=MAX_PIXELS))
                array, meta = self.nifti.get_data(image)
            else:
                array, meta = self.picture.get_data(to_grayscale(read_picture(path)))
        except (OSError, ValueError) as error:
            raise ValueError(f"{path} cannot be read as a PNG or NIfTI frame: {error}") from error
        if array.ndim > 2 and array.shape[2:] == (1,) * (array.ndim - 2):
            array = array.reshape(array.shape[:2])
            meta["spatial_shape"] = np.asarray(array.shape)
        if array.ndim != 2 or array.dtype.kind not in "biuf":
            raise ValueError(f"{path} must hold one grey frame, got an array of shape {array.shape}, {array.dtype}")
        meta["original_channel_dim"] = float("nan")
        return array, meta


def to_grayscale(image: Image.Image) -> Image.Image:
    """Colour, palette and 1-bit pictures to 8-bit luminance (ITU-R 601); grey ones as they are, 16 bits included."""
    return image if image.mode in GREY_MODES else image.convert("L")
