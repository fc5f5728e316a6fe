"""Pre-train one UNet on unlabelled coronary X-ray angiograms, fine-tune it on few labelled ones, and measure it.

The parts are imported when they are first named, so that `import cmunet_monai` in a bundle's config is enough.
"""

from importlib import import_module
from types import ModuleType

PARTS = (
    "engines",
    "inferers",
    "losses",
    "methods",
    "metrics",
    "networks",
    "readers",
    "report",
    "study",
    "transforms",
    "writers",
)


def __getattr__(name: str) -> ModuleType:
    if name in PARTS:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
