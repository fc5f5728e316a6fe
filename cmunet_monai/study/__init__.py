"""Compare pre-trained starts under one protocol, as plain bundle runs."""

from importlib import import_module
from typing import Any

_HOME = {"Study": "plan", "read_study": "plan", "run_study": "runner"}

__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    """Import what is named when it is asked for: `study --help` then does without MONAI and torch."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
