"""Config ids as people write them, and the nearest right word for a wrong one."""

import difflib
from collections.abc import Iterable

from monai.bundle.utils import ID_SEP_KEY


def show_id(config_id: str) -> str:
    """`train::trainer` as this project writes it: `train#trainer`."""
    return config_id.replace(ID_SEP_KEY, "#")


def suggestion(word: str, candidates: Iterable[str]) -> str:
    """`; did you mean x?` for the candidate most like `word`, or whose last part is most like its; or nothing."""
    names = list(candidates)
    for part in (str, lambda name: name.rsplit(ID_SEP_KEY, 1)[-1]):
        table = {part(name): name for name in reversed(names)}
        for found in difflib.get_close_matches(part(word), table, n=1):
            return f"; did you mean `{show_id(table[found])}`?"
    return ""


def some(values: Iterable[object], count: int = 5) -> str:
    """The first few of a list, and how many more there are."""
    words = [str(value) for value in values]
    more = f", and {len(words) - count} more" if len(words) > count else ""
    return ", ".join(words[:count]) + more
