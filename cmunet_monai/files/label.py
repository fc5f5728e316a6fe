"""A drawn label as classes: what was meant by its pixels, or a refusal.

A frame becomes luminance; a label must not. In a label a palette's number is the class whatever colour it is shown in,
what is transparent is not drawn, and a colour is one class. Whatever could be meant in two ways is refused.
"""

import os
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cmunet_monai.files.frame_size import frame_size
from cmunet_monai.files.label_place import in_order_of_frame
from cmunet_monai.files.nifti import is_nifti, nifti_shape, read_nifti
from cmunet_monai.files.picture import read_picture

MAX_CLASS = 63
_HOW = f"a label holds 0 for background and one other value, or classes from 0 to {MAX_CLASS}"


@dataclass(frozen=True)
class Label:
    """A label as it was drawn.

    Attributes:
        classes: (W, H, N) uint8, 0 background; N frames, 1 of a PNG.
        affine: (4, 4) of a NIfTI file; None of a PNG, which has no place in space.
    """

    classes: NDArray[np.uint8]
    affine: NDArray[np.float64] | None

    @property
    def vessel_share(self) -> float:
        """Share of the pixels that are vessel, from 0 to 1."""
        return float(np.count_nonzero(self.classes) / self.classes.size)


def read_label(path: str | os.PathLike[str]) -> Label:
    """Read a label, PNG or NIfTI.

    Args:
        path: grey levels or numbers: 0 and one other, or classes. Palette: its numbers are classes. Colour: black and
            one other. Transparent: what is opaque is vessel, where all of it has one colour.
    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it cannot be read, or what it means is open; the text names it.
    """
    try:
        if is_nifti(path):
            image = read_nifti(path)
            values = _planes(np.asanyarray(image.dataobj))
            return Label(_classes_of(values), np.asarray(image.affine, np.float64))
        drawn = _drawn(read_picture(path))
        return Label(np.ascontiguousarray(_classes_of(drawn).T[..., None]), None)
    except ValueError as error:
        raise ValueError(f"{os.fspath(path)}: no label: {error}") from None


def _planes(values: NDArray[np.generic]) -> NDArray[np.generic]:
    """(W, H, N) of a NIfTI file's values."""
    while values.ndim > 2 and values.shape[-1] == 1:
        values = values[..., 0]
    if values.ndim not in (2, 3):
        raise ValueError(f"it must be (W, H) or (W, H, frames), got {values.shape}")
    return values if values.ndim == 3 else values[..., None]


def _classes_of(values: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Numbers as classes: 0 and one other as they are (beyond `MAX_CLASS` as 1), or whole numbers up to it."""
    if values.dtype.kind not in "biuf":
        raise ValueError(f"it must hold numbers, got {values.dtype}")
    found = np.unique(values)
    if not np.isfinite(found).all() or (found != np.rint(found)).any() or found[0] < 0:
        raise ValueError(f"it must hold whole numbers, got {found[0]:g} to {found[-1]:g}; {_HOW}")
    if len(found) > 2 and found[-1] > MAX_CLASS:
        raise ValueError(
            f"it has {len(found)} grey levels up to {found[-1]:g}, which may come from soft (antialiased) edges; {_HOW}"
        )
    if found[0] != 0:
        raise ValueError(f"it has no background pixel (value 0): the smallest value is {found[0]:g}; {_HOW}")
    if found[-1] > MAX_CLASS:
        return (values != 0).astype(np.uint8)
    return values.astype(np.uint8)


def _drawn(image: Image.Image) -> NDArray[np.generic]:
    """(H, W) numbers of a picture, 0 where nothing is drawn."""
    if image.mode == "P":
        return _palette_numbers(image)
    transparent = image.info.get("transparency")
    if transparent is not None and np.any(transparent):  # transparent black is background anyway
        image = (
            image.convert("LA" if image.mode in ("1", "L") else "RGBA") if image.mode in ("1", "L", "RGB") else image
        )
        if "A" not in image.mode:
            raise ValueError("one of its levels is transparent: save it without transparency")
    if image.mode in ("LA", "RGBA"):
        values = np.asarray(image)
        if (values[..., -1] < 255).any():
            return _opaque(values)
        return _one_colour(values[..., :-1])
    if image.mode == "RGB":
        return _one_colour(np.asarray(image))
    if image.mode not in ("1", "L", "I", "I;16", "I;16B"):
        raise ValueError(f"its pixel format (mode {image.mode}) cannot be read as a label: save it as greyscale")
    return np.asarray(image)


def _palette_numbers(image: Image.Image) -> NDArray[np.uint8]:
    numbers = np.asarray(image)
    used = np.unique(numbers)
    colours = len(image.getpalette() or ()) // 3
    if used[-1] >= colours:
        raise ValueError(f"it is damaged: a pixel has palette index {used[-1]}, but the palette has {colours} colours")
    transparent = image.info.get("transparency", b"")
    if isinstance(transparent, int):
        transparent = bytes(0 if number == transparent else 255 for number in range(colours))
    hidden = [int(number) for number in used if number and number < len(transparent) and transparent[number] < 255]
    if hidden:
        raise ValueError(
            f"palette index {hidden[0]} is transparent, so it is unclear whether its pixels are labelled: save "
            "it without transparency"
        )
    return numbers


def _opaque(values: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """What is opaque, where all of it has one colour."""
    alpha, colours = values[..., -1], values[..., :-1]
    if not np.isin(alpha, (0, 255)).all():
        raise ValueError("it is half transparent in places (soft edges?): save it with vessel opaque, all else not")
    opaque = alpha == 255
    kinds = np.unique(colours[opaque] if opaque.any() else colours.reshape(-1, colours.shape[-1]), axis=0)
    if len(kinds) > 1:
        what = "what is opaque has" if opaque.any() else "it is wholly transparent and has"
        raise ValueError(f"{what} {len(kinds)} colours, so that vessel cannot be told: save it as grey levels; {_HOW}")
    return opaque


def _one_colour(values: NDArray[np.uint8]) -> NDArray[np.generic]:
    """Colours (H, W, 3) or (H, W, 1) as numbers: grey ones as they are, else 1 where they are not black."""
    if values.shape[-1] == 1 or (values == values[..., :1]).all():
        return values[..., 0]
    kinds = np.unique(values.reshape(-1, values.shape[-1]), axis=0)
    if len(kinds) != 2 or kinds[0].any():
        raise ValueError(f"it holds {len(kinds)} colours, expected black and one other: save it as grey levels; {_HOW}")
    return (values != 0).any(axis=-1)


def read_label_of_frame(label: str | os.PathLike[str], frame: str | os.PathLike[str]) -> Label:
    """The label of a frame, brought into the frame's order of axes.

    Args:
        label: PNG or NIfTI.
        frame: PNG or NIfTI of one frame or several; its values are not looked at.
    Returns:
        classes (W, H, N) of the frame's size, with the frame's affine.
    Raises:
        FileNotFoundError: if one of the files is not there.
        ValueError: as of `read_label`, and if the label has another size or lies in another place than its frame.
    """
    found = read_label(label)
    affine = np.asarray(read_nifti(frame).affine, np.float64) if is_nifti(frame) else None
    try:
        classes = in_order_of_frame(found.classes, found.affine, frame_shape=planes_shape(frame), frame_affine=affine)
    except ValueError as error:
        raise ValueError(f"{os.fspath(label)}: {error}") from None
    return Label(classes, affine)


def planes_shape(path: str | os.PathLike[str]) -> tuple[int, int, int]:
    """(W, H, N) of a PNG or NIfTI file by its header: N frames, 1 of a PNG.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the header cannot be read, or the file has more than one axis behind W and H.
    """
    width, height = frame_size(path)
    if not is_nifti(path):
        return width, height, 1
    shape = [*nifti_shape(path)[2:]]
    while shape and shape[-1] == 1:
        shape.pop()
    if len(shape) > 1:
        raise ValueError(f"{os.fspath(path)} must be (W, H) or (W, H, frames), got {(width, height, *shape)}")
    return width, height, int(shape[0]) if shape else 1


def may_fit(label: str | os.PathLike[str], frame: str | os.PathLike[str]) -> bool:
    """Whether a label has its frame's size by their headers; axes of two NIfTI files may be exchanged."""
    size, expected = frame_size(label), frame_size(frame)
    return size == expected or (is_nifti(label) and is_nifti(frame) and size == expected[::-1])
