"""Check the labels of a list: each can be read, fits its frame, and has about as much vessel as the others."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cmunet_monai.check.names import some
from cmunet_monai.files.label import read_label_of_frame

MOST_VESSEL = 0.5
OUTLIER_FACTOR = 5
MAX_NAMED = 20


def check_labels(rows: Sequence[Any], base_dir: Path, *, where: str) -> tuple[list[str], list[str]]:
    """Look at every label of a list.

    Args:
        rows: with `image` and `label`; others, and files that are not there, are not looked at.
        base_dir: what their paths start from.
        where: the list, for the texts.
    Returns:
        Mistakes: labels that cannot be read, do not fit, or of which vessel is more than half. Remarks: labels without
        vessel, and those with less than a fifth or more than five times the median share of the others.
    """
    problems: list[str] = []
    shares: dict[str, float] = {}
    for row in rows:
        image, label = (str(row.get(key) or "") for key in ("image", "label")) if isinstance(row, Mapping) else ("", "")
        if (base_dir / image).is_file() and (base_dir / label).is_file():
            try:
                shares[label] = read_label_of_frame(base_dir / label, base_dir / image).vessel_share
            except (OSError, ValueError) as error:
                problems.append(str(error))
    if len(problems) > MAX_NAMED:
        problems = [*problems[:MAX_NAMED], f"{where}: {len(problems) - MAX_NAMED} more labels cannot be used"]
    filled = {name: share for name, share in shares.items() if 0 < share <= MOST_VESSEL}
    median = float(np.median(list(filled.values()))) if filled else 0.0

    def named(what: str, chosen: Mapping[str, float]) -> list[str]:
        texts = some(f"{name} ({share:.1%})" for name, share in chosen.items())
        return [f"{where}: {len(chosen)} label(s) {what}: {texts}"] if chosen else []

    most = {name: share for name, share in shares.items() if share > MOST_VESSEL}
    none = {name: share for name, share in shares.items() if share == 0}
    far = {n: share for n, share in filled.items() if not median / OUTLIER_FACTOR <= share <= median * OUTLIER_FACTOR}
    problems += named("with more than half of the frame as vessel (inverted?)", most)
    remarks = named("without vessel", none)
    remarks += named(f"with far more or less vessel than the median of {median:.1%}", far)
    return problems, remarks
