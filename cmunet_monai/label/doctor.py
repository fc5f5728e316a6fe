"""What the label server needs, and how to get what is missing."""

import socket
import sys
from collections.abc import Iterator
from pathlib import Path

from cmunet_monai.doctor import Finding, installed_version

NEEDED = ("monailabel", "fastapi", "uvicorn", "pynrrd", "torch", "monai")
INSTALL = "`make label` makes an environment for it from constraints-monailabel.txt"


def examine(*, studies: Path | None, bundle: Path | None, host: str, port: int, token: str | None) -> list[Finding]:
    """Look at the environment, the studies, the bundle and the address; nothing is changed."""
    from cmunet_monai.label.guard import LEAST_TOKEN, lacks_token

    found = [*_packages(), *_inputs(studies, bundle)]
    if lacks_token(host, token):
        needed = f"--token-file with {LEAST_TOKEN} characters or more is needed beyond loopback"
        found.append(Finding(False, f"host {host}: {needed}"))
    found.append(examine_address(host, port))
    return found


def missing_packages() -> list[str]:
    """What is not installed of what the server needs."""
    return [name for name in NEEDED if installed_version(name) is None]


def _packages() -> Iterator[Finding]:
    for name in NEEDED:
        got = installed_version(name)
        yield Finding(got is not None, f"{name} {got}" if got else f"{name} is not installed: {INSTALL}")
    for name, below in (("numpy", 2), ("pydicom", 3)):
        got = installed_version(name)
        good = got is not None and int(got.split(".")[0]) < below
        text = f"{name} {got}" if good else f"{name} {got}, where MONAI Label 0.8.5 needs one below {below}: {INSTALL}"
        yield Finding(good, text)


def _inputs(studies: Path | None, bundle: Path | None) -> Iterator[Finding]:
    from cmunet_monai.handover.verify import verify_package
    from cmunet_monai.label.segmenter import WEIGHTS
    from cmunet_monai.readers.frame_folder import find_frames

    if studies is not None:
        try:
            _, pictures, files, _ = find_frames(studies)
            yield Finding(True, f"studies: {len(pictures)} PNG and NIfTI files, {len(files)} DICOM files")
        except (OSError, ValueError) as error:
            yield Finding(False, f"studies: {error}")
    if bundle is not None and bundle.is_file():
        verdict = verify_package(bundle)
        why = "; ".join(verdict.findings[:3])
        yield Finding(verdict.accepted, "bundle: a zip, verified" if verdict.accepted else f"bundle: refused: {why}")
    elif bundle is not None:
        for name in ("configs/inference.json", "configs/train.json", "configs/metadata.json", WEIGHTS.as_posix()):
            there = (bundle / name).is_file()
            yield Finding(there, f"bundle: {name}" + ("" if there else f" is missing in {bundle}"))


def examine_address(host: str, port: int) -> Finding:
    """Whether a server can listen there."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        if sys.platform != "win32":  # where it would take an address in use
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return Finding(False, f"address {host} port {port}: {error.strerror}; choose another --port")
    return Finding(True, f"address {host} port {port} is free")
