"""Run a bundle's `inference.json` on a file or folder."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cmunet_monai.bundle import check_no_mark, run_workflow
from cmunet_monai.shipped import SEGMENTATION, shipped_bundle
from cmunet_monai.xa.frame_choice import Frames


def predict(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    bundle: str | os.PathLike[str] | None = None,
    weights: Sequence[str | os.PathLike[str]] = (),
    frames: Frames | int = "fullest",
    **options: Any,
) -> dict[str, Any]:
    """Masks, overlays, measurements and quality for the frames of a file or folder.

    Args:
        source: PNG, NIfTI or XA DICOM file, or a folder of such files, mixed.
        output: folder; a second run with the same options goes on where the first stopped.
        bundle: the segmentation bundle; None takes the one that is installed with the package.
        weights: models whose mean is taken; none takes the bundle's own.
        frames: of a DICOM run: `fullest`, `measure`, `all`, or numbers from 0.
        options: others at the top of the bundle's `inference.json`, such as `flips`, `narrowings` or `spacing_mm`;
            `runtime` is `auto` here, the fastest that is installed.
    Returns:
        What `statistics.json` says.
    Raises:
        FileNotFoundError: if there is no such source, bundle or weights file, or no frame in the source.
        NotADirectoryError: if the output is a file.
        ValueError: if an option is unknown or cannot be.
    """
    root = Path(bundle) if bundle is not None else shipped_bundle(SEGMENTATION)
    config = root / "configs" / "inference.json"
    if not config.is_file():
        raise FileNotFoundError(f"no bundle at {root}: it has no configs/inference.json")
    check_no_mark(config)
    known = json.loads(config.read_text(encoding="utf-8"))
    unknown = sorted(options.keys() - known.keys())
    if unknown:
        raise ValueError(f"{config} has no {', '.join(unknown)}")
    if Path(output).is_file():
        raise NotADirectoryError(f"{output} is a file: name a folder for the results")
    settings: Mapping[str, Any] = {
        "runtime": "auto",
        **options,
        "source": os.fspath(source),
        "output_dir": os.fspath(output),
        "frames": frames,
        **({"weights": [os.fspath(path) for path in weights]} if weights else {}),
        "bundle_root": root,
    }
    run_workflow(config, workflow_type="infer", options=settings)
    summary: dict[str, Any] = json.loads((Path(output) / "statistics.json").read_text(encoding="utf-8"))
    return summary
