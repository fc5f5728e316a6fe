"""Run and load bundles. All other modules use this one, so that values from outside are passed literally.

MONAI reads every text in a config, an override of the command line included: what begins with `$` is run as Python, `@`
and `%` refer to other places, `#` becomes `::`, and its command line takes `2024` for a number and `my,data` for a
list. A path or a name is none of these. `literal` writes it as config that comes to exactly that text; whatever runs a
bundle here passes all values through it, and only what a caller marks as `Config` is MONAI's to read.
"""

import ast
import codecs
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:  # MONAI takes seconds to import, which those who only write a command do not need
    from monai.bundle import ConfigParser, ConfigWorkflow

# What MONAI looks for in the text of an expression, and the escapes of a Python string that hide it
_ESCAPES = {"@": r"\x40", "#": r"\x23", "%": r"\x25"}


@dataclass(frozen=True)
class Config:
    """What MONAI shall read as config: an expression, a reference, a component. Never text from outside.

    Attributes:
        value: as it would stand in a config file.
    """

    value: Any


def literal(value: Any) -> Any:
    """Return config that MONAI resolves to exactly `value`, whatever characters it contains.

    Args:
        value: text, a path (which becomes text), a list or dictionary of numbers and texts; anything else, such as a
            number, a device or None, is what it is.
    Returns:
        An expression that is one Python literal in ASCII, without `@`, `#` and `%`; it may stand in a config, in an
        override, and on the command line.
    Raises:
        ValueError: if a list or dictionary holds what has no literal, such as NaN or a component.
    """
    plain = _plain(value)
    if not isinstance(plain, str | list | tuple | dict):
        return plain
    text = ascii(plain)
    for character, escape in _ESCAPES.items():
        text = text.replace(character, escape)
    try:
        same = ast.literal_eval(text) == plain
    except (ValueError, SyntaxError):
        same = False
    if not same:
        raise ValueError(f"only texts, numbers, true, false and null can be passed to a bundle, got {value!r}")
    return f"${text}"


def as_config(values: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a bundle as MONAI takes them: literal, but for those that are `Config`."""
    return {name: value.value if isinstance(value, Config) else literal(value) for name, value in values.items()}


def run_workflow(
    config: str | os.PathLike[str], *, workflow_type: Literal["train", "infer"], options: Mapping[str, Any]
) -> None:
    """Initialize, run and finalize a bundle's config in this process.

    Args:
        config: its file.
        workflow_type: as of MONAI's `ConfigWorkflow`.
        options: values at the top of the config, by name; literal, but for those that are `Config`.
    Raises:
        OSError, ValueError: what a component raises; MONAI wraps it, and its own text repeats the whole config.
    """
    try:
        workflow = load_workflow(config, workflow_type=workflow_type, options=options)
        workflow.run()
        workflow.finalize()
    except RuntimeError as error:
        if isinstance(error.__cause__, (OSError, ValueError)):
            raise error.__cause__ from None
        raise


def check_no_mark(config: str | os.PathLike[str]) -> None:
    """Raise a ValueError if a config begins with a byte order mark: MONAI reads none, and its error names no file."""
    if Path(config).is_file() and Path(config).read_bytes().startswith(codecs.BOM_UTF8):
        raise ValueError(
            f"{config} begins with a byte order mark, which MONAI does not read: save it as UTF-8 without one"
        )


def load_workflow(
    config: str | os.PathLike[str], *, workflow_type: Literal["train", "infer"], options: Mapping[str, Any]
) -> "ConfigWorkflow":
    """A bundle's workflow, initialized; arguments as of `run_workflow`."""
    from monai.bundle import ConfigWorkflow

    check_no_mark(config)
    workflow = ConfigWorkflow(
        [os.fspath(config)],  # a list: of a name with commas MONAI would make several
        workflow_type=workflow_type,
        logging_file=False,
        **as_config(options),
    )
    workflow.initialize()
    return workflow


def config_parser(configs: Sequence[str | os.PathLike[str]], options: Mapping[str, Any]) -> "ConfigParser":
    """The configs of a run, merged, with its options, nothing instantiated yet.

    Args:
        configs: files in the order in which they are merged.
        options: as of `run_workflow`.
    """
    from monai.bundle import ConfigParser

    for config in configs:
        check_no_mark(config)
    parser = ConfigParser()
    parser.read_config([os.fspath(config) for config in configs])
    parser.update(as_config(options))
    return parser


def run_arguments(configs: Sequence[str | os.PathLike[str]], options: Mapping[str, Any]) -> list[str]:
    """The words behind `python -m` that run a bundle in a process of its own, by MONAI's own command line.

    Args:
        configs: files in the order in which they are merged.
        options: as of `run_workflow`; what is None is left to the configs, since the command line cannot say it.
    """
    words = ["monai.bundle", "run", "--config_file", repr([os.fspath(config) for config in configs])]
    for name, value in as_config(options).items():
        words += [] if value is None else [f"--{name}", str(value)]
    return words


def run_command(configs: Sequence[str | os.PathLike[str]], options: Mapping[str, Any]) -> list[str]:
    """The whole command of `run_arguments`, with the Python that runs here."""
    return [sys.executable, "-m", *run_arguments(configs, options)]


def is_config_text(value: Any) -> bool:
    """Whether MONAI would take a text for more than itself: an expression, a reference or a macro."""
    return isinstance(value, str) and value.startswith(("$", "@", "%"))


def _plain(value: Any) -> Any:
    """`value` with paths as text, in lists and dictionaries too."""
    if isinstance(value, PurePath):
        return os.fspath(value)
    if isinstance(value, dict):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_plain, value))
    return value
