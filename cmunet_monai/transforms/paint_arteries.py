"""Paint a synthetic coronary tree into a frame, by Beer-Lambert's law: a picture whose arteries are known exactly."""

import json
import os
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, Randomizable

from cmunet_monai.transforms.frame_array import frame_array

LISTING = "trees.json"


@dataclass(frozen=True)
class ProjectedTree:
    """One tree of a bank that `cmunet trees` wrote; maps of one shape, (x, y) as MONAI reads frames.

    Attributes:
        agent_mm: float32, length of each ray in undiluted contrast agent: arteries, catheter, reflux.
        devices: float32, attenuation of sheaths, leads, wires and collimator edges, as an exponent.
        mask: uint8, 1 inside an artery.
        frame: uint8, a wholly synthetic angiogram of the same tree.
    """

    agent_mm: np.ndarray
    devices: np.ndarray
    mask: np.ndarray
    frame: np.ndarray


class TreeBank:
    """The trees of a folder that `cmunet trees` wrote, read when they are asked for.

    Raises:
        FileNotFoundError: if there is no such bank, or it is not complete yet.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        listing = self.folder / LISTING
        if not listing.is_file():
            raise FileNotFoundError(
                f"no bank of trees at {self.folder} ({LISTING} is missing): make one by `cmunet trees --output DIR`"
            )
        self.files: list[str] = json.loads(listing.read_text(encoding="utf-8"))["trees"]

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> ProjectedTree:
        """Read one tree.

        Raises:
            ValueError: if its file is missing, cut, or holds other maps.
        """
        path = self.folder / self.files[index]
        try:
            with np.load(path, allow_pickle=False) as maps:
                agent_mm, devices = (maps[name].astype(np.float32).T for name in ("agent_mm", "devices"))
                return ProjectedTree(agent_mm, devices, maps["mask"].T, maps["frame"].T)
        except Exception as error:  # numpy and zipfile raise many kinds, few of which name the file
            raise ValueError(f"{path} is no tree of a bank, or truncated: make it again with `cmunet trees`") from error


def paint(
    image: np.ndarray,
    agent_mm: np.ndarray,
    devices: np.ndarray,
    *,
    iodine_per_mm: float,
    scatter: float = 0.0,
    blur_px: float = 0.0,
    halo: float = 0.0,
    halo_px: float = 3.0,
) -> np.ndarray:
    """Darken a frame by what a contrast agent and devices absorb; (H, W) float32.

    Each grey level, which stands for the signal behind the patient, is multiplied by
    t = scatter + (1 - scatter) exp(-iodine_per_mm agent_mm - devices), blurred as the detector blurs, and sharpened as
    a display sharpens. Where agent and devices are 0 within reach of blur and halo, the frame stays as it is.

    Args:
        image: (H, W) grey levels, 0 is no signal. Not modified.
        agent_mm: (H, W) length of each ray in undiluted agent, in mm.
        devices: (H, W) exponent.
        iodine_per_mm: attenuation of the agent per mm, as shown (the display's gamma included).
        scatter: share of the signal that no vessel darkens, since it comes from elsewhere.
        blur_px: standard deviation of focal spot, motion and detector blur.
        halo: strength of edge enhancement: the display adds so much of the difference to a blurred picture.
        halo_px: standard deviation of that blurred picture.
    Source: Beer-Lambert's law; the chain is that of `data_prep synthesize`.
    """
    transmitted = scatter + (1 - scatter) * np.exp(-iodine_per_mm * agent_mm - devices)
    change = (transmitted - 1).astype(np.float32)  # 0 where nothing is painted, also after a blur
    if blur_px > 0:
        change = cv2.GaussianBlur(change, (0, 0), blur_px, borderType=cv2.BORDER_REFLECT_101)
    if halo > 0:
        change = change + halo * (change - cv2.GaussianBlur(change, (0, 0), halo_px, borderType=cv2.BORDER_REFLECT_101))
    return image * np.maximum(1 + change, 0)


class RandPaintArteriesd(MapTransform, Randomizable):
    """Paint a random tree of a bank into a frame, and give its mask; now and then the tree's wholly synthetic frame.

    Frame and tree are mirrored and turned by quarters, each for itself, so that pairs are drawn anew every time.

    Args:
        keys: the frame, (1, S, S) grey levels from 0, its own arteries erased (`EraseArteriesd`). A float32 tensor of
            the same shape comes out.
        bank_dir: folder that `cmunet trees` wrote; its maps are brought to the frame's size.
        label_key: where the mask goes, (1, S, S) float32, 1 inside a painted artery, else 0.
        synthetic_share: probability of the wholly synthetic frame.
        iodine_per_mm: (median, spread of the logarithm) of the agent's attenuation as shown; 0.04 to 0.45 at most.
        allow_missing_keys: as in MONAI.
    Raises:
        FileNotFoundError, ValueError: if the bank or one of its trees cannot be read; for a frame that is no square.
    """

    def __init__(
        self,
        keys: KeysCollection,
        bank_dir: str | os.PathLike[str],
        *,
        label_key: str = "label",
        synthetic_share: float = 0.25,
        iodine_per_mm: tuple[float, float] = (0.14, 0.45),
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.bank = TreeBank(bank_dir)
        self.label_key = label_key
        self.synthetic_share = synthetic_share
        self.iodine_per_mm = (iodine_per_mm[0], iodine_per_mm[1])

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        row = dict(data)
        for key in self.key_iterator(row):
            image = frame_array(row[key], channels=1)[0]
            if image.shape[0] != image.shape[1]:
                raise ValueError(f"`{key}` must be a square frame to be turned, got {image.shape}")
            tree = self.bank[self.R.randint(len(self.bank))]
            turn, side = self._turn(), image.shape[0]
            if self.R.random_sample() < self.synthetic_share:
                painted = turn(_resized(tree.frame, side))
            else:
                agent_mm, devices = (turn(_resized(item, side)) for item in (tree.agent_mm, tree.devices))
                painted = paint(self._turn()(image), agent_mm, devices, **self._exposure())
            mask = turn(_resized(tree.mask, side))
            row[key] = torch.from_numpy(np.ascontiguousarray(painted, dtype=np.float32)[None])
            row[self.label_key] = torch.from_numpy(np.ascontiguousarray(mask, dtype=np.float32)[None])
        return row

    def _exposure(self) -> dict[str, float]:
        """How one picture is taken, at 256 pixels."""
        median, spread = self.iodine_per_mm
        edges = self.R.random_sample() < 0.5
        return {
            "iodine_per_mm": float(np.clip(median * np.exp(spread * self.R.standard_normal()), 0.04, 0.45)),
            "scatter": self.R.uniform(0.0, 0.4),
            "blur_px": self.R.uniform(0.3, 1.1),
            "halo": self.R.uniform(0.1, 1.2) if edges else 0.0,
            "halo_px": self.R.uniform(2.0, 8.0),
        }

    def _turn(self) -> Any:
        quarters, mirrored = self.R.randint(4), self.R.random_sample() < 0.5
        return lambda image: np.rot90(image[::-1] if mirrored else image, quarters)


def _resized(image: np.ndarray, side: int) -> np.ndarray:
    """A map at another size; a mask stays 0 and 1."""
    if image.shape[0] == side:
        return image
    shrinks = image.shape[0] > side
    method = cv2.INTER_NEAREST if image.dtype == np.uint8 else cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(np.ascontiguousarray(image), (side, side), interpolation=method))
