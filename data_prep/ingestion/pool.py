"""Work on many files in processes that may hang or die, one file at a time each."""

import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any, Protocol, TypeVar

from pebble import ProcessExpired, ProcessPool

Task = TypeVar("Task")
Result = TypeVar("Result")

TASKS_A_PROCESS = 200


@dataclass(frozen=True)
class Lost:
    """What became of a task that gave no result."""

    reason: str


class Work(Protocol):
    """Run a function on every task; results come in the order of the tasks.

    A few tasks a process are waiting at any time, not all. What the function raises is a `Lost` that says its type.
    """

    def __call__(
        self, function: Callable[[Task], Result], tasks: Iterable[Task]
    ) -> Iterator[tuple[Task, Result | Lost]]: ...


@contextmanager
def processes(workers: int, *, seconds: float, memory_bytes: int | None = None) -> Iterator[Work]:
    """Processes of this machine to work with.

    One that exceeds `seconds` on a task is killed, one that dies (a decoder that crashes, memory) is replaced; either
    way the task gives a `Lost`, and the others go on. Processes are spawned, not forked, when the first task comes,
    and renewed after 200 tasks, so that a decoder's leak stays small.

    Args:
        workers: number of processes.
        seconds: time limit of one task.
        memory_bytes: address space that one process may take; None sets no limit.
    """
    pool = ProcessPool(
        max_workers=workers,
        max_tasks=TASKS_A_PROCESS,
        context=get_context("spawn"),
        initializer=_start,
        initargs=(memory_bytes,),
    )

    def work(function: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[tuple[Task, Result | Lost]]:
        def start(task: Task) -> Any:
            return pool.schedule(function, args=(task,), timeout=seconds)

        return _in_order(start, tasks, ahead=4 * workers, late=f"it took longer than {seconds:g} s and was given up")

    with pool:
        try:
            yield work
        except BaseException:
            pool.stop()
            raise


@contextmanager
def cluster(address: str) -> Iterator[Work]:
    """A dask.distributed cluster to work with.

    A task whose worker dies is lost after dask's own number of retries. There is no time limit, and no limit of memory
    but those of the cluster.

    Raises:
        ValueError: without the package `distributed`.
    """
    try:
        from distributed import Client
    except ImportError as error:
        raise ValueError("a cluster needs the package distributed: pip install 'cmunet_monai[dask]'") from error
    with Client(address) as client:
        ahead = 4 * max(len(client.scheduler_info()["workers"]), 1)

        def work(function: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[tuple[Task, Result | Lost]]:
            # not `pure`: dask would take the result of an earlier call with the same arguments
            return _in_order(lambda task: client.submit(function, task, pure=False), tasks, ahead=ahead, late="")

        yield work


def _in_order(
    start: Callable[[Task], Any], tasks: Iterable[Task], *, ahead: int, late: str
) -> Iterator[tuple[Task, Any]]:
    waiting: deque[tuple[Task, Any]] = deque()
    for task in tasks:
        waiting.append((task, start(task)))
        if len(waiting) >= ahead:
            yield _outcome(*waiting.popleft(), late)
    while waiting:
        yield _outcome(*waiting.popleft(), late)


def _outcome(task: Task, future: Any, late: str) -> tuple[Task, Any]:
    try:
        return task, future.result()
    except TimeoutError:
        return task, Lost(late)
    except ProcessExpired as error:
        return task, Lost(f"the process that read it died (exit code {error.exitcode})")
    except Exception as error:  # whatever a decoder raises; its text may quote the file, its type does not
        return task, Lost(f"an unexpected error of type {type(error).__name__}")


def _start(memory_bytes: int | None) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process of the terminal; the pool ends these
    if memory_bytes is not None:
        try:
            import resource
        except ImportError:  # Windows has no such limit
            return
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, hard))
