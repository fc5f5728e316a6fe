"""What MONAI's command line makes of a value that was meant as it stands."""

import ast
import os
import shlex
from typing import Any

from cmunet_monai.bundle import is_config_text, literal

_WOULD = {
    "$": "would be run as Python",
    "@": "would be taken for a reference",
    "%": "would be replaced by another piece of config",
}


def misread(name: str, value: Any, *, text: str | None, before: Any) -> str | None:
    """What `python -m monai.bundle run --NAME TEXT` would make of a text instead of taking it as it stands.

    Args:
        name: of the option, as it is shown.
        value: what MONAI's command line has made of the text.
        text: as it was written; None where it comes from elsewhere.
        before: what the config comes to without the option; None where that is not known.
    Returns:
        The problem and how to write the text, or None where it is taken as it stands, or for what it is: a number where
        no path is expected, an expression or a reference that names no file or folder.
    """
    if is_config_text(value):
        if os.path.lexists(value):
            return f"--{name} {value} is a file or folder here, but {_WOULD[value[0]]}: {_written(name, value)}"
        return None
    if isinstance(value, str):
        if text is not None and value != text and not _is_quoted(text):
            return f"--{name} {text} would be read as `{value}`: {_written(name, text)}"
        if "#" in value:
            return f"--{name} {value} would be read as `{value.replace('#', '::')}`: {_written(name, value)}"
        return None
    is_path = isinstance(before, str) and ("/" in before or before == ".")
    if not is_path or text is None or text.startswith(("[", "{", "(")):
        return None
    kind = "a list" if isinstance(value, tuple) else "true or false" if isinstance(value, bool) else "a number"
    return f"`{name}` {text} is read as {kind}: write ./{text}"


def _is_quoted(text: str) -> bool:
    """Whether the quotes of a Python string are written out, which says that a text is meant."""
    try:
        return isinstance(ast.literal_eval(text), str)
    except (ValueError, SyntaxError):
        return False


def _written(name: str, text: str) -> str:
    """How the option is written in a shell so that MONAI takes it literally."""
    config = literal(text)
    if '"' not in config:  # easier to read than a quoted apostrophe
        config = f'$"{config[2:-1]}"'
    return f"as a text, write --{name} {shlex.quote(config)}"
