"""Compare pre-trained starts under one protocol, as plain bundle runs."""

from cmunet_monai.study.plan import Study, read_study
from cmunet_monai.study.runner import run_study

__all__ = ["Study", "read_study", "run_study"]
