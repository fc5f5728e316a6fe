"""MONAI Label's folder of frames and labels, with every name and mask looked at."""

import json
import logging
import os
import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from filelock import FileLock
from monailabel.datastore.local import LocalDatastore

from cmunet_monai.atomic import write_text_atomic
from cmunet_monai.label.refusal import RequestRefusedError
from cmunet_monai.label.upload import check_mask, write_mask_like
from cmunet_monai.label.workspace import check_id
from cmunet_monai.readers.nifti_file import is_nifti

logger = logging.getLogger(__name__)

REGISTRY = "datastore_v2.json"


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
            Path(label_filename).unlink(missing_ok=True)  # MONAI Label removes it after an answer, not after a refusal
            raise RequestRefusedError(str(error)) from None
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"label{'.nii.gz' if is_nifti(image) else '.png'}"
            write_mask_like(mask, path, image=image)
            return super().save_label(image_id, str(path), str(label_tag), label_info)

    def _update_datastore_file(self, lock: bool = True) -> None:
        """As MONAI Label's, which a kill in the middle leaves cut."""
        with FileLock(self._lock_file) if lock else nullcontext():
            self._ignore_event_config = True
            content = self._datastore.model_dump(exclude={"base_path"})
            write_text_atomic(self._datastore_config_path, json.dumps(content, indent=2, default=str) + "\n")
            self._config_ts = os.stat(self._datastore_config_path).st_mtime


def set_damaged_registry_aside(frames: Path) -> None:
    """Rename a registry of frames that is no JSON: MONAI Label then makes another from the frames and labels there."""
    registry = frames / REGISTRY
    if not registry.is_file():
        return
    try:
        json.loads(registry.read_text(encoding="utf-8"))
    except ValueError:
        aside = registry.with_suffix(".damaged")
        registry.replace(aside)
        logger.warning("%s is damaged and now %s; frames and labels are listed anew", registry.name, aside.name)
