"""MONAI Label's folder of frames and labels, with every name and mask looked at."""

import logging
import tempfile
from pathlib import Path
from typing import Any

from monailabel.datastore.local import LocalDatastore

from cmunet_monai.label.planes import is_nifti
from cmunet_monai.label.refusal import RequestRefusedError
from cmunet_monai.label.upload import check_mask, write_mask_like
from cmunet_monai.label.workspace import check_id

logger = logging.getLogger(__name__)


class FrameDatastore(LocalDatastore):
    """MONAI Label's local datastore, which alone takes any tag for a folder and any file for a label."""

    def image_path(self, image_id: Any) -> Path:
        """The file of a frame.

        Raises:
            RequestRefusedError: 404 if there is no such frame, 400 if that can be none's name.
        """
        try:
            check_id(image_id)
        except ValueError as error:
            raise RequestRefusedError(str(error)) from None
        path = self.get_image_uri(image_id)
        if not path or not Path(path).is_file():
            raise RequestRefusedError(f"there is no image {image_id}", status=404)
        return Path(path)

    def save_label(self, image_id: str, label_filename: str, label_tag: str, label_info: dict[str, Any]) -> str:
        """Keep a mask of a frame in the frame's own format and geometry.

        Raises:
            RequestRefusedError: 404 for an unknown frame, 400 for a tag or file that cannot be.
        """
        image = self.image_path(image_id)
        try:
            check_id(label_tag, what="tag")
            mask = check_mask(label_filename, image)
        except ValueError as error:
            raise RequestRefusedError(str(error)) from None
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"label{'.nii.gz' if is_nifti(image) else '.png'}"
            write_mask_like(mask, path, image=image)
            return super().save_label(image_id, str(path), str(label_tag), label_info)
