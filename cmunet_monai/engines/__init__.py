"""Training loops, schedules, seeded data and processes."""

from cmunet_monai.engines.distributed import local_device, start_process_group, stop_process_group
from cmunet_monai.engines.mean_teacher import MeanTeacher
from cmunet_monai.engines.mixed_batches import MixedBatchSampler, MixedDataset
from cmunet_monai.engines.pretrainer import Pretrainer
from cmunet_monai.engines.schedules import adamw, learning_rate_for_batch, one_cycle, warmup_cosine
from cmunet_monai.engines.seeding import SeededCacheDataset
from cmunet_monai.engines.weights import load_trained, start_from

__all__ = [
    "MeanTeacher",
    "MixedBatchSampler",
    "MixedDataset",
    "Pretrainer",
    "SeededCacheDataset",
    "adamw",
    "learning_rate_for_batch",
    "load_trained",
    "local_device",
    "one_cycle",
    "start_from",
    "start_process_group",
    "stop_process_group",
    "warmup_cosine",
]
