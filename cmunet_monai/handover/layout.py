"""What a package holds: one folder of a bundle's name in MONAI's layout, and which of its files are free.

Free are the weights (numbers alone), a frame and its mask, documents for people, and under a signature code and wheels
of others. Of the other files a few values are free, the `Inputs`: from them `rebuild` makes every byte that an
interpreter, MONAI or pip would read.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cmunet_monai.handover.configs import Network, config_texts, metadata_text
from cmunet_monai.handover.pictures import MAX_BYTES as MAX_PICTURE
from cmunet_monai.handover.refused import Refused, quoted
from cmunet_monai.handover.release import Release
from cmunet_monai.handover.strict_json import json_text
from cmunet_monai.handover.weights import PARTS
from cmunet_monai.handover.wheel import build_wheel, requirements_text, wheel_name

SUMS, SIGNATURE = "SHA256SUMS", "SHA256SUMS.sig"
WEIGHTS, SIDECAR = "models/model.safetensors", "models/model.json"
METADATA, INFERENCE = "configs/metadata.json", "configs/inference.json"
CARD, README, RECORD = "docs/MODEL_CARD.md", "docs/README.md", "test/test.json"

DICE_TOLERANCE = 0.99
ORIGINS = ("synthetic", "real, shared with consent")
FOREIGN_WHEEL = re.compile(
    r"wheels/(?!(?i:cmunet[_.]+monai)-)[A-Za-z0-9_.]+-[0-9][A-Za-z0-9_.+]*(-[0-9][A-Za-z0-9_.]*)?(-[A-Za-z0-9_.]+){3}\.whl"
)
DOCUMENT = re.compile(r"docs/.+\.(md|csv|png)")
# Name -> the most bytes that it may have; a name that none of them fits is of no file of a package
_LIMITS = (
    (re.compile(re.escape(WEIGHTS)), 2**31),
    (FOREIGN_WHEEL, 2**32),
    (re.compile(r"test/(frame|mask)\.(png|nii)"), MAX_PICTURE),
    (re.compile(r"wheels/cmunet_monai-[^/]+\.whl"), 2**25),
    (DOCUMENT, 2**23),
    (re.compile(r"configs/[^/]+\.(json|conf)|models/model\.json|test/test\.json|requirements\.txt|LICENSE"), 2**23),
    (re.compile(r"SHA256SUMS(\.sig)?"), 2**23),
)


def check_member(name: str, size: int) -> None:
    """Hold the name of a file in the package's folder, and its size in bytes, to what a package can hold.

    Raises:
        Refused: otherwise.
    """
    limit = next((limit for form, limit in _LIMITS if form.fullmatch(name)), None)
    if limit is None:
        raise Refused(
            f"{quoted(name)}: a package holds no such file; weights come as {WEIGHTS} alone, since loading other "
            "formats can run code, code as the wheel of this release, a config as JSON in configs/"
        )
    if size > limit:
        raise Refused(f"{quoted(name)}: {size} bytes, more than the {limit} that it may have")


@dataclass(frozen=True)
class Inputs:
    """The values from which a package follows."""

    bundle: str
    network: Network
    weights_sha256: str
    sidecar: Mapping[str, Any]  # what is said of the origin of the weights
    measured: Mapping[str, Any]  # name -> mean
    suffix: str  # of the test frame and its mask, `.png` or `.nii`
    origin: str  # of the test frame, one of ORIGINS
    runtime: Mapping[str, str]  # what the mask was made with

    def facts(self) -> dict[str, Any]:
        """What a sidecar must say of these weights."""
        architecture = {"in_channels": 1, "out_channels": 2, "channels": list(self.network.channels)}
        facts = {"architecture": architecture, "parts": PARTS, "sha256": self.weights_sha256}
        return facts | ({"image_size": list(self.network.image_size)} if "image_size" in self.sidecar else {})

    def pictures(self) -> set[str]:
        """The test frame and its mask."""
        return {f"test/frame{self.suffix}", f"test/mask{self.suffix}"}

    def is_free(self, name: str) -> bool:
        """Whether a file is held to its form alone: the weights, a picture, a document."""
        return name == WEIGHTS or name in self.pictures() or (name != CARD and DOCUMENT.fullmatch(name) is not None)

    def record(self) -> dict[str, Any]:
        """What `verify --run-test` goes by."""
        return {
            "frame": f"test/frame{self.suffix}",
            "mask": f"test/mask{self.suffix}",
            "origin": self.origin,
            "weights_sha256": self.weights_sha256,
            "dice_tolerance": DICE_TOLERANCE,
            "runtime": dict(self.runtime),
        }


def rebuild(inputs: Inputs, release: Release) -> dict[str, bytes]:
    """Every file of a package that follows from `inputs`; beside them stand those whose digests the release knows."""
    known, sidecar = release.bundles[inputs.bundle], dict(inputs.sidecar) | inputs.facts()
    return {
        **{f"configs/{name}": text for name, text in config_texts(known, inputs.network).items()},
        METADATA: metadata_text(known, inputs.network, inputs.measured),
        SIDECAR: json_text(sidecar),
        RECORD: json_text(inputs.record()),
        CARD: _card_text(known.metadata, sidecar, inputs),
        "requirements.txt": requirements_text(release),
        f"wheels/{wheel_name(release)}": build_wheel(release),
    }


def sums_text(digests: Mapping[str, str]) -> bytes:
    """`SHA256SUMS`, for `sha256sum --check` in the package's folder: every file but itself and its signature."""
    return "".join(f"{digests[name]}  {name}\n" for name in sorted(digests) if name not in (SUMS, SIGNATURE)).encode()


_CARD = """\
# {name}: model card

{description}

**Intended use.** {intended_use} Research use only: not a medical device.

## Network

UNet of {channels} channels; frames are brought to {height} x {width} (H x W), and masks back to the frame's own size.

## Weights

What their sidecar (`models/model.json`) says of their origin; null is unknown:

```json
{sidecar}
```

## Measured

{measured}

## Test frame

`{frame}` ({origin}) and its expected mask `{mask}`: `cmunet verify PACKAGE.zip --run-test` runs and \
compares them.

## Known limits

Those of the bundle: see README.md beside this file. Look at masks on your own frames before you rely on a number made \
of them.
"""


def _card_text(metadata: Mapping[str, Any], sidecar: Mapping[str, Any], inputs: Inputs) -> bytes:
    """The model card: what the weights are, where they come from, what was measured, what they are not for."""
    measured = "Nothing was measured with these weights, or it was not given to `package`."
    if inputs.measured:
        rows = [f"| {name} | {'undefined' if value is None else value} |" for name, value in inputs.measured.items()]
        head = ["Means per image, on the list that was evaluated (lengths in px or mm):", "", "| what | value |"]
        measured = "\n".join([*head, "| --- | --- |", *rows])
    return _CARD.format(
        **{name: metadata[name] for name in ("name", "description", "intended_use")},
        **{name: inputs.record()[name] for name in ("frame", "origin", "mask")},
        channels=", ".join(map(str, inputs.network.channels)),
        height=inputs.network.image_size[0],
        width=inputs.network.image_size[1],
        sidecar=json.dumps(sidecar, indent=2),
        measured=measured,
    ).encode()
