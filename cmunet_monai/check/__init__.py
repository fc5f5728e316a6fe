"""`cmunet check`: every mistake in a bundle run that can be seen before it starts, each by name."""

from cmunet_monai.on_demand import on_demand

_HOME = {"Report": "run", "RunArguments": "arguments", "check_run": "run", "parse_arguments": "arguments"}

__all__ = list(_HOME)

__getattr__ = on_demand(__name__, _HOME)
