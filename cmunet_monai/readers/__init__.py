"""Frames from files."""

from cmunet_monai.readers.datalist import load_rows
from cmunet_monai.readers.frame_folder import list_frames
from cmunet_monai.readers.frame_size import frame_size

__all__ = ["frame_size", "list_frames", "load_rows"]
