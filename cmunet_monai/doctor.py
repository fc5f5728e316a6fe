"""`cmunet doctor`: what is installed, what `predict` would take, what is missing, and how to get it."""
# ruff: noqa: T201 (what a person reads at the terminal is printed)

import hashlib
import json
import os
import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import TYPE_CHECKING

import cmunet_monai
from cmunet_monai.shipped import SEGMENTATION, shipped_bundle
from cmunet_monai.verbs import verb_parser

if TYPE_CHECKING:
    from packaging.requirements import Requirement

# extra -> what it brings
EXTRAS = {
    "runtimes": "faster prediction without a GPU",
    "dicom": "more forms of compressed DICOM; the verbs `dicom` and `deidentify`",
    "handover": "signed packages",
    "dask": "ingestion on a cluster",
    "mlflow": "training logged to MLflow",
    "label": "the server of `label`",
}
# what `predict` imports of this package, and by it of others
_LOADED = ("bundle", "inferers", "networks", "prediction.run_bundle", "prediction.results", "readers", "transforms")
NOT_TO_PREDICT = ("matplotlib", "tensorboard")
EPILOG = """\
ok: installed and usable. absent: not installed, but not needed by `predict`. MISSING: `predict` cannot run without it.

exit code: 0 where `predict` can run, 1 where it cannot
"""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        good: whether it is as it must be.
        text: what it is, and where it is not good, what to do.
        needed: whether nothing can run without it.
    """

    good: bool
    text: str
    needed: bool = True

    def __str__(self) -> str:
        return f"{'ok     ' if self.good else 'MISSING' if self.needed else 'absent '}  {self.text}"


def main(argv: Sequence[str]) -> int:
    """Print what is found, by subject."""
    parser = verb_parser("doctor", EPILOG)
    parser.add_argument("--bundle", type=Path, metavar="DIR", help="look at this bundle (default: the one installed)")
    bundle = parser.parse_args(argv).bundle
    print(f"cmunet_monai {version('cmunet_monai')} in {Path(cmunet_monai.__file__).parent}")
    print(f"Python {platform.python_version()}, {platform.platform()}")
    whole = True
    for title, findings in (
        ("packages", packages()),
        ("predict", examine_prediction(bundle)),
        ("extras", extras()),
    ):
        print(f"\n{title}")
        for finding in findings:
            print(f"  {finding}")
            whole &= finding.good or not finding.needed
    print(f"\n`predict` {'can run' if whole else 'cannot run: get what is MISSING first'}")
    return 0 if whole else 1


def installed_version(name: str) -> str | None:
    """Version of a distribution; None where it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def packages() -> Iterator[Finding]:
    """What `cmunet_monai` requires, without extras."""
    for requirement in _requirements(""):
        got = installed_version(requirement.name)
        good = got is not None and requirement.specifier.contains(got, prereleases=True)
        text = f"{requirement.name} {got or 'is not installed'}"
        text += "" if good else f", where {requirement.specifier} is asked for: {_pip(str(requirement))}"
        yield Finding(good, text, needed=requirement.name not in NOT_TO_PREDICT)


def extras() -> Iterator[Finding]:
    """The extras that this release has."""
    for extra, what in EXTRAS.items():
        names = [requirement.name for requirement in _requirements(extra)]
        if not names:
            continue
        lacking = [name for name in names if installed_version(name) is None]
        how = "`make label` in a clone" if extra == "label" else _pip(f"cmunet_monai[{extra}]")
        text = f"{extra}: {what}"
        yield Finding(
            not lacking, f"{text}; not installed: {', '.join(lacking)}: {how}" if lacking else text, needed=False
        )


def examine_prediction(bundle: Path | None = None) -> Iterator[Finding]:
    """Whether `predict` finds a bundle with weights, and what it would compute with.

    Args:
        bundle: another than the installed one.
    """
    yield from _weights(bundle)
    try:
        for module in _LOADED:
            import_module(f"cmunet_monai.{module}")
    except (ImportError, OSError) as error:  # the latter where a library of torch's is not there
        yield Finding(False, f"code: {error}")
        return
    import torch

    from cmunet_monai.inferers.runtime import choose_runtime

    gpu = torch.cuda.is_available()
    runtime, why = choose_runtime("auto", device="cuda" if gpu else "cpu")
    yield Finding(True, f"runtime: {runtime} ({why})")
    yield Finding(True, f"processors: torch computes on {torch.get_num_threads()} of {os.cpu_count()}")
    yield Finding(gpu, f"GPU: {torch.cuda.get_device_name()}" if gpu else "GPU: none that torch can use", needed=False)
    yield from _decoders()


def _weights(bundle: Path | None) -> Iterator[Finding]:
    try:
        folder = shipped_bundle(SEGMENTATION) if bundle is None else bundle
    except FileNotFoundError as error:
        yield Finding(False, f"bundle: {error}")
        return
    config, path = folder / "configs" / "inference.json", folder / "models" / "model.safetensors"
    yield Finding(
        config.is_file(), f"bundle: {folder}" + ("" if config.is_file() else " has no configs/inference.json")
    )
    if not path.is_file():
        yield Finding(False, f"weights: none at {path}; `predict` takes others by --weights")
        return
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    stated = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))["sha256"]
    same = f"weights: {path.stat().st_size / 1e6:.1f} MB, SHA-256 {digest}"
    other = f"weights: {path} is damaged: its SHA-256 is {digest}, its model.json says {stated}: install or fetch again"
    yield Finding(digest == stated, same if digest == stated else other)


def _decoders() -> Iterator[Finding]:
    yield Finding(True, "DICOM: not compressed, RLE, JPEG baseline")
    got = installed_version("imagecodecs")
    by = f"by imagecodecs {got}" if got else f"by imagecodecs, which is not installed: {_pip('cmunet_monai[dicom]')}"
    yield Finding(got is not None, f"DICOM: JPEG lossless, 12-bit JPEG, JPEG-LS, JPEG 2000, {by}", needed=False)


def _requirements(extra: str) -> "Iterator[Requirement]":
    """What the installed `cmunet_monai` requires for an extra, or for none."""
    from packaging.requirements import Requirement

    for text in requires("cmunet_monai") or ():
        requirement = Requirement(text)
        always, asked = (
            requirement.marker is None or requirement.marker.evaluate({"extra": name}) for name in ("", extra)
        )
        if asked and (always if not extra else not always):
            yield requirement


def _pip(what: str) -> str:
    return f"pip install '{what}'"
