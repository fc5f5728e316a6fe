"""Compare pre-trained starts under one protocol, as plain bundle runs."""

from cmunet_monai.on_demand import on_demand

_HOME = {"Study": "plan", "read_study": "plan", "run_study": "runner"}

__all__ = list(_HOME)

__getattr__ = on_demand(__name__, _HOME)
