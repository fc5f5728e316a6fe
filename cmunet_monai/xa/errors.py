"""What can be wrong with an XA DICOM file.

The texts hold nothing of what is written in the file but its technical words (a SOP class, a transfer syntax, counts):
a damaged or mislabelled tag can hold a patient's name. The path stands in `path` only, since the folders of an export
are named after patients too.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO


class XAReadError(ValueError):
    """A file that gives no frames.

    Attributes:
        path: the file, where it is known; never part of the text.
    """

    def __init__(self, message: str, *, path: str | None = None) -> None:
        super().__init__(message)
        self.path = path


class NotAngiographyError(XAReadError):
    """A DICOM file of another SOP class."""


class DamagedDicomError(XAReadError):
    """A DICOM file that is cut, or whose parts contradict each other."""


class UnsupportedDicomError(XAReadError):
    """A file in a form that is not read here."""


class MissingDecoderError(XAReadError):
    """A compression whose decoder is not installed."""


class NoFilledTreeError(XAReadError):
    """A run in which no frame shows a filled coronary tree."""


@contextmanager
def typed_errors(file: str | os.PathLike[str] | BinaryIO, doing: str) -> Iterator[None]:
    """Turn whatever pydicom and the decoders raise on damaged data into an `XAReadError` that knows its file.

    The text of a foreign error is left out, and so is the error itself (`from None`): both quote values of the file.

    Args:
        file: its path, or the open file.
        doing: what fails, such as `reading its header`.
    Raises:
        XAReadError: as raised inside; `DamagedDicomError` for every other exception.
    """
    path = os.fspath(file) if isinstance(file, str | os.PathLike) else None
    try:
        yield
    except XAReadError as error:
        error.path = path
        raise
    except Exception:  # pydicom, Pillow, struct, numpy and the decoders each raise many kinds
        raise DamagedDicomError(f"{doing} failed: what stands there is damaged", path=path) from None
