"""Judge a package before anything in it is run, imported or unpacked: is it what `package` would write?

The few values and files in which a package is free are read, within bounds, and held to their form. All others are made
again from them, as this release writes them, and must be the same, byte for byte. Code of another origin, and wheels of
other packages, need a signature.
"""

import hashlib
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

from cmunet_monai.handover import layout, signature
from cmunet_monai.handover.archive import Member, copy_member, digest_of, read_archive
from cmunet_monai.handover.configs import checked_network, plain_metrics
from cmunet_monai.handover.pictures import check_picture
from cmunet_monai.handover.refused import Refused, quoted
from cmunet_monai.handover.release import Release, this_release
from cmunet_monai.handover.segment_frame import RUNTIME
from cmunet_monai.handover.strict_json import difference, read_json
from cmunet_monai.handover.weights import MAX_HEADER, read_channels
from cmunet_monai.handover.wheel import check_wheel, wheel_name

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

Value = TypeVar("Value")
MAX_FINDINGS = 50
_CONTROL = re.compile(
    r"[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)  # of writing direction, too; no UTF-8


@dataclass(frozen=True)
class Verdict:
    """What `verify_package` found; beyond `findings`, of an accepted package."""

    path: Path
    findings: tuple[str, ...]  # why it is refused, one sentence each; empty where it is accepted
    sha256: str = ""  # of the zip
    bundle: str = ""  # name of its folder
    signed: bool = False  # by the given key
    has_signature: bool = False  # by whatever key
    digests: dict[str, str] = field(default_factory=dict)  # path in the folder -> SHA-256
    facts: dict[str, Any] = field(default_factory=dict)  # its `network`, and the record of its `test` frame
    remarks: tuple[str, ...] = ()  # what a person should know of it

    @property
    def accepted(self) -> bool:
        return not self.findings

    def __str__(self) -> str:
        network = self.facts["network"]
        lines = [
            f"SHA-256: {self.sha256}",
            f"network: channels {list(network.channels)}, image_size {list(network.image_size)}",
            f"weights: SHA-256 {self.digests[layout.WEIGHTS]}",
        ]
        return "\n".join([*lines, *self.remarks])


def verify_package(path: str | os.PathLike[str], *, key: str | os.PathLike[str] | None = None) -> Verdict:
    """Judge the zip at `path`.

    Args:
        path: the package.
        key: PEM file of the public key that it must be signed with. None: integrity alone is judged.
    Raises:
        OSError: if there is no such file, or it or the key cannot be read.
        ValueError: if `key` holds no public Ed25519 key.
        RuntimeError: if a key is given and `cryptography` is not installed.
    """
    path = Path(path)
    public = signature.read_public_key(key) if key is not None else None
    if path.exists() and not path.is_file():
        raise OSError(f"{path} is no file")
    with path.open("rb") as stream:
        try:
            return _judge(path, stream, public)
        except Refused as error:
            return Verdict(path, (str(error),))


def _judge(path: Path, stream: BinaryIO, key: "Ed25519PublicKey | None") -> Verdict:
    release, findings = this_release(), list[str]()
    package = _Package(stream, release)
    has_signature = layout.SIGNATURE in package.members
    if key is not None or has_signature:
        sums = package.take(layout.SUMS, bytes)
        try:
            package.take(layout.SIGNATURE, lambda data: signature.check_signature(sums, data, key))
        except Refused as error:
            findings.append(str(error))
    signed = key is not None and not findings
    inputs, remarks = _read_inputs(package), list[str]()
    findings += [*_compare(package, inputs, release, remarks, signed=signed), *_check_free(package, inputs)]
    if len(findings) > MAX_FINDINGS:  # more than a person reads
        findings[MAX_FINDINGS:] = [f"and {len(findings) - MAX_FINDINGS} more reasons"]
    stream.seek(0)
    sha256 = hashlib.file_digest(stream, "sha256").hexdigest()  # type: ignore[arg-type]
    facts = {"network": inputs.network, "test": inputs.record()}
    signed = signed and not findings
    return Verdict(
        path,
        tuple(findings),
        sha256,
        package.bundle,
        signed,
        has_signature,
        package.digests,
        facts,
        tuple(remarks),
    )


class _Package:
    """The files of a zip by their path in its folder, of names and sizes that a package can have, and their SHA-256."""

    def __init__(self, stream: BinaryIO, release: Release) -> None:
        members = read_archive(stream)
        self.stream, self.members = stream, dict[str, Member]()
        self.bundle = members[0].name.split("/")[0]
        if self.bundle not in release.bundles:
            known = ", ".join(release.bundles)
            raise Refused(f"its folder is {quoted(self.bundle)}, where a package of this release is of {known}")
        for member in members:
            folder, _, name = member.name.partition("/")
            if folder != self.bundle:
                raise Refused(f"{quoted(member.name)}: lies outside the one folder of a package")
            layout.check_member(name, member.size)
            self.members[name] = member
        self.digests = {name: copy_member(stream, member) for name, member in self.members.items()}

    def take(self, name: str, read: Callable[[bytes], Value], most: int = -1) -> Value:
        """What `read` makes of a file, or of its first `most` bytes; a refusal says of which file it is."""
        if name not in self.members:
            raise Refused(f"{name}: missing")
        member = self.members[name]
        self.stream.seek(member.offset)
        try:
            return read(self.stream.read(member.size if most < 0 else min(most, member.size)))
        except Refused as error:
            raise Refused(f"{name}: {error}") from None


def _read_inputs(package: _Package) -> layout.Inputs:
    """The values in which the package is free.

    Raises:
        Refused: where one is missing, or not of its form.
    """

    def channels_of(head: bytes) -> tuple[int, ...]:
        return read_channels(head, package.members[layout.WEIGHTS].size)

    channels = package.take(layout.WEIGHTS, channels_of, 8 + MAX_HEADER)
    origin, runtime = package.take(layout.RECORD, _read_record)
    return layout.Inputs(
        package.bundle,
        package.take(layout.INFERENCE, lambda data: checked_network(channels, read_json(data).get("image_size"))),
        package.digests[layout.WEIGHTS],
        package.take(layout.SIDECAR, read_json),
        package.take(layout.METADATA, lambda data: plain_metrics(read_json(data).get("eval_metrics"))),
        ".nii" if "test/frame.nii" in package.members else ".png",
        origin,
        runtime,
    )


def _read_record(data: bytes) -> tuple[str, dict[str, str]]:
    """Origin and runtime of the test; from values of another form than theirs, another record is made again."""
    record = read_json(data)
    runtime = record.get("runtime")
    texts = runtime if isinstance(runtime, dict) else {}
    return layout.ORIGINS[record.get("origin") == layout.ORIGINS[1]], {
        name: str(texts.get(name))[:100] for name in RUNTIME
    }


def _compare(
    package: _Package, inputs: layout.Inputs, release: Release, remarks: list[str], *, signed: bool
) -> Iterator[str]:
    """Say which files are not those that follow from `inputs`, missing or too many."""
    rebuilt = layout.rebuild(inputs, release) | {layout.SUMS: layout.sums_text(package.digests)}
    expected = {name: digest_of(content) for name, content in rebuilt.items()} | release.bundles[package.bundle].digests
    own = f"wheels/{wheel_name(release)}"
    foreign = [name for name in package.digests if layout.FOREIGN_WHEEL.fullmatch(name)]
    free = {layout.SIGNATURE, *foreign, *filter(inputs.is_free, package.digests)}
    for name in sorted((package.digests.keys() | expected.keys() | inputs.pictures() | {layout.README}) - free):
        if name not in package.digests:
            yield f"{name}: missing"
        elif package.digests[name] == expected.get(name):
            continue
        elif name not in expected:
            yield f"{name}: not of this release with the network of the weights; a package holds no such file"
        elif name == own:
            wrong = package.take(own, lambda data: list(check_wheel(data, release, any_code=signed)))
            if signed and not wrong:
                remarks.append(f"{own} is not the code that is installed here: the signature alone vouches for it")
            else:
                yield from (f"{own}: {text}" for text in wrong or ["not that of this release"])
        elif name in rebuilt:
            yield f"{name}: {package.take(name, partial(difference, expected=rebuilt[name]))}"
        else:
            yield f"{name}: not that of this release"
    if foreign and signed:
        remarks.append(f"{len(foreign)} wheels of other packages: the signature alone vouches for them")
    elif foreign:
        yield f"{foreign[0]}: one of {len(foreign)} wheels of other packages, for which a signature must vouch (--key)"


def _check_free(package: _Package, inputs: layout.Inputs) -> Iterator[str]:
    """Say which pictures and documents are not of the form that `package` writes them in."""
    sides = set()
    for name in sorted(filter(inputs.is_free, package.digests.keys() - {layout.WEIGHTS})):
        try:
            if name.endswith((".md", ".csv")):
                package.take(name, _check_text)
            elif (side := package.take(name, partial(check_picture, suffix=name[-4:]))) and name in inputs.pictures():
                sides.add(side)
        except Refused as error:
            yield str(error)
    if len(sides) > 1:
        yield f"{' and '.join(sorted(inputs.pictures()))}: must have one format and size"


def _check_text(content: bytes) -> None:
    if _CONTROL.search(content.decode("utf-8", errors="surrogateescape")):
        raise Refused("control characters in a text, or not UTF-8")
