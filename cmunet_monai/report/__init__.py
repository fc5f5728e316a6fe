"""Reads saved metrics and says what they show; never runs a model."""

from cmunet_monai.report.intervals import Interval, Summary, bootstrap_interval, hierarchical_bootstrap, summarise

__all__ = ["Interval", "Summary", "bootstrap_interval", "hierarchical_bootstrap", "summarise"]
