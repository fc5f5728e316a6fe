"""Unpack an accepted package, and run its test frame."""

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from cmunet_monai.handover.archive import copy_member, read_archive
from cmunet_monai.handover.refused import Refused
from cmunet_monai.handover.segment_frame import mask_pixels, runtime, segment_frame
from cmunet_monai.handover.verify import Verdict


def extract_package(verdict: Verdict, folder: str | os.PathLike[str]) -> Path:
    """Write the files of an accepted package to `folder`/BUNDLE, whole or not at all.

    Every file is held once more to the SHA-256 that was judged, so that a zip that changed meanwhile is not unpacked.

    Returns:
        The path of the bundle.
    Raises:
        ValueError: if the package was refused.
        FileExistsError: if there is something at `folder`/BUNDLE.
        Refused: if the zip changed since it was judged.
    """
    if not verdict.accepted:
        raise ValueError(f"{verdict.path} was refused and is not unpacked: {verdict.findings[0]}")
    target = Path(folder) / verdict.bundle
    if target.exists() or target.is_symlink():
        raise FileExistsError(f"{target} is there already: name another folder, or remove it")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".tmp-", dir=folder) as temporary, verdict.path.open("rb") as stream:
        digests = {}
        for member in read_archive(stream):
            path = Path(temporary) / member.name
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as file:
                digests[member.name.removeprefix(f"{verdict.bundle}/")] = copy_member(stream, member, file)
        if digests != verdict.digests:
            raise Refused(f"{verdict.path} changed since it was judged")
        (Path(temporary) / verdict.bundle).rename(target)
    return target


@dataclass(frozen=True)
class TestRun:
    """How the mask of the test frame compares with the expected one."""

    __test__ = False  # the name is no test class's

    dice: float  # 1 where both are empty
    pixels: int  # in how many they differ
    same_runtime: bool  # versions and processor are those that the expected mask was made with
    tolerance: float  # the least Dice that is accepted in another runtime; in the same one, no pixel may differ

    @property
    def passed(self) -> bool:
        return self.pixels == 0 or (not self.same_runtime and self.dice >= self.tolerance)

    def __str__(self) -> str:
        where = "the runtime that it was made in" if self.same_runtime else "another runtime"
        demand = "no pixel may differ" if self.same_runtime else f"Dice must be at least {self.tolerance}"
        return f"{self.pixels} pixels differ from the expected mask, Dice {self.dice:.4f}; {where}: {demand}"


def run_test(verdict: Verdict) -> TestRun:
    """Unpack an accepted package to a temporary folder and run its test frame with the `cmunet_monai` that runs here.

    Raises:
        ValueError: if the package was refused, or the mask has another size than the expected one.
        RuntimeError: where inference fails.
    """
    with tempfile.TemporaryDirectory(prefix="cmunet-test-") as temporary:
        bundle, record = extract_package(verdict, temporary), verdict.facts["test"]
        mask = mask_pixels(segment_frame(bundle, bundle / record["frame"], Path(temporary) / "run"))
        expected = mask_pixels(bundle / record["mask"])
    if mask.shape != expected.shape:
        raise ValueError(f"masks of {mask.shape} and {expected.shape} pixels cannot be compared")
    both, marked = int((mask & expected).sum()), int(mask.sum()) + int(expected.sum())
    dice = 2 * both / marked if marked else 1.0
    return TestRun(dice, int((mask ^ expected).sum()), record["runtime"] == runtime(), record["dice_tolerance"])
