"""May the pixels of a run hold text?"""

from cmunet_monai.readers.xa_pixels import FloatFrame
from cmunet_monai.readers.xa_run import XARun
from data_prep.deidentification.text_like import text_like_boxes


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
