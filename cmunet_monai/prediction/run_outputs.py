"""What a whole DICOM run gets: a moving picture, and a DICOM segmentation."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cmunet_monai.files.atomic import atomic_path
from cmunet_monai.files.nifti import read_nifti
from cmunet_monai.files.picture import read_picture

Row = Mapping[str, Any]

DEFAULT_FRAME_TIME_MS = 1000 / 15
LONGEST_SIDE_PX = 512


def runs_of(rows: Sequence[Row]) -> Iterator[tuple[str, list[Row]]]:
    """The DICOM runs among rows, each with its frames."""
    for run, group in groupby(rows, key=lambda row: row.get("run")):
        if run is not None:
            yield run, list(group)


def write_animation(overlays: Sequence[Path], path: Path, *, frame_time_ms: float | None) -> None:
    """Write overlays, in their order, as an animated GIF of at most 512 px a side that goes round.

    Args:
        overlays: PNG files of one size.
        path: the `.gif`.
        frame_time_ms: of each picture; None takes 15 a second.
    """
    pictures = []
    for overlay in overlays:
        picture = read_picture(overlay)
        picture.thumbnail((LONGEST_SIDE_PX, LONGEST_SIDE_PX))
        pictures.append(picture.convert("P", palette=Image.Palette.ADAPTIVE, colors=128))
    # viewers take less than 20 ms for a mistake, and play at 100
    time_ms = max(20, round(frame_time_ms or DEFAULT_FRAME_TIME_MS))
    with atomic_path(path) as temporary:
        pictures[0].save(temporary, format="GIF", save_all=True, append_images=pictures[1:], duration=time_ms, loop=0)


def read_masks(paths: Sequence[Path]) -> NDArray[np.bool_]:
    """NIfTI masks of a run as (N, H, W), row 0 at the top."""
    return np.stack([np.asarray(read_nifti(path).dataobj).squeeze(-1).T > 0 for path in paths])
