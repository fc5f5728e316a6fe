"""What the server says of itself: at the terminal, and on its one page."""

import re
from collections.abc import Sequence
from html import escape

from cmunet_monai.files.own_results import RESEARCH_USE
from cmunet_monai.label.guard import Known


def slicer_steps(url: str, *, known: Known, token: bool) -> list[str]:
    """How to connect 3D Slicer, one line a step, with every field to fill in."""
    return [
        "Edit > Application Settings > Modules or Extensions Manager: install the extension `MONAILabel`, restart.",
        f"Module `MONAI Label` (group Active Learning), field `MONAI Label server`: {url} - press the green arrows.",
        *(["Login: any `Username`; `Password` is the server's token."] if token else []),
        f"Section `Active Learning`, field `Strategy`: {known.strategy[0]}; press `Next Sample`.",
        f"Section `Auto Segmentation`, field `Model`: {known.model[0]}; press `Run`.",
        f"Section `SmartEdit / Deepgrow`, field `Model`: {known.model[1]}; choose the segment; place `+` points on "
        "vessel that is missed, `-` points on what is no vessel.",
        "Module `Segment Editor`: draw and erase where that is quicker.",
        "Section `Active Learning`: press `Submit Label`. This starts a training, unless the setting "
        "`Auto-Update Model` is off (Edit > Application Settings > MONAI Label).",
        f"Section `Options`, field `Section`: train, `Name`: {known.trainer[0]}, for `max_epochs` and "
        "`learning_rate`; `Section`: infer, for `threshold`, `largest_components` and `device`.",
    ]


def front_page(*, labels: Sequence[str], known: Known, token: bool) -> str:
    """The page at `/`, complete in itself."""
    steps = "".join(f"<li>{_as_html(step)}</li>" for step in slicer_steps("this address", known=known, token=token))
    rows = {"labels": labels, "models": known.model, "strategies": known.strategy, "scoring": known.scoring}
    table = "".join(f"<tr><th>{name}</th><td>{escape(', '.join(words))}</td></tr>" for name, words in rows.items())
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>Label server</title><style>'
        "code{background:#eee}body{font:16px/1.5 sans-serif;max-width:50em;margin:2em auto;padding:0 1em}"
        "th{text-align:left;padding-right:1em;vertical-align:top}</style></head><body>"
        f"<h1>Label server</h1><p>Coronary arteries in X-ray angiograms. {escape(RESEARCH_USE.capitalize())}.</p>"
        f"<table>{table}</table><h2>3D Slicer</h2><ol>{steps}</ol>"
        '<p><a href="/info/">state</a> · <a href="/train/">training</a> · <a href="/logs/">log</a></p></body></html>\n'
    )


def _as_html(step: str) -> str:
    """A line of text as HTML, what stands between backticks as code."""
    return re.sub(r"`([^`]*)`", r"<code>\1</code>", escape(step))
