"""The darkest and the brightest value of each pixel over a run, where text that is burned in stands still."""

import numpy as np
from numpy.typing import NDArray

FloatFrame = NDArray[np.float32]


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
