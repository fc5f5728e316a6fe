"""From files to masks, pictures, measurements and quality, by a bundle's own `inference.json`."""

from cmunet_monai.on_demand import on_demand

_HOME = {"predict": "run_bundle", "FrameResults": "results", "RunBatches": "run_batches"}

__all__ = list(_HOME)

__getattr__ = on_demand(__name__, _HOME)
