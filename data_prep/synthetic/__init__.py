"""Synthetic coronary angiograms with exact masks: anatomy (`tree`), C-arm (`projection`), X-ray system (`scanner`)."""

from data_prep.synthetic.frame import DEFAULT_MIN_CALIBRE_MM, SyntheticFrame, synthesize_frame

__all__ = ["DEFAULT_MIN_CALIBRE_MM", "SyntheticFrame", "synthesize_frame"]
