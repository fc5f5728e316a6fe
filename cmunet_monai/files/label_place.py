"""Where a label lies, against its frame: programs turn and mirror axes, and say so in the affine alone."""

import numpy as np
from numpy.typing import NDArray

TOLERANCE_PX = 0.1
# ITK, and 3D Slicer with it, takes a picture's axes for left and posterior; NIfTI's are right and anterior
PICTURE_AFFINE = np.diag([-1.0, -1.0, 1.0, 1.0])


def in_order_of_frame(
    classes: NDArray[np.uint8],
    affine: NDArray[np.float64] | None,
    *,
    frame_shape: tuple[int, ...],
    frame_affine: NDArray[np.float64] | None,
) -> NDArray[np.uint8]:
    """A label with its axes in the order and direction of its frame's.

    Args:
        classes: (W, H, N) label. Not modified.
        affine: (4, 4), of the label; None where it has no place in space (PNG): its pixels are the frame's.
        frame_shape: (W, H, N).
        frame_affine: (4, 4), of the frame; None of a PNG, whose axes are those of a label that has them unturned, in
            NIfTI's sense or in ITK's.
    Returns:
        (W, H, N) of `frame_shape`.
    Raises:
        ValueError: if it has another size or lies in another place.
    """
    if affine is not None:
        if frame_affine is None:
            axes = np.sign(np.round(affine[:3, :3] / np.abs(affine[:3, :3]).max(), 3))
            if not any(np.array_equal(axes[:2, :2], known[:2, :2]) for known in (np.eye(4), PICTURE_AFFINE)):
                raise ValueError(
                    "its axes are rotated or mirrored, but its frame is a PNG, which has no orientation: "
                    "save the label as PNG"
                )
        else:
            classes = _turned(classes, _between(affine, frame_affine), frame_shape)
    if classes.shape != tuple(frame_shape):
        raise ValueError(f"it is {_size(classes.shape)}, its frame {_size(frame_shape)}: give it at the frame's size")
    return np.ascontiguousarray(classes)


def _between(affine: NDArray[np.float64], frame_affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """(4, 4), from the label's pixels to the frame's."""
    try:
        return np.asarray(np.linalg.solve(frame_affine, affine))
    except np.linalg.LinAlgError:
        raise ValueError("the affine in the header of its frame is singular: the header is damaged") from None


def _turned(
    classes: NDArray[np.uint8], between: NDArray[np.float64], frame_shape: tuple[int, ...]
) -> NDArray[np.uint8]:
    """Axes exchanged and mirrored as `between` says, where its corners are those of the frame."""
    axes = [int(np.argmax(np.abs(between[row, :3]))) for row in range(3)]
    exact = np.zeros((3, 3))
    exact[range(3), axes] = np.sign(between[range(3), axes])
    shape = np.array(classes.shape)[axes]
    away = ValueError(
        "it lies in another place than its frame (affine): save it with the frame's geometry, or as PNG if its pixels "
        "are the frame's"
    )
    if sorted(axes) != [0, 1, 2] or axes[2] != 2:
        raise away
    if tuple(shape) != tuple(frame_shape):
        return classes  # of another size, which the caller says
    first = np.where(exact[range(3), axes] < 0, shape - 1, 0)  # where the label's pixel 0 lies in the frame
    off = np.abs(between[:3, 3] - first)
    stretch = np.abs(between[:3, :3] - exact) * np.maximum(np.array(classes.shape) - 1, 0)
    # across frames half a slice: one frame has no thickness that anybody would set
    if off[:2].max() + stretch[:2].max() > TOLERANCE_PX or off[2] + stretch[2].max() > 0.5:
        raise away
    turned = classes.transpose(axes)
    flips = tuple(axis for axis in range(3) if exact[axis, axes[axis]] < 0 and shape[axis] > 1)
    return np.flip(turned, flips)


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(str(side) for side in (shape[:2] if shape[2:] == (1,) else shape))
