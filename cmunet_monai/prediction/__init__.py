"""From files to masks, pictures, measurements and quality, by a bundle's own `inference.json`."""

from cmunet_monai.prediction.predict import predict
from cmunet_monai.prediction.results import FrameResults
from cmunet_monai.prediction.run_batches import RunBatches

__all__ = ["FrameResults", "RunBatches", "predict"]
