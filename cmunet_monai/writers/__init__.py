"""Results as files: masks with the geometry of their frame, pictures for people, segmentations for archives."""

from cmunet_monai.writers.dicom_seg import write_dicom_seg
from cmunet_monai.writers.mask import write_map, write_mask
from cmunet_monai.writers.overlay import draw_comparison, draw_outline, write_picture

__all__ = ["draw_comparison", "draw_outline", "write_dicom_seg", "write_map", "write_mask", "write_picture"]
