"""Names that stand for patients, runs and files: HMAC-SHA256 of the identifier with a secret random key.

Who has the key can find out whom a pseudonym stands for by trying; without it nobody can. The key, and the map of
pseudonyms beside it, are therefore kept apart from the data, in files that only their owner can read.
"""

import csv
import datetime
import hmac
import logging
import os
import secrets
import stat
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from pydicom.uid import UID

from cmunet_monai.files.atomic import write_csv_atomic
from cmunet_monai.files.lock import alone

logger = logging.getLogger(__name__)

KEY_BYTES = 32
_SHIFT_DAYS = (365, 3650)
_ROOT_UID = "2.25."


@dataclass(frozen=True)
class Pseudonyms:
    """Pseudonyms by one key: the same identifier has the same one, whenever and wherever it is asked for.

    The key is left out of the object's text, so that no log or error shows it.
    """

    key: bytes
    key_file: Path

    def __repr__(self) -> str:
        return "Pseudonyms(<key>)"

    @staticmethod
    def open(key_file: str | os.PathLike[str], *, output: str | os.PathLike[str]) -> "Pseudonyms":
        """Read the key, or make a random one of 256 bits where there is no such file.

        Args:
            key_file: 64 hexadecimal digits; written with mode 600.
            output: folder of the data, which the key must not lie in.
        Raises:
            ValueError: if the file lies in `output`, can be read by others, or holds no key of this form.
            OSError: if it can be neither read nor made.
        """
        path = Path(key_file)
        if path.resolve().is_relative_to(Path(output).resolve()):
            raise ValueError(f"the key {path} lies in the output folder {output}: keep it apart from the data (--key)")
        if path.is_dir():
            raise ValueError(f"the key {path} is a folder: name a file")
        if not path.exists():
            try:
                with alone(_lock_file(path), None):  # several processes may start at once
                    if not path.exists():
                        _write_key(path)
                        logger.info("made a new key at %s", path)
            except PermissionError:
                raise PermissionError(f"no key can be written to {path}: name another file with --key") from None
        if others_can_read(path):
            mode = stat.S_IMODE(path.stat().st_mode)
            raise ValueError(f"the key {path} can be read by others (mode {mode:o}): chmod 600 it")
        text = path.read_text(encoding="utf-8-sig", errors="replace").strip()
        try:
            key = bytes.fromhex(text)
        except ValueError:
            key = b""
        if len(key) != KEY_BYTES:
            raise ValueError(
                f"{path} holds no key: expected {2 * KEY_BYTES} hexadecimal digits, got {len(text)} characters"
            )
        return Pseudonyms(key, path)

    def patient(self, patient_id: str, issuer: str = "") -> str:
        """Of a Patient ID, which is unique for its issuer only."""
        return "P" + self._digest("patient", issuer, patient_id).hex()[:16]

    def run(self, sop_instance_uid: str) -> str:
        """Of a DICOM object."""
        return "R" + self._digest("run", sop_instance_uid).hex()[:16]

    def study(self, study_instance_uid: str) -> str:
        """Of a study."""
        return "S" + self._digest("study", study_instance_uid).hex()[:16]

    def source(self, relative_path: str) -> str:
        """Of a file, by its path in the export."""
        return "F" + self._digest("source", relative_path).hex()[:16]

    def uid(self, uid: str) -> str:
        """A UID in place of another (PS3.5 B.2: 2.25. and a number of 128 bits); those that DICOM has defined stay."""
        if UID(uid).type:
            return uid
        return _ROOT_UID + str(int.from_bytes(self._digest("uid", uid)[:16], "big"))

    def date_shift_days(self, patient_id: str, issuer: str = "") -> int:
        """By how many days all dates of a patient move: one to ten years back."""
        least, most = _SHIFT_DAYS
        number = int.from_bytes(self._digest("date shift", issuer, patient_id)[:8], "big")
        return -(least + number % (most - least + 1))

    def _digest(self, purpose: str, *parts: str) -> bytes:
        # lengths in front keep ("a", "bc") and ("ab", "c") apart
        message = "".join(f"{len(part)}:{part}" for part in (purpose, *parts))
        return hmac.new(self.key, message.encode("utf-8", errors="surrogateescape"), sha256).digest()


def shifted_date(text: str, days: int) -> str | None:
    """A date, or the date of a date and time, as DICOM writes them, moved; None where it is none."""
    text = text.strip(" \0")
    try:
        day = datetime.datetime.strptime(text.replace(".", "") if len(text) == 10 else text[:8], "%Y%m%d")
        day += datetime.timedelta(days=days)
    except (ValueError, OverflowError):
        return None
    return f"{day.year:04d}{day.month:02d}{day.day:02d}"


def _write_key(path: Path) -> None:
    """Whole, before anybody can see it."""
    descriptor, name = tempfile.mkstemp(prefix=".tmp-", dir=path.parent)  # with mode 600
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_hex(KEY_BYTES) + "\n")
        os.replace(name, path)
    finally:
        Path(name).unlink(missing_ok=True)


def _lock_file(key_file: Path) -> Path:
    return key_file.with_name(f".{key_file.name}.lock")


def lock_file(pseudonyms: Pseudonyms) -> Path:
    """Where processes with one key wait for each other: beside it, an empty file."""
    return _lock_file(pseudonyms.key_file)


def map_file(pseudonyms: Pseudonyms) -> Path:
    """Where the map of pseudonyms lies: beside the key."""
    return Path(f"{pseudonyms.key_file}.map.csv")


def write_map(pseudonyms: Pseudonyms, originals: Mapping[str, str]) -> Path:
    """Add to the map of pseudonyms beside the key, `<key>.map.csv` with mode 600, and return its path.

    Args:
        originals: pseudonym -> what it stands for. What a spreadsheet would take for a formula gets `'` in front.
    """
    path = map_file(pseudonyms)
    new = {name: _as_cell(text) for name, text in originals.items()}
    known = _read_map(path)
    if known | new == known:
        return path
    with alone(lock_file(pseudonyms), None):  # what another process has added meanwhile stays
        merged = _read_map(path) | new
        previous = os.umask(0o077)
        try:
            write_csv_atomic(path, [{"pseudonym": name, "original": merged[name]} for name in sorted(merged)])
        finally:
            os.umask(previous)
    return path


def _read_map(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8-sig") as file:
        return {row["pseudonym"]: row["original"] for row in csv.DictReader(file)}


def _as_cell(text: str) -> str:
    # a file name need not be text: what is none is written as escapes; nor has a damaged identifier any limit of length
    text = text[:1024].encode("utf-8", "backslashreplace").decode()
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


def others_can_read(path: str | os.PathLike[str]) -> bool:
    """Whether a file's mode lets group or others at it. On Windows a mode does not tell, and the answer is no."""
    return sys.platform != "win32" and bool(stat.S_IMODE(Path(path).stat().st_mode) & 0o077)
