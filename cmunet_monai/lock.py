"""One process at a time."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def alone(path: str | os.PathLike[str], message: str | None, *, inherited: bool = False) -> Iterator[None]:
    """Hold a lock that ends with the process.

    Args:
        path: of its file; the folder is made where there is none.
        message: of the error; None waits for the other process instead.
        inherited: processes that this one starts hold it too, and keep it should this one be killed.
    Raises:
        BlockingIOError: with the message, if another process holds it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX if message is None else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BlockingIOError(message) from error
        os.set_inheritable(file.fileno(), inherited)
        yield
