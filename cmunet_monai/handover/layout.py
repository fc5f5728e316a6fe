"""Which files a package holds: MONAI's layout in one folder with the bundle's name, and nothing else."""

import re
from collections.abc import Iterable, Iterator, Mapping

from cmunet_monai.handover.pictures import MAX_BYTES as MAX_PICTURE
from cmunet_monai.handover.refused import Refused, quoted
from cmunet_monai.handover.release import Release
from cmunet_monai.handover.strict_json import MAX_BYTES as MAX_JSON
from cmunet_monai.handover.wheel import wheel_name

SUMS, SIGNATURE = "SHA256SUMS", "SHA256SUMS.sig"
WEIGHTS, SIDECAR = "models/model.safetensors", "models/model.json"
METADATA, INFERENCE = "configs/metadata.json", "configs/inference.json"
CARD, README = "docs/MODEL_CARD.md", "docs/README.md"
REQUIREMENTS, RECORD = "requirements.txt", "test/test.json"
PICTURES = (".png", ".nii")

MAX_WEIGHTS = 2**31
MAX_TEXT = 2**23
MAX_WHEEL = 2**25
MAX_SMALL = 2**29  # of all files that `verify` reads into memory
_NEEDED = (
    SUMS,
    WEIGHTS,
    SIDECAR,
    METADATA,
    INFERENCE,
    CARD,
    README,
    REQUIREMENTS,
    RECORD,
    "LICENSE",
    "configs/logging.conf",
)
_CONFIG = re.compile(r"configs/([^/]+\.json)")
_DOCUMENT = re.compile(r"docs/.+\.(md|csv|png)")
_PICTURE = re.compile(r"test/(frame|mask)\.(png|nii)")
_WHEEL = re.compile(
    r"wheels/([A-Za-z0-9_.]+)-[0-9][A-Za-z0-9_.+]*(-[0-9][A-Za-z0-9_.]*)?-[a-z0-9_.]+-[a-z0-9_]+-[A-Za-z0-9_.]+\.whl"
)
_PICKLES = re.compile(r"\.(pt|pth|pkl|pickle|ckpt|bin|npy|npz|joblib|ts|h5|onnx|pb|tar|zip|gz)$", re.IGNORECASE)


def size_limit(name: str, release: Release) -> int:
    """The most bytes that a file may have.

    Args:
        name: path in the package's folder.
        release: the one that runs.
    Raises:
        Refused: if a package holds no such file.
    """
    if name == WEIGHTS:
        return MAX_WEIGHTS
    if name == f"wheels/{wheel_name(release)}":
        return MAX_WHEEL
    if is_foreign_wheel(name, release):
        return 2**32
    if _PICTURE.fullmatch(name):
        return MAX_PICTURE
    if _CONFIG.fullmatch(name) or name in (SIDECAR, RECORD):
        return MAX_JSON
    if name in _NEEDED or name == SIGNATURE or is_document(name):
        return MAX_TEXT
    why = ""
    if _PICKLES.search(name):
        why = f": weights come as {WEIGHTS} alone, since loading other formats can run code"
    elif name.endswith((".py", ".pyc", ".pth", ".so", ".pyd", ".dll", ".sh", ".exe", ".bat")):
        why = f": code comes in wheels/{wheel_name(release)} alone (MONAI lets Python import from a bundle's folder)"
    elif name.endswith(".whl"):
        why = f": of `cmunet_monai` there is one wheel, {wheel_name(release)}"
    elif name.startswith("configs/"):
        why = ": a config is JSON, directly in configs/"
    raise Refused(f"{quoted(name)}: a package holds no such file{why}")


def is_document(name: str) -> bool:
    """Whether a file is one of the texts, tables and pictures for people, which nothing here reads."""
    return _DOCUMENT.fullmatch(name) is not None


def is_foreign_wheel(name: str, release: Release) -> bool:
    """Whether a file is the wheel of another package."""
    match = _WHEEL.fullmatch(name)
    return match is not None and re.sub(r"[-_.]+", "_", match[1]).lower() != "cmunet_monai"


def is_large(name: str, release: Release) -> bool:
    """Whether a file is never read into memory: the weights, and wheels of other packages."""
    return name == WEIGHTS or is_foreign_wheel(name, release)


def config_names(names: Iterable[str]) -> Iterator[str]:
    """Names of the configs among the files of a package, as in `configs/NAME`; metadata left out."""
    for name in names:
        match = _CONFIG.fullmatch(name)
        if match and name != METADATA:
            yield match[1]


def missing(names: Iterable[str], release: Release) -> Iterator[str]:
    """Name what a package must hold and these files lack; configs are compared elsewhere."""
    there = set(names)
    for name in (*_NEEDED, f"wheels/{wheel_name(release)}"):
        if name not in there:
            yield f"{name}: missing"
    for kind in ("frame", "mask"):
        found = [f"test/{kind}{suffix}" for suffix in PICTURES if f"test/{kind}{suffix}" in there]
        if len(found) != 1:
            yield f"test/{kind}.png or .nii: {len(found)} of them, where one is needed"


def sums_text(digests: Mapping[str, str]) -> bytes:
    """`SHA256SUMS`, for `sha256sum --check` in the package's folder: every file but itself and its signature."""
    return "".join(f"{digests[name]}  {name}\n" for name in sorted(digests) if name not in (SUMS, SIGNATURE)).encode()


def check_sums(text: bytes, digests: Mapping[str, str]) -> Iterator[str]:
    """Say which files are not those of `SHA256SUMS`, or that it is in another form."""
    if text == sums_text(digests):
        return
    stated = {}
    for line in text.decode("ascii", errors="replace").splitlines():
        digest, _, name = line.partition("  ")
        stated[name] = digest
    found = False
    for name in sorted(digests.keys() - {SUMS, SIGNATURE}):
        if name not in stated:
            found = True
            yield f"{name}: not in {SUMS}"
        elif stated[name] != digests[name]:
            found = True
            yield f"{name}: its SHA-256 is {digests[name]}, and {SUMS} says {quoted(stated[name])}: changed or damaged"
    for name in sorted(stated.keys() - digests.keys()):
        found = True
        yield f"{SUMS}: names {quoted(name)}, which is not there"
    if not found:
        yield f"{SUMS}: not written as `package` writes it"
