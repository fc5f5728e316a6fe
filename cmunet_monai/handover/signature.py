"""Ed25519 signatures of SHA256SUMS, with the package `cryptography`, which is imported when a key is used."""

import base64
import getpass
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmunet_monai.handover.refused import Refused

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

MAX_KEY_BYTES = 2**14


def new_key(path: str | os.PathLike[str]) -> Path:
    """Make a key pair: `path` (.pem, readable by its owner alone) and, beside it, NAME.public.pem.

    Returns:
        The path of the public key.
    Raises:
        FileExistsError: if one of them is there; a key is never overwritten.
        ValueError: if `path` does not end in .pem.
    """
    serialization, ed25519 = _cryptography()
    path = Path(path)
    if path.suffix != ".pem":
        raise ValueError(f"a key's file must end in .pem, got {path.name}")
    public = path.with_suffix(".public.pem")
    if public.exists():
        raise FileExistsError(f"{public} is there already: name another file")
    key = ed25519.Ed25519PrivateKey.generate()
    form, secret = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(key.private_bytes(serialization.Encoding.PEM, form, secret))
    return write_public_key(key, public)


def write_public_key(key: "Ed25519PrivateKey", path: Path) -> Path:
    """Write the public part of `key` to `path`, as PEM; return `path`."""
    serialization, _ = _cryptography()
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    path.write_bytes(key.public_key().public_bytes(serialization.Encoding.PEM, form))
    return path


def read_private_key(path: str | os.PathLike[str]) -> "Ed25519PrivateKey":
    """The private key in a PEM file; its passphrase is asked for where it has one. Raises as `read_public_key`."""
    serialization, ed25519 = _cryptography()
    data = _key_bytes(path)
    password = getpass.getpass(f"passphrase of {path}: ").encode() if b"ENCRYPTED" in data else None
    load = serialization.load_pem_private_key
    return _loaded(path, "private", ed25519.Ed25519PrivateKey, lambda: load(data, password))


def read_public_key(path: str | os.PathLike[str]) -> "Ed25519PublicKey":
    """The public key in a PEM file.

    Raises:
        OSError: if the file cannot be read.
        ValueError: if it holds no such Ed25519 key.
        RuntimeError: if `cryptography` is not installed.
    """
    serialization, ed25519 = _cryptography()
    data = _key_bytes(path)
    if b"PRIVATE KEY" in data:
        raise ValueError(f"{path} holds a private key, which belongs to whoever signs: give the public one")
    return _loaded(path, "public", ed25519.Ed25519PublicKey, lambda: serialization.load_pem_public_key(data))


def sign(sums: bytes, key: "Ed25519PrivateKey") -> bytes:
    """The content of SHA256SUMS.sig: the signature in base64, one line."""
    return base64.b64encode(key.sign(sums)) + b"\n"


def check_signature(sums: bytes, signature: bytes, key: "Ed25519PublicKey | None") -> None:
    """Check a signature of `sums`; without a key its form alone. Refused if it is none, or not this key's of these."""
    try:
        raw = base64.b64decode(signature)
    except ValueError:
        raw = b""
    if len(raw) != 64 or base64.b64encode(raw) + b"\n" != signature:
        raise Refused("not an Ed25519 signature in base64")
    if key is None:
        return
    from cryptography.exceptions import InvalidSignature

    try:
        key.verify(raw, sums)
    except InvalidSignature:
        raise Refused("not by the key that was given, or of another SHA256SUMS: do not use this package") from None


def _loaded(path: str | os.PathLike[str], what: str, kind: type, load: Callable[[], Any]) -> Any:
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        key = load()
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ValueError(f"{path} holds no {what} key that can be read: {error}") from None
    if not isinstance(key, kind):
        raise ValueError(f"{path} must hold an Ed25519 key, got {type(key).__name__}")
    return key


def _key_bytes(path: str | os.PathLike[str]) -> bytes:
    with open(path, "rb") as file:
        data = file.read(MAX_KEY_BYTES + 1)
    if len(data) > MAX_KEY_BYTES:
        raise ValueError(f"{path} is larger than a key")
    return data


def _cryptography() -> tuple[Any, Any]:
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError:
        raise RuntimeError("signatures need the package cryptography: pip install 'cmunet_monai[handover]'") from None
    return serialization, ed25519
