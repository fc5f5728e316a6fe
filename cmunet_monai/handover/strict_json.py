"""JSON that every parser reads alike, and none chokes on; and where a text differs from what it should be."""

import json
import re
from itertools import accumulate, zip_longest
from typing import Any

from cmunet_monai.handover.refused import Refused, quoted

MAX_BYTES = 2**20
MAX_DEPTH = 20
_STRING = re.compile(r'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)  # possessive, so that time is linear
_NUMBERS = re.compile(r"\[\n +(-?\d[-+\d.e, \n]*?)\n *\]")  # a list of numbers; texts have no line breaks in JSON


def json_text(content: Any) -> bytes:
    """JSON as a package holds it: indented, lists of numbers on one line; ValueError for NaN and infinities."""
    text = json.dumps(content, indent=4, ensure_ascii=False, allow_nan=False)
    return (_NUMBERS.sub(lambda match: "[" + re.sub(r",\s+", ", ", match[1]) + "]", text) + "\n").encode("utf-8")


def read_json(data: bytes) -> dict[str, Any]:
    """Parse a dictionary that `json_text` could write.

    Raises:
        Refused: for more bytes or nesting than allowed, NaN and infinities, text that is not Unicode, and anything that
            is no JSON dictionary. Keys that stand twice are found by who writes the content once more.
    """
    if len(data) > MAX_BYTES:
        raise Refused(f"{len(data)} bytes of JSON, more than {MAX_BYTES}")
    try:
        text = data.decode("utf-8")
        steps = ({"[": 1, "{": 1, "]": -1, "}": -1}.get(character, 0) for character in _STRING.sub("", text))
        if max(accumulate(steps), default=0) > MAX_DEPTH:
            raise Refused(f"JSON nested more than {MAX_DEPTH} deep")
        content = json.loads(text)
        json_text(content)
    except Refused:
        raise
    except (ValueError, RecursionError) as error:  # also a number of thousands of digits, and half a character
        raise Refused(f"not JSON: {quoted(str(error))}") from None
    if not isinstance(content, dict):
        raise Refused(f"must be a dictionary, got {quoted(content)}")
    return content


def difference(got: bytes, expected: bytes) -> str:
    """The first line in which a text differs from what it should be; of JSON, whatever its layout."""
    if expected.startswith(b"{"):
        try:
            got, expected = (json_text(read_json(text)).replace(b",\n", b"\n") for text in (got, expected))
        except Refused as error:
            return str(error)
    for number, (line, own) in enumerate(zip_longest(got.split(b"\n"), expected.split(b"\n")), 1):
        if line != own:
            return f"line {number} is {_shown(line)}, where `package` writes {_shown(own)}"
    return "the content is right, but not written as `package` writes it"


def _shown(line: bytes | None) -> str:
    return "missing" if line is None else quoted(line.decode("utf-8", errors="replace").strip(" "), 300)
