"""Unpack an accepted package, and run its test frame."""

import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from cmunet_monai.handover.archive import chunks, read_archive
from cmunet_monai.handover.refused import Refused
from cmunet_monai.handover.segment_frame import dice_of, runtime, segment_frame
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
    folder = Path(folder)
    target = folder / verdict.bundle
    if target.exists() or target.is_symlink():
        raise FileExistsError(f"{target} is there already: name another folder, or remove it")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".tmp-", dir=folder) as temporary, verdict.path.open("rb") as stream:
        unpacked = Path(temporary) / verdict.bundle
        members = {member.name.removeprefix(f"{verdict.bundle}/"): member for member in read_archive(stream)}
        if members.keys() != verdict.digests.keys():
            raise Refused(f"{verdict.path} changed since it was judged: it holds other files")
        for name, member in members.items():
            path = unpacked / name
            path.parent.mkdir(parents=True, exist_ok=True)
            digest = hashlib.sha256()
            with path.open("xb") as file:
                for chunk in chunks(stream, member):
                    digest.update(chunk)
                    file.write(chunk)
            if digest.hexdigest() != verdict.digests[name]:
                raise Refused(f"{verdict.path} changed since it was judged: {name}")
        unpacked.rename(target)
    return target


@dataclass(frozen=True)
class TestRun:
    """How the mask of the test frame compares with the expected one.

    Attributes:
        dice: of the two masks; 1 where both are empty.
        pixels: in how many they differ.
        same_runtime: versions and processor are those that the expected mask was made with.
        tolerance: the least Dice that is accepted in another runtime; in the same one, no pixel may differ.
    """

    __test__ = False  # the name is no test class's

    dice: float
    pixels: int
    same_runtime: bool
    tolerance: float

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
        ValueError: if the package was refused.
        RuntimeError: where inference fails.
    """
    with tempfile.TemporaryDirectory(prefix="cmunet-test-") as temporary:
        bundle = extract_package(verdict, temporary)
        record = verdict.facts["test"]
        mask = segment_frame(bundle, bundle / record["frame"], Path(temporary) / "run")
        dice, pixels = dice_of(mask, bundle / record["mask"])
    return TestRun(dice, pixels, record["runtime"] == runtime(), record["dice_tolerance"])
