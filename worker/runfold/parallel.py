"""The same work for each of many things, in threads: transfers, which mostly wait."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Final, TypeVar

#: Transfers at once.
THREADS: Final = 8

Item = TypeVar("Item")


def in_parallel(work: Callable[[Item], object], items: Iterable[Item], *, threads: int = THREADS) -> None:
    """Call `work` with each item, in threads, or here where there can be none.

    The first exception ends it, and is raised when all stopped.
    """
    pending = iter(items)
    lock = threading.Lock()
    problems: list[BaseException] = []

    def take() -> list[Item]:
        with lock:
            return [item for _, item in zip(range(1), pending, strict=False)]

    def run() -> None:
        try:
            while not problems and (taken := take()):
                work(taken[0])
        except BaseException as error:  # noqa: BLE001  # raised below, in the caller's thread
            problems.append(error)

    workers = [threading.Thread(target=run, name="runfold-transfer", daemon=True) for _ in range(threads)]
    try:
        started = _start(workers)
        if not started:
            run()
        for worker in started:
            worker.join()
    except BaseException as error:  # Ctrl-C: the threads stop after their file
        problems.append(error)
        raise
    if problems:
        raise problems[0]


def _start(workers: list[threading.Thread]) -> list[threading.Thread]:
    """Start as many threads as can be: a process that ends, or that has too many, gets none."""
    for count, worker in enumerate(workers):
        try:
            worker.start()
        except RuntimeError:
            return workers[:count]
    return workers
