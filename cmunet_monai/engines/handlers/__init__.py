"""What a handler of MONAI or ignite does not do."""

from cmunet_monai.engines.handlers.csv_log import CSVLog, named_losses
from cmunet_monai.engines.handlers.epoch import SetDataEpoch, SetMethodProgress
from cmunet_monai.engines.handlers.evaluation import EvaluationReport
from cmunet_monai.engines.handlers.non_finite import StopOnNonFiniteLoss
from cmunet_monai.engines.handlers.progress import ProgressBar
from cmunet_monai.engines.handlers.pseudo_labels import PseudoLabelPictures
from cmunet_monai.engines.handlers.reconstruction import ReconstructionPictures
from cmunet_monai.engines.handlers.resume import ResumableCheckpoint
from cmunet_monai.engines.handlers.save_weights import SaveUNetWeights
from cmunet_monai.engines.handlers.validation import PeriodicValidation, ValidationRecord

__all__ = [
    "CSVLog",
    "EvaluationReport",
    "PeriodicValidation",
    "ProgressBar",
    "PseudoLabelPictures",
    "ReconstructionPictures",
    "ResumableCheckpoint",
    "SaveUNetWeights",
    "SetDataEpoch",
    "SetMethodProgress",
    "StopOnNonFiniteLoss",
    "ValidationRecord",
    "named_losses",
]
