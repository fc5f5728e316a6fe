"""Frames from files."""

from cmunet_monai.readers.datalist import load_rows
from cmunet_monai.readers.frame_folder import list_frames

__all__ = ["list_frames", "load_rows"]
