"""Why something from a package is not accepted."""

from typing import Any


class Refused(ValueError):  # noqa: N818 (a verdict, not a mistake of the program's)
    """A package contains something that is not allowed; the message says what and why."""


def quoted(value: Any, limit: int = 100) -> str:
    """A value that came from a package, safe to print: ASCII, on one line, of limited length."""
    text = ascii(value)
    return text if len(text) <= limit else f"{text[:limit]}... ({len(text)} characters)"
