"""What the server says of itself: at the terminal, and on its one page."""

from collections.abc import Sequence

from cmunet_monai.files.own_results import RESEARCH_USE
from cmunet_monai.label.guard import Known
from cmunet_monai.pages import render_page


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
    return render_page(
        "cmunet_monai.label",
        "page.html.jinja",
        notice=RESEARCH_USE.capitalize(),
        table={"labels": labels, "models": known.model, "strategies": known.strategy, "scoring": known.scoring},
        steps=slicer_steps("this address", known=known, token=token),
    )
