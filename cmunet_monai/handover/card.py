"""The model card of a package: what the weights are, where they come from, what was measured, what they are not for."""

import json
from collections.abc import Mapping
from typing import Any

from cmunet_monai.handover.configs import Network


def card_text(
    metadata: Mapping[str, Any],
    sidecar: Mapping[str, Any],
    network: Network,
    eval_metrics: Mapping[str, Any],
    test: Mapping[str, Any],
) -> bytes:
    """`docs/MODEL_CARD.md`, from the release's metadata, the sidecar, measured values and the record of the test."""
    height, width = network.image_size
    measured = [f"| {name} | {'undefined' if value is None else value} |" for name, value in eval_metrics.items()]
    lines = [
        f"# {metadata['name']}: model card",
        "",
        metadata["description"],
        "",
        f"**Intended use.** {metadata['intended_use']} Research use only: not a medical device.",
        "",
        "## Network",
        "",
        f"UNet of {', '.join(map(str, network.channels))} channels; frames are brought to {height} x {width} (H x W), "
        "and masks back to the frame's own size.",
        "",
        "## Weights",
        "",
        "What their sidecar (`models/model.json`) says of their origin; null is unknown:",
        "",
        "```json",
        json.dumps(sidecar, indent=2, ensure_ascii=True),
        "```",
        "",
        "## Measured",
        "",
        *(
            [
                "Means per image, on the list that was evaluated (lengths in px or mm):",
                "",
                "| what | value |",
                "| --- | --- |",
            ]
            if measured
            else ["Nothing was measured with these weights, or it was not given to `package`."]
        ),
        *measured,
        "",
        "## Test frame",
        "",
        f"`{test['frame']}` ({test['origin']}) and its expected mask `{test['mask']}`: "
        "`python -m cmunet_monai verify PACKAGE.zip --run-test` runs and compares them.",
        "",
        "## Known limits",
        "",
        "Those of the bundle: see README.md beside this file. Look at masks on your own frames before you rely on a "
        "number made of them.",
        "",
    ]
    return "\n".join(lines).encode("utf-8")
