"""Make the zip of a bundle and its weights that a partner gets."""

import logging
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cmunet_monai.files.atomic import atomic_path
from cmunet_monai.handover import layout, signature
from cmunet_monai.handover.archive import digest_of, open_source, write_archive
from cmunet_monai.handover.configs import Network, checked_network
from cmunet_monai.handover.layout import Inputs
from cmunet_monai.handover.pictures import plain_picture
from cmunet_monai.handover.refused import Refused
from cmunet_monai.handover.release import REGENERATE, BundleFiles, Release, this_release
from cmunet_monai.handover.segment_frame import mask_pixels, run_module, runtime, segment_frame
from cmunet_monai.handover.strict_json import read_json
from cmunet_monai.handover.verify import Verdict, verify_package
from cmunet_monai.handover.weights import MAX_HEADER, read_channels
from cmunet_monai.handover.wheel import requirements_text

logger = logging.getLogger(__name__)

MIN_FRAME, MAX_FRAME = 64, 512
UNMEASURED = ("seconds",)  # of a summary: a matter of the machine


def build_package(
    bundle: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    weights: str | os.PathLike[str] | None = None,
    image_size: Sequence[int] | None = None,
    evaluation: str | os.PathLike[str] | None = None,
    test_frame: str | os.PathLike[str] = "synthetic",
    consent: bool = False,
    wheels: bool = False,
    key: str | os.PathLike[str] | None = None,
) -> Verdict:
    """Write the package `output` of the bundle in the folder `bundle`, and judge it as a partner would.

    The same input gives the same bytes, in the same environment (the mask and the record of the test depend on it).

    Args:
        weights: of a trained segmentation model, its sidecar beside it; None: those in the bundle's `models/`.
        image_size: (H, W) that the network gets; None: that of the sidecar, or else of the bundle's inference.json.
        evaluation: `summary.json` of an evaluation of these weights, for the card and the metadata.
        test_frame: `synthetic`, or a PNG or NIfTI file.
        consent: whoever the frame in the file is of has agreed that it is shared.
        wheels: add the wheels of all that is needed (for this system and Python); takes a key.
        key: PEM file of the private key to sign with.
    Raises:
        OSError: if a file is missing or cannot be read or written.
        ValueError: if the bundle is not that of this release, the weights are none, or options do not go together.
        RuntimeError: if the test frame cannot be made or run, wheels cannot be had, or the result is refused.
    """
    bundle, output, release = Path(os.path.abspath(bundle)), Path(output), this_release()
    synthetic = test_frame == "synthetic"
    _check_options(output, test_frame, consent=consent, wheels=wheels, key=key)
    signing = signature.read_private_key(key) if key is not None else None
    known = _check_bundle(bundle, release)
    weights = bundle / layout.WEIGHTS if weights is None else Path(weights)
    inputs = _inputs(weights, bundle.name, image_size, known.configs["inference.json"]["image_size"])
    if evaluation is not None:
        inputs = replace(inputs, measured=_measured(evaluation, inputs.network, inputs.weights_sha256))
    output.parent.mkdir(parents=True, exist_ok=True)  # before the minutes that the test frame takes
    if not os.access(output.parent, os.W_OK):
        raise PermissionError(f"{output.parent} cannot be written to: choose another --output")
    with tempfile.TemporaryDirectory(prefix="cmunet-package-") as temporary:
        folder = Path(temporary)
        suffix, frame = plain_picture(_synthesize(folder, inputs.network) if synthetic else test_frame)
        inputs = replace(inputs, suffix=suffix, origin=layout.ORIGINS[0 if synthetic else 1])
        files: dict[str, bytes | Path] = {name: bundle / name for name in known.digests}
        files |= layout.rebuild(inputs, release) | {layout.WEIGHTS: weights, f"test/frame{suffix}": frame}
        files |= _documents(bundle)
        for name, source in files.items():
            path = folder / bundle.name / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with open_source(source) as stream, path.open("wb") as file:
                shutil.copyfileobj(stream, file)
        mask = segment_frame(folder / bundle.name, folder / bundle.name / f"test/frame{suffix}", folder / "run")
        marked = mask_pixels(mask)
        if marked.all() or not marked.any():
            logger.warning(
                "the expected mask marks %d of %d pixels, and tests little: another frame?", marked.sum(), marked.size
            )
        files[f"test/mask{suffix}"] = plain_picture(mask)[1]
        if wheels:
            files |= {f"wheels/{path.name}": path for path in _download_wheels(folder / "wheels", release)}
        files[layout.SUMS] = sums = layout.sums_text({name: digest_of(source) for name, source in files.items()})
        public = None
        if signing is not None:
            files[layout.SIGNATURE] = signature.sign(sums, signing)
            public = signature.write_public_key(signing, folder / "public.pem")
        with atomic_path(output) as path:
            with path.open("wb") as stream:
                write_archive(stream, {f"{bundle.name}/{name}": source for name, source in files.items()})
            verdict = verify_package(path, key=public)
            if not verdict.accepted:
                found = "; ".join(verdict.findings[:5])
                raise RuntimeError(f"{output} was not written, `verify` would refuse it: {found}")
    return replace(verdict, path=output)


def _check_options(output: Path, test_frame: object, *, consent: bool, wheels: bool, key: object) -> None:
    if output.suffix != ".zip":
        raise ValueError(f"a package's file must end in .zip, got {output.name}")
    if test_frame != "synthetic" and not consent:
        raise ValueError(
            f"the test frame {test_frame} may show a patient: give --consent if the patient has agreed that it is "
            "shared, or take the synthetic one"
        )
    if test_frame == "synthetic" and consent:
        raise ValueError("--consent is for a frame of a file: the synthetic one shows nobody")
    if wheels and key is None:
        raise ValueError(
            "--wheels needs --sign: this program cannot check the wheels of other packages, so `verify` accepts "
            "them under a signature alone"
        )


def _check_bundle(folder: Path, release: Release) -> BundleFiles:
    """The bundle must be that of this release, since `verify` holds the package to it."""
    if not (folder / layout.METADATA).is_file():
        raise FileNotFoundError(f"no bundle at {folder}: there is no {layout.METADATA} in it")
    known = release.bundles.get(folder.name)
    if known is None:
        raise ValueError(f"{folder.name} is not a bundle of this release; there are {', '.join(release.bundles)}")
    own, expected = (
        {"metadata.json": files.metadata} | files.configs | files.digests for files in (BundleFiles.read(folder), known)
    )
    changed = sorted(name for name in own.keys() | expected.keys() if own.get(name) != expected.get(name))
    if changed:
        raise ValueError(
            f"{folder} is not the bundle of this release ({', '.join(changed)} differs), and `verify` would refuse it. "
            "Settings that are not channels and image_size are given when it is run; in a checkout whose configs have "
            f"changed, run: {REGENERATE}"
        )
    return known


def _inputs(weights: Path, bundle: str, asked: Sequence[int] | None, default: list[int]) -> Inputs:
    """What the weights and their sidecar say; (H, W) is of the sidecar, else as asked for, else the bundle's."""
    if not weights.is_file():
        raise FileNotFoundError(f"no weights at {weights}: name them by --weights FILE.safetensors")
    if weights.suffix != ".safetensors":
        raise ValueError(f"{weights}: weights must be a .safetensors file; `cmunet convert` makes one")
    beside = weights.with_suffix(".json")
    try:
        sidecar = read_json(beside.read_bytes()) if beside.is_file() else {}
    except Refused as error:
        raise ValueError(f"{beside}: {error}") from None
    stated = sidecar.get("image_size")
    if stated is not None and asked is not None and list(asked) != stated:
        raise ValueError(f"--image-size is {list(asked)}, but the weights were trained at {stated} (their sidecar)")
    size = stated if stated is not None else default if asked is None else list(asked)
    with weights.open("rb") as file:
        head = file.read(8 + MAX_HEADER)
    try:
        network = checked_network(read_channels(head, weights.stat().st_size), size)
    except Refused as error:
        raise ValueError(f"{weights}: {error}") from None
    inputs = Inputs(bundle, network, digest_of(weights), sidecar, {}, ".png", layout.ORIGINS[0], runtime())
    for name, fact in inputs.facts().items():
        if name in sidecar and sidecar[name] != fact:
            raise ValueError(f"{beside}: `{name}` is {sidecar[name]}, where the weights beside it have {fact}")
    return inputs


def _measured(evaluation: str | os.PathLike[str], network: Network, digest: str) -> Mapping[str, Any]:
    """Means of the metrics in `summary.json`, and on how many images of which list."""
    path = Path(evaluation)
    path = path / "summary.json" if path.is_dir() else path
    try:
        summary = read_json(path.read_bytes())
        means = {name: values["mean"] for name, values in summary["metrics"].items() if name not in UNMEASURED}
        facts = {"images": summary["images"], "groups": summary["groups"]}
        failures = {"failure_rate": summary["metrics"]["dice"]["failure_rate"]}
    except (Refused, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is not the summary.json of an evaluation: {error}") from None
    size = summary.get("image_size")
    if size is not None and size != list(network.image_size):
        raise ValueError(
            f"{path} is of images of {size}, and the package has {list(network.image_size)} (--image-size)"
        )
    evaluated = Path(str(summary.get("weights")))
    if evaluated.is_file() and digest_of(evaluated) != digest:
        raise ValueError(f"{path} was computed with other weights: the SHA-256 of {evaluated} differs")
    rounded = {name: value if value is None else float(f"{value:.6g}") for name, value in means.items()}
    return facts | rounded | failures


def _documents(bundle: Path) -> dict[str, bytes | Path]:
    """The documents of a bundle; pictures without their texts."""
    paths = {path.relative_to(bundle).as_posix(): path for path in (bundle / "docs").rglob("*") if path.is_file()}
    kept = {name: path for name, path in paths.items() if layout.DOCUMENT.fullmatch(name) and name != layout.CARD}
    return {name: plain_picture(path)[1] if path.suffix == ".png" else path for name, path in kept.items()}


def _synthesize(folder: Path, network: Network) -> Path:
    """One synthetic frame, by the command of `data_prep`, which this package does not import."""
    size = min(max(*network.image_size, MIN_FRAME), MAX_FRAME)
    output = folder / "synthetic"
    words = ["data_prep", "synthesize", "--frames", "1", "--size", str(size), "--seed", "0", "--output", str(output)]
    run_module(words, folder, "making a synthetic test frame (--test-frame FILE takes another)")
    (frame,) = (output / "images").glob("*.png")
    return frame


def _download_wheels(folder: Path, release: Release) -> list[Path]:
    """Wheels of all that the package needs, in the tested versions, for this system and this Python."""
    folder.mkdir()
    pins = folder / "constraints.txt"
    pins.write_text("".join(f"{name}=={version}\n" for name, version in release.tested.items()), encoding="utf-8")
    wanted = [line for line in requirements_text(release).decode().splitlines() if line[0].isalnum()]
    words = ["pip", "download", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:"]
    run_module(
        [*words, "--dest", str(folder), "--constraint", str(pins), *wanted],
        folder,
        "downloading wheels (pip's own settings choose the index, such as PIP_INDEX_URL for torch without CUDA)",
    )
    return sorted(folder.glob("*.whl"))
