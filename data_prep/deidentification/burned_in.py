"""May the pixels of a run hold text? Text that is burned in stands still while the frames go by."""

import numpy as np

from cmunet_monai.xa.pixels import FloatFrame
from cmunet_monai.xa.run import XARun
from data_prep.deidentification.text_like import text_like_boxes


class TemporalRange:
    """Minimum and maximum of frames (row, column) that pass by one at a time; without a frame there is neither."""

    darkest: FloatFrame
    brightest: FloatFrame

    def __init__(self) -> None:
        self.empty = True

    def add(self, frame: FloatFrame) -> None:
        if self.empty:
            self.darkest, self.brightest, self.empty = frame.copy(), frame.copy(), False
        else:
            np.minimum(self.darkest, frame, out=self.darkest)
            np.maximum(self.brightest, frame, out=self.brightest)


def reason_to_look(run: XARun, darkest: FloatFrame, brightest: FloatFrame) -> str | None:
    """What says that a person must look at a run before it is passed on, if anything does.

    Args:
        run: what its header says.
        darkest, brightest: (row, column) least and greatest value of each pixel over time.
    """
    if run.burned_in_annotation:
        return "declares burned-in annotations: a person must look at it"
    boxes = text_like_boxes(darkest, brightest)
    return f"shows text-like structure in {len(boxes)} places: a person must look at it" if boxes else None
