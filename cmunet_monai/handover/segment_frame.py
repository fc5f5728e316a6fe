"""The mask of one frame, by a bundle's own `configs/inference.json`, in a process of its own."""

import os
import platform
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np

import cmunet_monai
from cmunet_monai.bundle import Config, run_arguments

TIMEOUT_SECONDS = 1800
MEMORY_BYTES = 8 * 2**30
# as `python -m`, with a bound on what it may take for itself; Windows has none
_BOUNDED = """
import runpy, sys
limit, module = int(sys.argv[1]), sys.argv[2]
del sys.argv[1:3]
try:
    import resource
except ImportError:
    pass
else:
    least = min([limit, *(limit for limit in resource.getrlimit(resource.RLIMIT_DATA) if limit > 0)])
    resource.setrlimit(resource.RLIMIT_DATA, (least, least))
runpy.run_module(module, run_name="__main__", alter_sys=True)
"""
# What decides the pixels of a mask, beside the processor
_PACKAGES = ("monai", "nibabel", "numpy", "opencv-python-headless", "pillow", "scikit-image", "scipy", "torch")
RUNTIME = ("python", *_PACKAGES, "processor")


def runtime() -> dict[str, str]:
    """What a mask depends on beside frame, weights and code: two equal ones give the same mask, pixel by pixel."""
    import torch

    python = ".".join(platform.python_version_tuple()[:2])
    processor = f"{platform.system()} {platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
    return dict(zip(RUNTIME, (python, *map(version, _PACKAGES), processor), strict=True))


def segment_frame(bundle: Path, frame: Path, folder: Path) -> Path:
    """Run `python -m monai.bundle run` on one frame, on one thread of the CPU, with the `cmunet_monai` that runs here.

    Args:
        bundle: folder with configs and weights; must be trusted, since its configs are run.
        frame: `.png` or `.nii` file.
        folder: an empty folder for what it needs and writes.
    Returns:
        The path of the mask, in the format of the frame.
    Raises:
        RuntimeError: where the run fails or writes no mask; the end of its output is in the text.
    """
    frames, results = folder / "frames", folder / "results"
    frames.mkdir(parents=True)
    shutil.copyfile(frame, frames / frame.name)
    options = {
        "bundle_root": bundle,
        "dataset_dir": frames,
        "output_dir": results,
        "num_workers": 0,
        "device": Config("$torch.device('cpu')"),
    }
    words = run_arguments([bundle / "configs" / "inference.json"], options)
    run_module(words, folder, "inference of the test frame")
    mask = results / "masks" / frame.name
    if not mask.is_file():
        raise RuntimeError(f"inference of the test frame wrote no mask for {frame.name}")
    return mask


def run_module(words: list[str], folder: Path, what: str) -> None:
    """`python -m WORDS` in `folder`, which Python does not import from, with 8 GiB of memory at most.

    Raises:
        RuntimeError: where it fails or takes more than half an hour.
    """
    here = Path(cmunet_monai.__file__ or "").parents[1]
    installed = here.name in ("site-packages", "dist-packages")  # where Python looks anyway, after its own library
    path = os.pathsep.join(filter(None, ["" if installed else str(here), os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-P", "-c", _BOUNDED, str(MEMORY_BYTES), *words]
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"{what} took more than {TIMEOUT_SECONDS} seconds") from None
    if done.returncode:
        # of a chain of exceptions the first says what was wrong
        said = (done.stderr or done.stdout).split("\nThe above exception was the direct cause")[0]
        end = "\n".join(said.strip().splitlines()[-12:])
        raise RuntimeError(f"{what} failed (`python -m {words[0]}`, exit code {done.returncode}): {end}")


def mask_pixels(path: Path) -> np.ndarray:
    """Which pixels a mask marks, (W, H) bool."""
    from cmunet_monai.transforms import FrameReader

    array, _ = FrameReader().get_data((str(path),))
    return np.asarray(array) > 0
