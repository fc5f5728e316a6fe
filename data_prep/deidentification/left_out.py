"""The header of a copy that leaves out damaged frames: nothing in it counts or points to them any more."""

from collections.abc import Collection
from copy import deepcopy
from itertools import accumulate, pairwise
from typing import Any

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.tag import Tag

_POINTERS = ("RWavePointer", "RepresentativeFrameNumber")
_PER_FRAME = ("PositionerPrimaryAngleIncrement", "PositionerSecondaryAngleIncrement")
_OF_MASKS = ("ApplicableFrameRange", "MaskFrameNumbers")
_RANGE = ("StartTrim", "StopTrim")


def without_frames(dataset: Dataset, left_out: Collection[int], frames: int) -> tuple[Dataset, tuple[str, ...]]:
    """A copy of a header for the frames that are left.

    Times between frames stay right: where one is left out between others, Frame Time becomes a Frame Time Vector.
    What names frames by number is renumbered. Where that is not possible (masks, trims and angles from frame to
    frame, if others than the last frames are left out) it goes.

    Args:
        dataset: the header. Not modified.
        left_out: numbers from 0.
        frames: how many there were.
    Returns:
        the header, and the keywords that it lost.
    """
    result = deepcopy(dataset)
    kept = [number for number in range(frames) if number not in left_out]
    result.NumberOfFrames = len(kept)
    new_number = {old + 1: new for new, old in enumerate(kept, start=1)}
    for keyword in _POINTERS:
        if keyword in result:
            _set(result, keyword, [new_number[old] for old in _values(result, keyword) if old in new_number])
    groups = result.get("PerFrameFunctionalGroupsSequence")
    if groups is not None and len(groups) == frames:
        result.PerFrameFunctionalGroupsSequence = [groups[number] for number in kept]
    _set_times(result, kept, frames)
    at_the_end = kept == list(range(len(kept)))
    lost = []
    for keyword in _PER_FRAME:
        if keyword in result:
            fits = at_the_end and len(_values(result, keyword)) == frames
            lost += [] if fits else [keyword]
            _set(result, keyword, _values(result, keyword)[: len(kept)] if fits else [])
    numbered = [(item, keyword) for item in result.get("MaskSubtractionSequence", ()) for keyword in _OF_MASKS]
    for place, keyword in (*numbered, *((result, keyword) for keyword in _RANGE)):
        if keyword in place and not at_the_end:
            lost.append(keyword)
            del place[keyword]
    return result, tuple(dict.fromkeys(lost))


def _set_times(dataset: Dataset, kept: list[int], frames: int) -> None:
    steps = [float(value) for value in _values(dataset, "FrameTimeVector")]
    gap = kept != list(range(kept[0], kept[0] + len(kept)))
    if len(steps) != frames:
        if not gap or not dataset.get("FrameTime"):
            return
        steps = [0.0] + [float(dataset.FrameTime)] * (frames - 1)
        del dataset["FrameTime"]
        dataset.FrameIncrementPointer = Tag("FrameTimeVector")
    starts = list(accumulate(steps))
    left = [starts[number] for number in kept]
    dataset.FrameTimeVector = [
        f"{value:.10g}" for value in (0.0, *(after - before for before, after in pairwise(left)))
    ]


def _values(dataset: Dataset, keyword: str) -> list[Any]:
    value = dataset.get(keyword)
    if value is None or value == "":
        return []
    return list(value) if isinstance(value, MultiValue | list | tuple) else [value]


def _set(dataset: Dataset, keyword: str, values: list[Any]) -> None:
    if values:
        setattr(dataset, keyword, values if len(values) > 1 else values[0])
    elif keyword in dataset:
        del dataset[keyword]
