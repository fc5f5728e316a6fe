"""Share independent pieces of work among processes, with a progress bar."""

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from tqdm import tqdm


def each(
    work: Callable[[int], None], indices: Sequence[int], *, workers: int, title: str, unit: str, chunk: int = 1
) -> None:
    """Call `work` with every index.

    Args:
        work: what is done; it can be pickled where there are several workers.
        indices: what it is done with.
        workers: how many processes share it; 1 is this process itself.
        title, unit: of the progress bar.
        chunk: how many indices a process takes at once.
    """
    progress = {"total": len(indices), "desc": title, "unit": unit, "disable": None}
    if workers == 1:
        for index in tqdm(indices, **progress):
            work(index)
        return
    # Not forked: a process forked while OpenCV or torch has threads can hang.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for _ in tqdm(pool.map(work, indices, chunksize=chunk), **progress):
            pass
