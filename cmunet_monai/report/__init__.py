"""Reads saved metrics and says what they show; never runs a model."""

from cmunet_monai.report.intervals import (
    Interval,
    PairedTest,
    Summary,
    bootstrap_interval,
    hierarchical_bootstrap,
    holm,
    paired_test,
    summarise,
)

__all__ = [
    "Interval",
    "PairedTest",
    "Summary",
    "bootstrap_interval",
    "hierarchical_bootstrap",
    "holm",
    "paired_test",
    "summarise",
]
