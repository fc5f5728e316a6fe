"""Frames and labels from files: MONAI's readers, and the rows of data lists."""

from cmunet_monai.files.frame_size import frame_size
from cmunet_monai.readers.datalist import load_rows
from cmunet_monai.readers.frame_folder import list_frames
from cmunet_monai.readers.frame_reader import FrameReader
from cmunet_monai.readers.label_reader import LabelReader
from cmunet_monai.readers.xa_dicom import XADicomReader

__all__ = ["FrameReader", "LabelReader", "XADicomReader", "frame_size", "list_frames", "load_rows"]
