"""Frames from files."""

from importlib import import_module
from typing import Any

from cmunet_monai.readers.datalist import load_rows
from cmunet_monai.readers.frame_folder import list_frames
from cmunet_monai.readers.frame_size import frame_size

__all__ = ["XADicomReader", "frame_size", "list_frames", "load_rows"]


def __getattr__(name: str) -> Any:
    # imports MONAI and torch, which the processes of an ingestion do without
    if name == "XADicomReader":
        return import_module("cmunet_monai.readers.xa_dicom").XADicomReader
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
