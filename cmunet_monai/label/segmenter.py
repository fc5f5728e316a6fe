"""A bundle's own inference on single files, for a server that keeps the network in memory."""

import os
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
from monai.transforms import KeepLargestConnectedComponent
from monai.utils import CommonKeys
from numpy.typing import NDArray

from cmunet_monai.bundle import load_workflow
from cmunet_monai.files.nifti import as_nifti
from cmunet_monai.inferers import FlipViews
from cmunet_monai.label.planes import read_planes
from cmunet_monai.networks import file_digest

WEIGHTS = Path("models") / "model.safetensors"


@dataclass(frozen=True)
class Loaded:
    """What `inference.json` makes of one file of weights, on one device."""

    stamp: tuple[int, int]
    weights_sha256: str
    parser: Any
    network: Any
    preprocessing: Any
    postprocessing: Any
    inferer: Any


class Segmenter:
    """Probabilities of vessel as the bundle's `inference.json` computes them: the same transforms, network and weights.

    MONAI Label's `BundleInferTask` takes the config apart and runs the transforms without the batch axis and the
    geometry of 2D frames. Weights that have changed on disk are loaded anew. Calls from several threads wait for each
    other.

    Args:
        bundle: folder of the segmentation bundle.
        weights: file of the weights; None takes the bundle's `models/model.safetensors`.
        device: of the network.
    """

    def __init__(
        self,
        bundle: str | os.PathLike[str],
        *,
        weights: str | os.PathLike[str] | None = None,
        device: str = "cpu",
    ) -> None:
        self.bundle = Path(bundle)
        self.weights = Path(weights) if weights is not None else self.bundle / WEIGHTS
        self.device = device
        self._lock = threading.Lock()
        self._now: Loaded | None = None

    @property
    def weights_sha256(self) -> str:
        with self._lock:
            return self._loaded().weights_sha256

    @property
    def threshold(self) -> float:
        """The bundle's own."""
        with self._lock:
            return float(self._loaded().parser["threshold"])

    def probabilities(self, path: str | os.PathLike[str], *, flips: bool = False) -> NDArray[np.float32]:
        """Probability of vessel in each frame of a PNG or NIfTI file.

        Args:
            path: a file of one frame, or a NIfTI file of several, each of which is computed by itself.
            flips: take the mean of the frame and its three mirror images.
        Returns:
            (W, H, N) float32 from 0 to 1, first axis along the columns.
        Raises:
            FileNotFoundError, ValueError: if the file or the weights cannot be read.
        """
        planes = read_planes(path)
        with self._lock:
            now = self._loaded()
            if planes.shape[2] == 1:
                return self._one(now, path, flips)[..., None]
            with tempfile.TemporaryDirectory() as folder:
                return np.stack(
                    [self._one(now, _save(plane, folder), flips) for plane in np.moveaxis(planes, 2, 0)], axis=-1
                )

    def _one(self, now: Loaded, path: str | os.PathLike[str], flips: bool) -> NDArray[np.float32]:
        item = now.preprocessing({CommonKeys.IMAGE: str(path), "id": Path(path).name, "spacing_mm": None})
        inferer = FlipViews(now.inferer.inferer, True) if flips else now.inferer
        with torch.no_grad():
            logits = inferer(item[CommonKeys.IMAGE][None].to(self.device), now.network)
        found = now.postprocessing({CommonKeys.IMAGE: item[CommonKeys.IMAGE], CommonKeys.PRED: logits[0].cpu()})
        return np.asarray(found["probability"].cpu()[0], np.float32)

    def _loaded(self) -> Loaded:
        if not self.weights.is_file():
            raise FileNotFoundError(f"no weights at {self.weights}")
        facts = self.weights.stat()
        stamp = (facts.st_mtime_ns, facts.st_size)
        if self._now is None or self._now.stamp != stamp:
            self._now = self._load(stamp)
        return self._now

    def _load(self, stamp: tuple[int, int]) -> Loaded:
        workflow = load_workflow(
            self.bundle / "configs" / "inference.json",
            workflow_type="infer",
            options={"bundle_root": self.bundle, "weights": self.weights, "device": torch.device(self.device)},
        )
        parts = {
            name: workflow.parser.get_parsed_content(name)
            for name in ("network", "preprocessing", "postprocessing", "inferer")
        }
        digest = file_digest(self.weights)
        assert digest is not None
        return Loaded(stamp, digest, workflow.parser, **parts)


def mask_of(
    probabilities: NDArray[np.float32], *, threshold: float = 0.5, largest_components: int = 0
) -> NDArray[np.uint8]:
    """The mask of each frame.

    Args:
        probabilities: (W, H, N). Not modified.
        threshold: from which probability on a pixel is vessel.
        largest_components: keep so many connected parts of each frame's mask, the largest; 0 keeps all.
    Returns:
        (W, H, N) uint8 of 0 and 1.
    Raises:
        ValueError: if the threshold is not between 0 and 1, or the number negative.
    """
    if not 0 < threshold < 1:
        raise ValueError(f"`threshold` must be between 0 and 1, got {threshold}")
    if largest_components < 0:
        raise ValueError(f"`largest_components` must be 0 (all) or more, got {largest_components}")
    mask = (probabilities >= threshold).astype(np.uint8)
    if largest_components:
        keep = KeepLargestConnectedComponent(is_onehot=False, num_components=largest_components)
        mask = np.stack([np.asarray(keep(plane[None]))[0] for plane in np.moveaxis(mask, 2, 0)], axis=-1)
    return mask.astype(np.uint8)


def _save(plane: NDArray[Any], folder: str) -> Path:
    path = Path(folder) / "frame.nii"
    nibabel.save(as_nifti(plane.T, None), path)
    return path
