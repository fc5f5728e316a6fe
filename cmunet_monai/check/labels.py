"""The labels of a list: whether each can be read, fits its frame, and holds about as much vessel as the others."""

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
        if not isinstance(row, Mapping) or not (
            isinstance(row.get("image"), str) and isinstance(row.get("label"), str)
        ):
            continue
        image, label = base_dir / row["image"], base_dir / row["label"]
        if not image.is_file() or not label.is_file():
            continue
        try:
            shares[row["label"]] = read_label_of_frame(label, image).vessel_share
        except (OSError, ValueError) as error:
            problems.append(str(error))
    if len(problems) > MAX_NAMED:
        problems = [*problems[:MAX_NAMED], f"{where}: {len(problems) - MAX_NAMED} more labels cannot be used"]
    inverted = [name for name, share in shares.items() if share > MOST_VESSEL]
    if inverted:
        problems.append(
            f"{where}: {len(inverted)} label(s) with more than half of the frame as vessel (inverted?): "
            f"{some(_with_share(inverted, shares))}"
        )
    return problems, list(_outliers(shares, where))


def _outliers(shares: Mapping[str, float], where: str) -> list[str]:
    empty = [name for name, share in shares.items() if share == 0]
    filled = {name: share for name, share in shares.items() if 0 < share <= MOST_VESSEL}
    remarks = [f"{where}: {len(empty)} label(s) without vessel: {some(empty)}"] if empty else []
    if filled:
        median = float(np.median(list(filled.values())))
        far = [n for n, share in filled.items() if not median / OUTLIER_FACTOR <= share <= median * OUTLIER_FACTOR]
        if far:
            remarks.append(
                f"{where}: {len(far)} label(s) with far more or less vessel than the median of {median:.1%}: "
                f"{some(_with_share(far, shares))}"
            )
    return remarks


def _with_share(names: Sequence[str], shares: Mapping[str, float]) -> list[str]:
    return [f"{name} ({shares[name]:.1%})" for name in names]
