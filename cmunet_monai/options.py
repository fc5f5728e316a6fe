"""Errors for the person who typed the command: they name its options, not the arguments of functions."""

import argparse
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager


@contextmanager
def options_named(parser: argparse.ArgumentParser, aliases: Mapping[str, str] | None = None) -> Iterator[None]:
    """Within, an error that names `spacing_mm` names `--spacing-mm`.

    Args:
        parser: of the command; its options' destinations are the names to replace.
        aliases: further name -> option.
    Raises:
        OSError, ValueError, RuntimeError: as they were raised, with the options' names in the text.
    """
    names = {action.dest: action.option_strings[-1] for action in parser._actions if action.option_strings}
    names |= aliases or {}
    try:
        yield
    except (OSError, ValueError, RuntimeError) as error:
        text = str(error)
        named = re.sub(r"`(\w+)`", lambda match: f"`{names[match[1]]}`" if match[1] in names else match[0], text)
        if named == text:
            raise
        kind = next(kind for kind in (OSError, ValueError, RuntimeError) if isinstance(error, kind))
        raise kind(named) from error
