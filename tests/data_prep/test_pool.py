"""Work in processes that hang, die or raise."""

import os
import time

from data_prep.ingestion.pool import Lost, processes


def behave(task):
    """What the task says."""
    if task == "hang":
        time.sleep(60)
    if task == "die":
        os._exit(7)
    if task == "raise":
        raise ValueError("SECRET")
    if task == "hoard":
        return len(bytearray(8 * 1024**3))
    return task.upper()


def test_results_come_in_order_whatever_happens_to_one_task():
    tasks = ["a", "die", "b", "hang", "raise", "hoard", "c"]
    with processes(2, seconds=3, memory_bytes=4 * 1024**3) as work:
        results = list(work(behave, tasks))
    assert [task for task, _ in results] == tasks
    outcome = dict(results)
    assert [outcome[name] for name in "abc"] == ["A", "B", "C"]
    assert outcome["die"] == Lost("the process that read it died (exit code 7)")
    assert outcome["hang"] == Lost("it took longer than 3 s and was given up")
    assert outcome["raise"] == Lost("an unexpected error of type ValueError")
    assert outcome["hoard"] == Lost("an unexpected error of type MemoryError")
