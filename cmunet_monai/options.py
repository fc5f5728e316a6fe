"""Errors for the person who typed the command: they name its options, not the arguments of functions."""

import argparse
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def options_named(
    parser: argparse.ArgumentParser, given: Mapping[str, Any], aliases: Mapping[str, str] | None = None
) -> Iterator[None]:
    """Within, an error that names `spacing_mm` names `--spacing-mm`, and one that quotes an option's value its option.

    Args:
        parser: of the command; its options' destinations are the names to replace.
        given: what was parsed, destination -> value.
        aliases: further name -> option.
    Raises:
        OSError, ValueError, RuntimeError: as they were raised, with the options' names in the text.
    """
    options = {action.dest: action.option_strings[-1] for action in parser._actions if action.option_strings}
    names = {**options, **(aliases or {})}
    try:
        yield
    except (OSError, ValueError, RuntimeError) as error:
        text = str(error)
        named = re.sub(r"`(\w+)`", lambda match: f"`{names[match[1]]}`" if match[1] in names else match[0], text)
        if re.search(r"(^|\W)--[a-z]", named) is None:
            quoted = [options[name] for name, value in given.items() if name in options and _quotes(text, value)]
            named += f" ({', '.join(quoted)})" if quoted else ""
        if named == text:
            raise
        kind = (
            type(error) if isinstance(error, OSError) else ValueError if isinstance(error, ValueError) else RuntimeError
        )
        raise kind(named) from error


def _quotes(text: str, value: Any) -> bool:
    """Whether a text holds an option's value: a path or its last part, with a dot or slash, or a word in quotes."""
    forms: set[str] = set()
    for word in map(str, value if isinstance(value, (list, tuple)) else [value]):
        forms |= {repr(word), word, os.fspath(Path(word).resolve()), Path(word).name}
    return any(
        len(form) > 2 and re.search(r"['./\\]", form) and re.search(rf"(?<![\w./-]){re.escape(form)}(?![\w/-])", text)
        for form in forms
    )
