"""Which frames of an XA file are asked for: by number, all, or the best by its filling curve."""

import os
from collections.abc import Sequence
from typing import BinaryIO, Literal

from cmunet_monai.xa.errors import NoFilledTreeError
from cmunet_monai.xa.run import XARun, read_sound_frames

Frames = Literal["all", "fullest", "measure"] | Sequence[int]


def check_frames(frames: Frames | int) -> Frames:
    """`frames` as it is; numbers, or one number, as a tuple.

    Raises:
        ValueError: for another word, no number, one that is negative, no whole number, or there twice.
    """
    if isinstance(frames, str):
        if frames not in ("all", "fullest", "measure"):
            raise ValueError(f"`frames` must be `all`, `fullest`, `measure` or numbers of frames, got {frames!r}")
        return frames
    numbers = (frames,) if isinstance(frames, int) else tuple(frames)
    if not numbers:
        raise ValueError("`frames` must name at least one frame, got none")
    if any(type(number) is not int or number < 0 for number in numbers) or len(set(numbers)) < len(numbers):
        raise ValueError(f"`frames` must be different whole numbers from 0, got {list(numbers)}")
    return numbers


def choose_frames(
    file: str | os.PathLike[str] | BinaryIO,
    run: XARun,
    frames: Frames,
    *,
    require_xa: bool = True,
    damaged: dict[int, str] | None = None,
) -> tuple[int, ...]:
    """Numbers of the frames of a file, from 0.

    Args:
        file: as of `read_frames`; decoded once where the best frame is asked for.
        run: what `read_run` says of it.
        frames: `all`; numbers, taken as they are; `fullest`, the frame in which most of the coronary tree is filled;
            `measure`, a filled one in which the heart is still. A single frame is taken as it is: it has no course
            over time to be judged by.
        require_xa: as of `read_run`.
        damaged: gets number -> what is wrong, of the frames that the best one could not be chosen among.
    Raises:
        NoFilledTreeError: if no frame shows a filled tree.
        XAReadError: as by `read_frames`.
    """
    if frames == "all" or (isinstance(frames, str) and run.frames == 1):
        return tuple(range(run.frames))
    if not isinstance(frames, str):
        return tuple(frames)
    from cmunet_monai.xa.best_frame import filling_curve, fullest_frame, measure_frame

    damaged = {} if damaged is None else damaged
    curve = filling_curve(read_sound_frames(file, damaged=damaged, require_xa=require_xa, windowed=False))
    best = fullest_frame(curve) if frames == "fullest" else measure_frame(curve, r_wave_frames=run.r_wave_frames)
    if best is None:
        kind = " (it is fluoroscopy)" if run.fluoroscopy else ""
        raise NoFilledTreeError(
            f"none of its {run.frames} frames shows a filled coronary tree{kind}: --frames with a number takes that one"
        )
    return (best,)
