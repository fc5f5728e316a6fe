"""JSON that every parser reads alike, and none chokes on."""

import json
import re
from collections import Counter
from typing import Any

from cmunet_monai.handover.refused import Refused, quoted

MAX_BYTES = 2**20
MAX_DEPTH = 40
# A string (to the end of the text where it is not closed), or a bracket outside one; possessive, so that time is linear
_TOKEN = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[\[\]{}]', re.DOTALL)


def read_json(data: bytes, *, limit: int = MAX_BYTES) -> Any:
    """Parse `data`.

    Args:
        data: UTF-8 without a byte order mark.
        limit: size in bytes above which it is not parsed.
    Raises:
        Refused: for more bytes or nesting than allowed, a key that stands twice, NaN and infinities, text that is not
            Unicode, or anything that is not JSON.
    """
    if len(data) > limit:
        raise Refused(f"{len(data)} bytes of JSON, more than {limit}")
    try:
        text = data.decode("utf-8")
        _check_depth(text)
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite)
        json.dumps(value, ensure_ascii=False).encode("utf-8")  # an escape such as \ud800 is half a character
    except UnicodeError:
        raise Refused("JSON that is not UTF-8") from None
    except Refused:
        raise
    except (ValueError, RecursionError) as error:  # also a number of thousands of digits
        raise Refused(f"not JSON: {quoted(str(error))}") from None
    return value


def _check_depth(text: str) -> None:
    depth = 0
    for token in _TOKEN.finditer(text):
        if token[0][0] == '"':
            continue
        depth += 1 if token[0] in "[{" else -1
        if depth > MAX_DEPTH:
            raise Refused(f"JSON nested more than {MAX_DEPTH} deep")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        counts = Counter(key for key, _ in pairs)
        twice = next(key for key, count in counts.items() if count > 1)
        raise Refused(f"key {quoted(twice)} stands twice: which of its values counts depends on the parser")
    return content


def _no_constant(name: str) -> None:
    raise Refused(f"{name} is not JSON")


def _finite(digits: str) -> float:
    value = float(digits)
    if value in (float("inf"), float("-inf")):
        raise Refused(f"{quoted(digits)} is too large a number")
    return value
