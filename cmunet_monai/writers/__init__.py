"""Results as files: masks with the geometry of their frame, pictures for people."""

from cmunet_monai.writers.mask import write_mask
from cmunet_monai.writers.overlay import draw_comparison, draw_outline, write_picture

__all__ = ["draw_comparison", "draw_outline", "write_mask", "write_picture"]
