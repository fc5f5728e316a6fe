"""Make the zip of a bundle and its weights that a partner gets."""

import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmunet_monai.files.atomic import atomic_path
from cmunet_monai.handover import layout, signature
from cmunet_monai.handover.archive import write_archive
from cmunet_monai.handover.card import card_text
from cmunet_monai.handover.configs import Network, check_extent, config_texts, image_size_of, json_text, metadata_text
from cmunet_monai.handover.pictures import plain_picture
from cmunet_monai.handover.refused import Refused
from cmunet_monai.handover.release import REGENERATE, Release, this_release
from cmunet_monai.handover.segment_frame import marked_pixels, run_module, runtime, segment_frame
from cmunet_monai.handover.strict_json import read_json
from cmunet_monai.handover.tensors import channels_of, read_header
from cmunet_monai.handover.verify import DICE_TOLERANCE, ORIGINS, PARTS, Verdict, check_sidecar, verify_package
from cmunet_monai.handover.wheel import build_wheel, requirements_text, wheel_name

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

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
        bundle: folder in MONAI's layout, of this release.
        output: `.zip` file to write.
        weights: `.safetensors` of a trained segmentation model, its sidecar beside it; None: those in the bundle's
            `models/`. The configs are set to their channels.
        image_size: (H, W) that the network gets; None: that of the sidecar, or else of the bundle's inference.json.
        evaluation: `summary.json` of an evaluation of these weights, for the card and the metadata.
        test_frame: `synthetic`, or a PNG or NIfTI file.
        consent: whoever the frame in the file is of has agreed that it is shared.
        wheels: add the wheels of all that is needed, for a machine without a network (for this system and Python);
            takes a key.
        key: PEM file of the private key to sign with.
    Returns:
        The verdict of `verify_package`, which accepts it.
    Raises:
        OSError: if a file is missing or cannot be read or written.
        ValueError: if the bundle is not that of this release, the weights are none, or options do not go together.
        RuntimeError: if the test frame cannot be made or run, wheels cannot be had, or the result is refused.
    """
    bundle, output = Path(os.path.abspath(bundle)), Path(output)
    release = this_release()
    _check_options(output, test_frame, consent=consent, wheels=wheels, key=key)
    signing = signature.read_private_key(key) if key is not None else None
    _check_bundle(bundle, release)
    weights = Path(weights) if weights is not None else bundle / layout.WEIGHTS
    channels, digest = _read_weights(weights)
    sidecar = _sidecar(weights, channels, digest)
    network = Network(channels, _choose_image_size(image_size, sidecar, release, bundle.name))
    try:
        check_extent(network)
    except Refused as error:
        raise ValueError(f"{weights}: {error} (--image-size)") from None
    measured = _measured(evaluation, network, digest) if evaluation is not None else {}
    files = _bundle_files(bundle, release, network, measured)
    files |= {layout.WEIGHTS: weights, layout.SIDECAR: json_text(sidecar)}
    output.parent.mkdir(parents=True, exist_ok=True)  # before the minutes that the test frame takes
    if not os.access(output.parent, os.W_OK):
        raise PermissionError(f"{output.parent} cannot be written to: choose another --output")
    with tempfile.TemporaryDirectory(prefix="cmunet-package-") as temporary:
        folder = Path(temporary)
        test = _add_test(files, folder, bundle.name, test_frame, network, digest)
        metadata = release.bundles[bundle.name].metadata
        files[layout.CARD] = card_text(metadata, sidecar, network, measured, test)
        files[layout.REQUIREMENTS] = requirements_text(release)
        files[f"wheels/{wheel_name(release)}"] = build_wheel(release)
        if wheels:
            files |= {f"wheels/{path.name}": path for path in _download_wheels(folder / "wheels", release)}
        return _write(output, bundle.name, files, signing, folder)


# What is asked for ----------------------------------------------------------------------------------------------------


def _check_options(output: Path, test_frame: object, *, consent: bool, wheels: bool, key: object) -> None:
    if output.suffix != ".zip":
        raise ValueError(f"a package's file must end in .zip, got {output.name}")
    if test_frame != "synthetic" and not consent:
        raise ValueError(
            f"the test frame {test_frame} may show a patient: give --consent if whoever it is of has agreed that it is "
            "shared, or take the synthetic one"
        )
    if test_frame == "synthetic" and consent:
        raise ValueError("--consent is for a frame of a file: the synthetic one shows nobody")
    if wheels and key is None:
        raise ValueError(
            "--wheels needs --sign: wheels of other packages cannot be held to anything here, so that `verify` accepts "
            "them under a signature alone"
        )


def _check_bundle(folder: Path, release: Release) -> None:
    """The bundle must be that of this release, since `verify` holds the package to it."""
    if not (folder / layout.METADATA).is_file():
        raise FileNotFoundError(f"no bundle at {folder}: there is no {layout.METADATA} in it")
    known = release.bundles.get(folder.name)
    if known is None:
        raise ValueError(f"{folder.name} is not a bundle of this release; there are {', '.join(release.bundles)}")
    own: dict[str, Any] = {path.name: path.read_bytes() for path in (folder / "configs").glob("*.json")}
    expected = known.configs | {"metadata.json": known.metadata}
    changed = sorted(own.keys() ^ expected.keys())
    changed += [name for name in sorted(own.keys() & expected.keys()) if not _same(own[name], expected[name])]
    if not changed:
        changed = [name for name, digest in known.digests.items() if _digest(folder / name) != digest]
    if changed:
        raise ValueError(
            f"{folder} is not the bundle of this release ({', '.join(changed)} differs), and `verify` would refuse it. "
            f"Settings that are not {' and '.join(('channels', 'image_size'))} are given when it is run; in a checkout "
            f"whose configs have changed, run: {REGENERATE}"
        )


def _same(content: bytes, expected: Any) -> bool:
    try:
        return json.dumps(read_json(content)) == json.dumps(expected)
    except Refused:
        return False


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# Weights --------------------------------------------------------------------------------------------------------------


def _read_weights(path: Path) -> tuple[tuple[int, ...], str]:
    """Channels and SHA-256 of trained weights."""
    if not path.is_file():
        raise FileNotFoundError(f"no weights at {path}: name them by --weights FILE.safetensors")
    if path.suffix != ".safetensors":
        raise ValueError(f"{path}: weights must be .safetensors; `python -m cmunet_monai convert` makes them of others")
    try:
        with path.open("rb") as file:
            channels = channels_of(read_header(file, path.stat().st_size))
    except Refused as error:
        raise ValueError(f"{path}: {error}") from None
    return channels, _digest(path)


def _sidecar(weights: Path, channels: tuple[int, ...], digest: str) -> dict[str, Any]:
    """What the sidecar beside the weights says; without one, what the weights themselves do."""
    path = weights.with_suffix(".json")
    if not path.is_file():
        architecture = {"in_channels": 1, "out_channels": 2, "channels": list(channels)}
        return {"architecture": architecture, "parts": PARTS, "sha256": digest}
    try:
        sidecar = read_json(path.read_bytes())
    except Refused as error:
        raise ValueError(f"{path}: {error}") from None
    for text in check_sidecar(sidecar, channels, digest):
        raise ValueError(f"{path}: {text}")
    return dict(sidecar)


def _choose_image_size(
    asked: Sequence[int] | None, sidecar: Mapping[str, Any], release: Release, bundle: str
) -> tuple[int, int]:
    """(H, W), from the sidecar, else as asked for, else as the bundle's inference.json has it."""
    stated = sidecar.get("image_size")
    if stated is not None and asked is not None and list(asked) != list(stated):
        raise ValueError(f"--image-size is {list(asked)}, but the weights were trained at {stated} (their sidecar)")
    config = release.bundles[bundle].configs["inference.json"]["image_size"]
    chosen = next(size for size in (stated, asked, config) if size is not None)
    try:
        return image_size_of(list(chosen))
    except Refused as error:
        raise ValueError(str(error)) from None


def _measured(evaluation: str | os.PathLike[str], network: Network, digest: str) -> dict[str, Any]:
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
    if size is not None and list(size) != list(network.image_size):
        raise ValueError(
            f"{path} is of images of {size}, and the package has {list(network.image_size)} (--image-size)"
        )
    evaluated = Path(str(summary.get("weights")))
    if evaluated.is_file() and _digest(evaluated) != digest:
        raise ValueError(f"{path} is of other weights: those at {evaluated} have another SHA-256")
    rounded = {name: value if value is None else float(f"{value:.6g}") for name, value in means.items()}
    return facts | rounded | failures


# Files ----------------------------------------------------------------------------------------------------------------


def _bundle_files(
    bundle: Path, release: Release, network: Network, measured: Mapping[str, Any]
) -> dict[str, bytes | Path]:
    known = release.bundles[bundle.name]
    files: dict[str, bytes | Path] = {f"configs/{name}": text for name, text in config_texts(known, network).items()}
    files[layout.METADATA] = metadata_text(known, network, measured)
    files |= {name: bundle / name for name in known.digests}
    documents = (path for path in (bundle / "docs").rglob("*") if path.is_file())
    names = {path.relative_to(bundle).as_posix(): path for path in documents}
    return files | {name: path for name, path in names.items() if layout.is_document(name)}


def _add_test(
    files: dict[str, bytes | Path], folder: Path, bundle: str, test_frame: object, network: Network, digest: str
) -> dict[str, Any]:
    """Add frame, expected mask and record to `files`; return the record."""
    synthetic = test_frame == "synthetic"
    suffix, content = plain_picture(_synthesize(folder, network) if synthetic else Path(str(test_frame)))
    staged = folder / bundle
    for name, source in files.items():
        path = staged / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(source) if isinstance(source, bytes) else shutil.copyfile(source, path)
    frame = folder / f"frame{suffix}"
    frame.write_bytes(content)
    written = segment_frame(staged, frame, folder / "run")
    marked, all_pixels = marked_pixels(written)
    if marked in (0, all_pixels):
        logger.warning("the expected mask marks %d of %d pixels, and tests little: another frame?", marked, all_pixels)
    _, mask = plain_picture(written)
    record = {
        "frame": f"test/frame{suffix}",
        "mask": f"test/mask{suffix}",
        "origin": ORIGINS[0 if synthetic else 1],
        "weights_sha256": digest,
        "dice_tolerance": DICE_TOLERANCE,
        "runtime": runtime(),
    }
    files |= {str(record["frame"]): content, str(record["mask"]): mask, layout.RECORD: json_text(record)}
    return record


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


def _write(
    output: Path, bundle: str, files: dict[str, bytes | Path], signing: "Ed25519PrivateKey | None", folder: Path
) -> Verdict:
    digests = {
        name: hashlib.sha256(source).hexdigest() if isinstance(source, bytes) else _digest(source)
        for name, source in files.items()
    }
    files[layout.SUMS] = sums = layout.sums_text(digests)
    public = None
    if signing is not None:
        files[layout.SIGNATURE] = signature.sign(sums, signing)
        public = signature.write_public_key(signing, folder / "public.pem")
    with atomic_path(output) as temporary:
        with temporary.open("wb") as stream:
            write_archive(stream, {f"{bundle}/{name}": source for name, source in files.items()})
        verdict = verify_package(temporary, key=public)
        if not verdict.accepted:
            raise RuntimeError(
                f"{output} was not written, `verify` would refuse it: " + "; ".join(verdict.findings[:5])
            )
    return replace(verdict, path=output)
