"""Judge a package before anything in it is run, imported or unpacked.

What may differ from what this release itself would pack: the weights (numbers alone), `channels` and `image_size`,
measured values, the weights' sidecar, the test's pictures, and documents for people. All else must be the same, byte
for byte: whatever an interpreter, MONAI or pip would read. Code of another origin needs a signature.
"""

import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from cmunet_monai.handover import layout, signature
from cmunet_monai.handover.archive import CHUNK, Member, chunks, read_archive, read_member
from cmunet_monai.handover.card import card_text
from cmunet_monai.handover.configs import (
    Network,
    check_configs,
    check_extent,
    differences,
    eval_metrics_of,
    image_size_of,
    metadata_text,
)
from cmunet_monai.handover.pictures import check_picture
from cmunet_monai.handover.refused import Refused, quoted
from cmunet_monai.handover.release import BundleFiles, Release, this_release
from cmunet_monai.handover.strict_json import read_json
from cmunet_monai.handover.tensors import channels_of, read_header
from cmunet_monai.handover.wheel import check_wheel, requirements_text, wheel_name

DICE_TOLERANCE = 0.99
MAX_FINDINGS = 50
PARTS = ["encoder", "decoder", "head"]
ORIGINS = ("synthetic", "real, shared with consent")
_CONTROL = re.compile(r"[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")  # also of writing direction


@dataclass(frozen=True)
class Verdict:
    """What `verify_package` found.

    Attributes:
        path: the zip.
        findings: why it is refused, one sentence each; empty where it is accepted.
        sha256: of the zip; None where it was refused by its outer form, unread.
        bundle: name of its folder; empty where it was refused by its outer form.
        signed: a signature by the given key is valid.
        has_signature: there is a signature, by whatever key.
        digests: path in the folder -> SHA-256.
        facts: what the package says of its network, weights and test, where it is accepted.
        remarks: what a person should know of an accepted package.
    """

    path: Path
    findings: tuple[str, ...]
    sha256: str | None = None
    bundle: str = ""
    signed: bool = False
    has_signature: bool = False
    digests: dict[str, str] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()

    @property
    def accepted(self) -> bool:
        return not self.findings


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
    release = this_release()
    if path.exists() and not path.is_file():
        raise OSError(f"{path} is no file")
    with path.open("rb") as stream:
        try:
            members = read_archive(stream)
            bundle, inside = _inside(members, release)
        except Refused as error:
            return Verdict(path, (str(error),))
        found = list(_check_layout(inside, release))
        if found:
            return Verdict(path, _first(found), _digest_of(stream), bundle, has_signature=layout.SIGNATURE in inside)
        try:
            contents = _Contents(stream, inside, release)
        except Refused as error:
            return Verdict(path, (str(error),), _digest_of(stream), bundle)
        sums = contents.small[layout.SUMS]
        found += layout.check_sums(sums, contents.digests)
        signed = False
        if layout.SIGNATURE in inside:
            try:
                signature.check_signature(sums, contents.small[layout.SIGNATURE], public)
                signed = public is not None
            except Refused as error:
                found.append(f"{layout.SIGNATURE}: {error}")
        elif public is not None:
            found.append(f"{layout.SIGNATURE}: missing; with a key, only a package that it signed is accepted")
        judged = _Judgement(contents, release, release.bundles[bundle], signed)
        found += judged.findings
        return Verdict(
            path=path,
            findings=_first(found),
            sha256=_digest_of(stream),
            bundle=bundle,
            signed=signed and not found,
            has_signature=layout.SIGNATURE in inside,
            digests=contents.digests,
            facts=judged.facts,
            remarks=tuple(judged.remarks),
        )


def _first(found: list[str]) -> tuple[str, ...]:
    """No more findings than a person reads: a crafted package could make a million of them."""
    more = len(found) - MAX_FINDINGS
    return (*found[:MAX_FINDINGS], *([f"and {more} more reasons"] if more > 0 else []))


def _inside(members: list[Member], release: Release) -> tuple[str, dict[str, Member]]:
    """The bundle's name, and its members by their path in its folder.

    Raises:
        Refused: unless all lie in one folder with the name of a bundle of this release.
    """
    top = members[0].name.split("/")[0]
    for member in members:
        first, _, rest = member.name.partition("/")
        if first != top or not rest:
            raise Refused(f"{quoted(member.name)} lies outside the one folder that a package has ({quoted(top)})")
    if top not in release.bundles:
        raise Refused(f"its folder is {quoted(top)}, where this release knows {', '.join(release.bundles)}")
    return top, {member.name.removeprefix(f"{top}/"): member for member in members}


def _check_layout(inside: Mapping[str, Member], release: Release) -> Iterator[str]:
    for name, member in inside.items():
        try:
            limit = layout.size_limit(name, release)
        except Refused as error:
            yield str(error)
            continue
        if member.size > limit:
            yield f"{quoted(name)}: {member.size} bytes, more than the {limit} that it may have"
    large = sum(member.size for name, member in inside.items() if not layout.is_large(name, release))
    if large > layout.MAX_SMALL:
        yield f"{large} bytes beside weights and wheels, more than the {layout.MAX_SMALL} that they may have together"
    yield from layout.missing(inside, release)


def _digest_of(stream: BinaryIO) -> str:
    stream.seek(0)
    digest = hashlib.sha256()
    while chunk := stream.read(CHUNK):
        digest.update(chunk)
    return digest.hexdigest()


class _Contents:
    """Every file read once: small ones kept, of large ones the digest, and of the weights the header too.

    Raises:
        Refused: if the zip is damaged.
    """

    def __init__(self, stream: BinaryIO, inside: Mapping[str, Member], release: Release) -> None:
        self.small: dict[str, bytes] = {}
        self.digests: dict[str, str] = {}
        self.tensors: dict[str, tuple[str, tuple[int, ...]]] | Refused = Refused("not read")
        for name, member in inside.items():
            digest = hashlib.sha256()
            if name == layout.WEIGHTS:
                self._read_weights(stream, member)
            if layout.is_large(name, release):
                for chunk in chunks(stream, member):
                    digest.update(chunk)
            else:
                self.small[name] = read_member(stream, member)
                digest.update(self.small[name])
            self.digests[name] = digest.hexdigest()

    def _read_weights(self, stream: BinaryIO, member: Member) -> None:
        stream.seek(member.offset)
        try:
            self.tensors = read_header(stream, member.size)
        except Refused as error:
            self.tensors = error


class _Judgement:
    """The contents held to this release, file by file.

    A file counts as held only at the end of its check. Where one is not in the end, and nothing else was found, that
    itself is a finding: a check that is passed over must not let anything through.
    """

    def __init__(self, contents: _Contents, release: Release, bundle: BundleFiles, signed: bool) -> None:
        self.contents, self.release, self.bundle, self.signed = contents, release, bundle, signed
        self.findings: list[str] = []
        self.remarks: list[str] = []
        self.facts: dict[str, Any] = {}
        self.held = {layout.SUMS, layout.SIGNATURE}  # by `verify_package`
        self._hold_unchanged()
        self._hold_wheels()
        self._hold_texts()
        network = self._hold_weights()
        if network is not None:
            self._hold_configs(network)
        passed_over = sorted(contents.digests.keys() - self.held)
        if passed_over and not self.findings:
            self._refuse(quoted(passed_over[0]), "was not judged, by a mistake of `verify`: please report it")

    def _refuse(self, name: str, why: object) -> None:
        self.findings.append(f"{name}: {why}")

    def _json(self, name: str) -> dict[str, Any] | None:
        """Parsed content of a JSON file; None, and a finding, where it is refused or no dictionary."""
        try:
            content = read_json(self.contents.small[name])
            if isinstance(content, dict):
                return content
            raise Refused(f"must be a dictionary, got {quoted(content)}")
        except Refused as error:
            self._refuse(name, error)
            return None

    def _hold_unchanged(self) -> None:
        for name, digest in self.bundle.digests.items():
            if self.contents.digests[name] != digest:
                runs = " (logging.config evaluates what stands in it)" if name.endswith(".conf") else ""
                self._refuse(name, f"not that of this release{runs}")
            self.held.add(name)
        self.held.add(layout.REQUIREMENTS)
        if self.contents.small[layout.REQUIREMENTS] != requirements_text(self.release):
            self._refuse(layout.REQUIREMENTS, "not that of this release (pip installs, and runs, what stands in it)")

    def _hold_wheels(self) -> None:
        own = f"wheels/{wheel_name(self.release)}"
        same = list(check_wheel(self.contents.small[own], self.release, any_code=False))
        if same and self.signed:
            same = list(check_wheel(self.contents.small[own], self.release, any_code=True))
            self.remarks.append(f"{own} is not the code that is installed here: the signature alone vouches for it")
        for text in same:
            self._refuse(own, text)
        foreign = [name for name in self.contents.digests if layout.is_foreign_wheel(name, self.release)]
        if foreign and not self.signed:
            shown = ", ".join(quoted(name) for name in foreign[:3])
            self._refuse(
                "wheels", f"{len(foreign)} of other packages ({shown}), for which a signature must vouch: give --key"
            )
        elif foreign:
            self.remarks.append(f"{len(foreign)} wheels of other packages: the signature alone vouches for them")
        self.held |= {own, *foreign}

    def _hold_texts(self) -> None:
        for name, content in self.contents.small.items():
            if not layout.is_document(name):
                continue
            try:
                if name.endswith(".png"):
                    check_picture(content, ".png")
                elif _CONTROL.search(content.decode("utf-8")):
                    self._refuse(quoted(name), "control characters in a text")
            except UnicodeDecodeError:
                self._refuse(quoted(name), "not a UTF-8 text")
            except Refused as error:
                self._refuse(quoted(name), error)
            if name != layout.CARD:
                self.held.add(name)

    def _hold_weights(self) -> Network | None:
        """The network of weights, sidecar and inference.json, which must agree; None where one cannot be told."""
        try:
            if isinstance(self.contents.tensors, Refused):
                raise self.contents.tensors
            channels = channels_of(self.contents.tensors)
        except Refused as error:
            self._refuse(layout.WEIGHTS, error)
            channels = None
        sidecar, config = self._json(layout.SIDECAR), self._json(layout.INFERENCE)
        if channels is None or sidecar is None or config is None:
            return None
        for text in check_sidecar(sidecar, channels, self.contents.digests[layout.WEIGHTS]):
            self._refuse(layout.SIDECAR, text)
        try:
            image_size = image_size_of(config.get("image_size"))
            if "image_size" in sidecar and image_size_of(sidecar["image_size"]) != image_size:
                stated = sidecar["image_size"]
                self._refuse(layout.INFERENCE, f"`image_size` is {list(image_size)}, and that of the weights {stated}")
            check_extent(Network(channels, image_size))
        except Refused as error:
            self._refuse(layout.INFERENCE, error)
            return None
        self.facts |= {"network": Network(channels, image_size), "sidecar": sidecar}
        self.held |= {layout.WEIGHTS, layout.SIDECAR}
        return Network(channels, image_size)

    def _hold_configs(self, network: Network) -> None:
        small = self.contents.small
        texts = {name: small[f"configs/{name}"] for name in layout.config_names(small)}
        self.findings += check_configs(self.bundle, texts, network)
        self.held |= {f"configs/{name}" for name in texts}
        metadata, test = self._json(layout.METADATA), self._hold_test()
        if metadata is None:
            return
        try:
            measured = eval_metrics_of(metadata.get("eval_metrics"))
        except Refused as error:
            self._refuse(layout.METADATA, error)
            return
        self.findings += differences(
            layout.METADATA, small[layout.METADATA], metadata_text(self.bundle, network, measured)
        )
        self.held.add(layout.METADATA)
        if test is None:
            return
        if small[layout.CARD] != card_text(self.bundle.metadata, self.facts["sidecar"], network, measured, test):
            self._refuse(layout.CARD, "not what `package` makes of the metadata, the sidecar and the test")
        self.held.add(layout.CARD)

    def _hold_test(self) -> dict[str, Any] | None:
        """The record of the test frame, checked; None where something is wrong with it."""
        record, before = self._json(layout.RECORD), len(self.findings)
        if record is None:
            return None
        names = {kind: _picture(self.contents.small, kind) for kind in ("frame", "mask")}
        runtime = record.get("runtime")
        expected = {
            **names,
            "origin": record.get("origin"),
            "weights_sha256": self.contents.digests[layout.WEIGHTS],
            "dice_tolerance": DICE_TOLERANCE,
            "runtime": runtime,
        }
        texts = runtime.items() if isinstance(runtime, dict) else [(None, None)]
        good = all(isinstance(text, str) and len(text) <= 100 for pair in texts for text in pair)
        if record != expected or expected["origin"] not in ORIGINS or not good:
            self._refuse(
                layout.RECORD, f"must say {', '.join(expected)} of these weights and pictures, got {quoted(record)}"
            )
        sizes = set()
        for name in names.values():
            try:
                sizes.add(check_picture(self.contents.small[name], Path(name).suffix))
            except Refused as error:
                self._refuse(name, error)
        if len({Path(name).suffix for name in names.values()}) > 1 or len(sizes) > 1:
            self._refuse("test", "frame and mask must have one format and size")
        if len(self.findings) > before:
            return None
        self.facts["test"] = record
        self.held |= {layout.RECORD, *names.values()}
        return record


def check_sidecar(sidecar: Any, channels: tuple[int, ...], digest: str) -> Iterator[str]:
    """Say where a sidecar is not that of a whole segmentation model of `channels` with this SHA-256."""
    if not isinstance(sidecar, dict):
        yield f"must be a dictionary, got {quoted(sidecar)}"
        return
    architecture = {"in_channels": 1, "out_channels": 2, "channels": list(channels)}
    for name, expected in (("architecture", architecture), ("parts", PARTS), ("sha256", digest)):
        if sidecar.get(name) != expected:
            yield f"`{name}` is {quoted(sidecar.get(name))}, where the weights beside it have {quoted(expected)}"


def _picture(names: Mapping[str, object], kind: str) -> str:
    return next(f"test/{kind}{suffix}" for suffix in layout.PICTURES if f"test/{kind}{suffix}" in names)
