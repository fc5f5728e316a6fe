"""From files to masks, pictures, measurements and quality, by a bundle's own `inference.json`."""

from importlib import import_module
from typing import Any

_HOME = {"predict": "run_bundle", "FrameResults": "results", "RunBatches": "run_batches"}

__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    """Import what is named when it is asked for: `predict --help` then does without MONAI and torch."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
