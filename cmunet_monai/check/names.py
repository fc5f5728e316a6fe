"""Config ids as people write them, and the nearest right word for a wrong one."""

import difflib
from collections.abc import Iterable

from monai.bundle.utils import ID_SEP_KEY


def show_id(config_id: str) -> str:
    """`train::trainer` as this project writes it: `train#trainer`."""
    return config_id.replace(ID_SEP_KEY, "#")


def nearest(word: str, candidates: Iterable[str]) -> str | None:
    """The candidate most like `word`, by the whole id first and by its last part next; None where nothing is alike."""
    candidates = list(dict.fromkeys(candidates))
    found = difflib.get_close_matches(word, candidates, n=1, cutoff=0.6)
    if found:
        return found[0]
    by_last: dict[str, str] = {}
    for candidate in candidates:
        by_last.setdefault(candidate.rsplit(ID_SEP_KEY, 1)[-1], candidate)
    found = difflib.get_close_matches(word.rsplit(ID_SEP_KEY, 1)[-1], by_last, n=1, cutoff=0.6)
    return by_last[found[0]] if found else None


def suggestion(word: str, candidates: Iterable[str]) -> str:
    """`; did you mean x?`, or nothing."""
    found = nearest(word, candidates)
    return f"; did you mean `{show_id(found)}`?" if found else ""


def some(values: Iterable[object], count: int = 5) -> str:
    """The first few of a list, and how many more there are."""
    words = [str(value) for value in values]
    more = f", and {len(words) - count} more" if len(words) > count else ""
    return ", ".join(words[:count]) + more
