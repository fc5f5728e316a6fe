"""Several processes: started by torchrun, over nccl where there are GPUs, over gloo where there are none."""

import os

import torch
import torch.distributed


def start_process_group() -> None:
    """Join the process group that torchrun describes in the environment; once is enough.

    Raises:
        RuntimeError: if the process was not started by torchrun.
    """
    if "LOCAL_RANK" not in os.environ:
        raise RuntimeError(
            "multi_gpu_train.json runs under torchrun: "
            "torchrun --nproc_per_node N -m monai.bundle run --config_file \"['...', '...']\""
        )
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")


def stop_process_group() -> None:
    """Leave the process group when all processes have come to their end: none tears down what another still uses."""
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def local_device() -> torch.device:
    """This process' own GPU, or the CPU where there is none."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    torch.cuda.set_device(device)
    return device


def is_main_process() -> bool:
    """True in a run of one process, and in rank 0 of a distributed one."""
    return not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0
