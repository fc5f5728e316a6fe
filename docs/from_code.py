"""A Sphinx extension: what code and results already say is not written a second time.

A line `<!-- from code: NAME -->` of a page is replaced at build time: by the options of every command (from its
argparse parser), the options of the bundles' configs (from the JSON files), the public API (by autodoc, from each
package's `__all__`), or a table of results (from its CSV).
"""

import argparse
import contextlib
import csv
import importlib
import io
import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from sphinx.application import Sphinx

from cmunet_monai.__main__ import main
from cmunet_monai.verbs import VERBS, description

DOCS = Path(__file__).parent
BUNDLES = DOCS.parent / "bundles"
PACKAGES = (
    "networks",
    "methods",
    "losses",
    "transforms",
    "readers",
    "engines",
    "engines.handlers",
    "inferers",
    "metrics",
    "measurements",
    "quality",
    "prediction",
    "writers",
)
FIRST = {
    "spark": "SparK",
    "cm_unet_prior": "CM-UNet with prior",
    "cm_unet": "CM-UNet",
    "mae": "MAE",
    "vaso_mim": "VasoMIM",
    "moco_v2": "MoCo v2",
    "vessel_prior": "vessel prior",
    "models_genesis": "Models Genesis",
    "none": "random start",
}
FIRST_18 = {"none_longer_18": "random start, 500 epochs"} | FIRST
FIRST_100 = {"none_longer_100": "random start, 95 epochs"} | FIRST
FURTHER_18 = {
    "cm_unet_longer": "(1) CM-UNet, 500 epochs",
    "cm_unet_40_epochs": "(2) CM-UNet, pre-trained for 40 epochs",
    "cm_unet_slow": "(3) CM-UNet, transferred layers slower",
}


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("source-read", _fill)
    app.connect("autodoc-process-docstring", _as_text, priority=100)  # before napoleon's
    return {"parallel_read_safe": True}


def _fill(app: Sphinx, docname: str, source: list[str]) -> None:
    makers = {
        "commands": commands,
        "config options": config_options,
        "python api": python_api,
        "comparison 18": lambda: comparison("18", FIRST_18),
        "further runs 18": lambda: comparison("18", FURTHER_18),
        "comparison 100": lambda: comparison("100", FIRST_100),
    }
    place = re.compile(r"^<!-- from code: (.+) -->$", re.MULTILINE)
    source[0] = place.sub(lambda found: "\n".join(makers[found[1]]()), source[0])


# The commands ---------------------------------------------------------------------------------------------------------


def commands() -> Iterator[str]:
    """Markdown: a section for each verb."""
    for verb in VERBS:
        parser, said = help_of(verb)
        yield f"## cmunet {verb}\n\n{_escape(description(verb))}\n"
        if parser is None:
            yield f"```text\n{said.rstrip()}\n```\n"
            continue
        yield f"```text\n{parser.format_usage().rstrip()}\n```\n"
        for action in parser._actions:
            yield f"{_signature(action)}\n: {_explanation(action, parser)}\n"
        if parser.epilog:
            yield f"```text\n{parser.epilog.replace('%(prog)s', parser.prog).strip()}\n```\n"


def help_of(verb: str) -> tuple[argparse.ArgumentParser | None, str]:
    """The parser that answers `cmunet VERB --help`, and, where the verb has none, its text."""
    asked: list[argparse.ArgumentParser] = []
    said = io.StringIO()
    with (
        mock.patch.object(argparse.ArgumentParser, "print_help", lambda parser, file=None: asked.append(parser)),
        mock.patch.object(sys, "argv", ["cmunet"]),
        mock.patch.dict(os.environ, {"COLUMNS": "110"}),
        contextlib.redirect_stdout(said),
        contextlib.suppress(SystemExit),
    ):
        main([verb, "--help"])
    return (asked[0] if asked else None), said.getvalue()


def _signature(action: argparse.Action) -> str:
    names = action.option_strings or [str(action.metavar or action.dest)]
    shown = ", ".join(f"`{name}`" for name in names)
    if not action.option_strings or action.nargs == 0:
        return shown
    choices = "{" + ",".join(map(str, action.choices)) + "}" if action.choices else ""
    values = action.metavar or choices or action.dest.upper()
    return f"{shown} `{' '.join(values) if isinstance(values, tuple) else values}`"


def _explanation(action: argparse.Action, parser: argparse.ArgumentParser) -> str:
    text = parser._get_formatter()._expand_help(action) if action.help else ""
    return _escape(text) + (" Required." if action.required and action.option_strings else "") or "See below."


# The options of the bundles -------------------------------------------------------------------------------------------


def config_options() -> Iterator[str]:
    """Markdown: for each config that runs alone, its options, and what the overlays make of them."""
    meanings = json.loads((DOCS / "reference" / "options.json").read_text(encoding="utf-8"))
    for bundle in sorted(path for path in BUNDLES.iterdir() if (path / "configs").is_dir()):
        configs = {
            path.relative_to(bundle / "configs").as_posix(): json.loads(path.read_text(encoding="utf-8"))
            for path in sorted((bundle / "configs").rglob("*.json"))
            if path.name != "metadata.json"
        }
        alone = {name: config for name, config in configs.items() if "imports" in config}
        overlays = {name: config for name, config in configs.items() if name not in alone}
        yield f"## {bundle.name}\n"
        for name, config in alone.items():
            options = dict(_options(config))
            fitting = {key: overlay for key, overlay in overlays.items() if _fits(key, name)}
            yield f"### {name}\n\n{_escape(config['_desc_'])}\n"
            yield "| option | meaning | default | changed by |\n| --- | --- | --- | --- |"
            for option, value in options.items():
                yield f"| `{option}` | {meanings[option]} | {_value(value)} | {_changes(option, fitting)} |"
            yield ""
            new = {key: dict(_options(overlay)) for key, overlay in fitting.items()}
            rows = [(option, key, value) for key, found in new.items() for option, value in found.items()]
            rows = [row for row in rows if row[0] not in options]
            if rows:
                yield "Options that an overlay adds:\n"
                yield "| option | meaning | overlay | default |\n| --- | --- | --- | --- |"
                for option, key, value in rows:
                    yield f"| `{option}` | {meanings[option]} | `{key}` | {_value(value)} |"
                yield ""


def _options(config: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """What stands at the top of a config, before its first component."""
    for name, value in config.items():
        if name in ("_desc_", "imports"):
            continue
        if isinstance(value, dict):
            return
        if "#" not in name and not name.startswith("+"):
            yield name, value


def _fits(overlay: str, config: str) -> bool:
    """Whether an overlay goes with a config: paper.json with each, the others with train.json."""
    return config == "train.json" or overlay == "paper.json"


def _changes(option: str, overlays: dict[str, dict[str, Any]]) -> str:
    return "; ".join(f"`{name}`: {_value(config[option])}" for name, config in overlays.items() if option in config)


def _value(value: Any) -> str:
    return f"`{value if isinstance(value, str) else json.dumps(value)}`".replace("|", "\\|")


# The results ----------------------------------------------------------------------------------------------------------


def comparison(labels: str, starts: dict[str, str]) -> Iterator[str]:
    """Markdown: two tables of a study, best Dice first, from the CSVs that `cmunet report` wrote."""
    means = _rows("table.csv", labels)
    against = {key: row for key, row in _rows("comparisons.csv", labels).items() if row["baseline"] == "none"}
    order = sorted(starts, key=lambda name: -float(means[name, "dice"]["mean"]))
    yield "| start | Dice | by draw | against random start | p (corrected) |\n| --- | --- | --- | --- | --- |"
    for method in order:
        dice = means[method, "dice"]
        draws = ", ".join(f"{float(value):.3f}" for value in dice["by_draw"].split())
        difference, p_value = "", ""
        if row := against.get((method, "dice")):
            low, high = float(row["lower_95"]), float(row["upper_95"])
            difference = f"{float(row['difference']):+.3f} [{low:+.3f}, {high:+.3f}]"
            corrected = f"{float(row['p_holm']):.2f}" if row["p_holm"] else "primary"
            p_value = f"{float(row['p_value']):.2f} ({corrected})" if row["p_value"] else ""
        yield f"| {starts[method]} | {_interval(dice, 3)} | {draws} | {difference} | {p_value} |"
    yield "\n| start | clDice | modified HD | ADD | Dice below 0.5 |\n| --- | --- | --- | --- | --- |"
    for method in order:
        cl_dice = _interval(means[method, "cl_dice"], 3)
        distance = _interval(means[method, "modified_hausdorff_px"], 1)
        add = _interval(means[method, "add_px"], 2)
        failed = f"{100 * float(means[method, 'failure']['mean']):.1f}%"
        yield f"| {starts[method]} | {cl_dice} | {distance} | {add} | {failed} |"


def _rows(name: str, labels: str) -> dict[tuple[str, str], dict[str, str]]:
    with (DOCS / "results" / "comparison" / name).open(newline="", encoding="utf-8") as file:
        return {(row["method"], row["metric"]): row for row in csv.DictReader(file) if row["labels"] == labels}


def _interval(row: dict[str, str], digits: int) -> str:
    mean, low, high = (float(row[name]) for name in ("mean", "lower_95", "upper_95"))
    return f"{mean:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


# The Python API -------------------------------------------------------------------------------------------------------


def python_api() -> Iterator[str]:
    """Markdown: a section for each package, with all that it exports."""
    for name in PACKAGES:
        package = f"cmunet_monai.{name}"
        module = importlib.import_module(package)
        yield f"## {package}\n\n{_escape((module.__doc__ or '').strip())}\n\n```{{eval-rst}}"
        for member in sorted(module.__all__):
            thing = getattr(module, member)
            kind = "class" if isinstance(thing, type) else "function" if callable(thing) else "data"
            home = next((other for other in PACKAGES if f".{other}." in getattr(thing, "__module__", "")), name)
            options = ("   :members:\n" if kind == "class" else "") + ("   :no-index:\n" if home != name else "")
            yield f".. auto{kind}:: {package}.{member}\n" + options
        yield "```\n"


def _as_text(app: Sphinx, what: str, name: str, thing: object, options: object, lines: list[str]) -> None:
    """Docstrings are plain text with code in backquotes: nothing else in them is markup."""
    for number, line in enumerate(lines):
        parts = line.split("`")
        parts[::2] = [re.sub(r"([*|\\])|(?<=\w)(_)(?=\W|$)", r"\\\g<0>", part) for part in parts[::2]]
        lines[number] = "`".join(parts)


def _escape(text: str) -> str:
    """Text for Markdown: code in backquotes stays, all else is plain."""
    parts = " ".join(text.split()).split("`")
    parts[::2] = [re.sub(r"[\\*_{}\[\]<>|$#]", r"\\\g<0>", part) for part in parts[::2]]
    return "`".join(parts)
