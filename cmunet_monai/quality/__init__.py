"""Is this frame fit to be segmented, and is what was found in it to be trusted?"""

from cmunet_monai.quality.assess import Quality, assess_frame

__all__ = ["Quality", "assess_frame"]
