"""What MONAI's command line makes of a value that was meant as it stands."""

import os
import re
import shlex
from typing import Any

from cmunet_monai.bundle import is_config_text, literal

_WOULD = {
    "$": "would be run as Python",
    "@": "would be taken for a reference",
    "%": "would be replaced by another piece of config",
}
_PATH = re.compile(r"(dir|root|list|weights|checkpoint|ckpt|path|source|folder|file|key)$")


def misread(name: str, value: Any, text: str | None) -> str | None:
    """What is wrong with `--NAME TEXT` and how to write it, where MONAI would not take the text as it stands.

    A number is one but where the option's name is that of a path; an expression or a reference is one but where a file
    or folder is called so.

    Args:
        name: of the option, as it is shown.
        value: what MONAI's command line has made of the text.
        text: as it was written; None where it comes from elsewhere.
    """
    if is_config_text(value):
        if os.path.lexists(value):
            return f"--{name} {value} is a file or folder here, but {_WOULD[value[0]]}: {_written(name, value)}"
    elif isinstance(value, str):
        if text not in (None, value, repr(value), f'"{value}"'):
            return f"--{name} {text} would be read as `{value}`: {_written(name, str(text))}"
        if "#" in value:
            return f"--{name} {value} would be read as `{value.replace('#', '::')}`: {_written(name, value)}"
    elif text is not None and _PATH.search(name) and not text.startswith(("[", "{", "(")):
        kind = "a list" if isinstance(value, tuple) else "true or false" if isinstance(value, bool) else "a number"
        return f"`{name}` {text} is read as {kind}: write ./{text}"
    return None


def _written(name: str, text: str) -> str:
    """How the option is written in a shell so that MONAI takes it literally."""
    config = literal(text)
    if '"' not in config:  # easier to read than a quoted apostrophe
        config = f'$"{config[2:-1]}"'
    return f"as a text, write --{name} {shlex.quote(config)}"
