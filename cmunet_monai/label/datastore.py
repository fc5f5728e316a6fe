"""MONAI Label's local datastore, with a check of every name and every mask."""

import json
import logging
import os
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from monailabel.datastore.local import DataModel, LocalDatastore, LocalDatastoreModel
from numpy.typing import NDArray

from cmunet_monai.files.atomic import write_text_atomic
from cmunet_monai.files.nifti import is_nifti
from cmunet_monai.label.refusal import RequestRefusedError
from cmunet_monai.label.upload import check_mask, write_mask_like
from cmunet_monai.label.workspace import check_id

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

    def get_image_info(self, image_id: str) -> dict[str, Any]:
        """As MONAI Label's, with the file's name in place of its path on this machine."""
        info = super().get_image_info(image_id)
        return info | {"path": Path(info["path"]).name} if "path" in info else info

    def datalist(self, full_path: bool = True) -> list[dict[str, str]]:
        """Frames and final labels, relative to the folder of the frames."""
        top = os.path.realpath(self._datastore_path)
        return [{key: os.path.relpath(path, top) for key, path in row.items()} for row in super().datalist()]

    def save_label(self, image_id: str, label_filename: str, label_tag: str, label_info: dict[str, Any]) -> str:
        """Keep a mask of a frame in the frame's own format and geometry; the old one stays until the new one is whole.

        Raises:
            RequestRefusedError: 404 for an unknown frame, 400 for a tag or file that cannot be, 507 where it cannot be
                written.
        """
        try:
            image = self.image_path(image_id)
            check_id(label_tag, what="tag")
            mask = check_mask(label_filename, image)
            return self._keep(mask, image, image_id, str(label_tag), label_info)
        except (OSError, ValueError) as error:
            Path(label_filename).unlink(missing_ok=True)  # MONAI Label removes it after an answer, not after a refusal
            if isinstance(error, RequestRefusedError):
                raise
            if isinstance(error, OSError):
                logger.error("the label of %s could not be written: %s", image_id, error)
                raise RequestRefusedError(
                    f"the label could not be written: {error.strerror} (the disk of the server's workspace)", status=507
                ) from None
            raise RequestRefusedError(str(error)) from None

    def _keep(self, mask: NDArray[np.uint8], image: Path, image_id: str, tag: str, info: dict[str, Any] | None) -> str:
        suffix = ".nii.gz" if is_nifti(image) else ".png"
        with FileLock(self._lock_file):
            path = Path(self._datastore.label_path(tag)) / f"{image_id}{suffix}"
            write_mask_like(mask, path, image=image)
            facts = {**(info or {}), "ts": int(time.time()), "name": path.name}
            self._datastore.objects[image_id].labels[tag] = DataModel(info=facts, ext=suffix)
            self._update_datastore_file(lock=False)
        return image_id

    def _update_datastore_file(self, lock: bool = True) -> None:
        """As MONAI Label's, which a kill in the middle leaves cut."""
        with FileLock(self._lock_file) if lock else nullcontext():
            self._ignore_event_config = True
            content = self._datastore.model_dump(exclude={"base_path"})
            write_text_atomic(self._datastore_config_path, json.dumps(content, indent=2, default=str) + "\n")
            self._config_ts = os.stat(self._datastore_config_path).st_mtime


def set_damaged_registry_aside(frames: Path) -> None:
    """Rename a registry of frames that MONAI Label cannot read: it makes another from the frames and labels there."""
    registry = frames / REGISTRY
    if not registry.is_file():
        return
    try:
        LocalDatastoreModel.model_validate_json(registry.read_bytes())
    except (OSError, ValueError, RecursionError):
        aside = registry.with_suffix(".damaged")
        registry.replace(aside)
        logger.warning("%s is damaged and now %s; frames and labels are listed anew", registry.name, aside.name)
