"""One process at a time."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


@contextmanager
def alone(path: str | os.PathLike[str], message: str | None, *, inherited: bool = False) -> Iterator[None]:
    """Hold a lock that ends with the process.

    Args:
        path: of its file; the folder is made where there is none.
        message: of the error; None waits for the other process instead.
        inherited: processes that this one starts hold it too, and keep it should this one be killed. On Windows, which
            has no such locks, they do not.
    Raises:
        BlockingIOError: with the message, if another process holds it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if inherited and fcntl is not None:
        with _with_children(path, message):
            yield
        return
    lock = FileLock(path)
    try:
        lock.acquire(blocking=message is None, poll_interval=0.01)
    except Timeout:
        raise BlockingIOError(message) from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _with_children(path: Path, message: str | None) -> Iterator[None]:
    """The lock that `filelock` takes too, but never given back: it ends when the last process that holds it does."""
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX if message is None else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BlockingIOError(message) from error
        os.set_inheritable(file.fileno(), True)
        yield
