"""`cmunet check`: every mistake in a bundle run that can be seen before it starts, each by name."""

from importlib import import_module
from typing import Any

_HOME = {"Report": "run", "RunArguments": "arguments", "check_run": "run", "parse_arguments": "arguments"}

__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    """Import what is named when it is asked for: `check --help` then does without MONAI and torch."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
