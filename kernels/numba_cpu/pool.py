"""Runs compiled functions side by side, in threads that stay between calls.

The functions release the interpreter lock. Numba's own pool is not used: one of its threading layers ends the process
when two Python threads call at once, and none is on every machine.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from threading import Lock
from typing import Any

__all__ = ["Task", "run_all", "run_together"]

Task = tuple[Callable[..., None], tuple[Any, ...]]

_lock = Lock()
_team_lock = Lock()
_pools: dict[str, ThreadPoolExecutor] = {}


def run_all(tasks: Sequence[Task], threads: int) -> None:
    """Run every (function, arguments), in at most `threads` threads of which this is one; return when all have ended.

    Raises what the first failing task raised, after all have ended.
    """
    if threads == 1 or len(tasks) == 1:
        _run_share(tasks)
        return
    _run_shares([tasks[k::threads] for k in range(min(threads, len(tasks)))], lambda: None)


def run_together(tasks: Sequence[Task], abandon: Callable[[], None]) -> bool:
    """Run tasks that wait for one another, each in a thread of its own. False, and nothing done, if that cannot be now.

    abandon: called if one fails, so that the others no longer wait for it.
    Two such groups at once might each hold some of the pool's threads and wait for the rest for ever.
    """
    if len(tasks) > 1 + _n_threads() or not _team_lock.acquire(blocking=False):
        return False
    try:
        _run_shares([[task] for task in tasks], abandon)
    finally:
        _team_lock.release()
    return True


def _run_shares(shares: Sequence[Sequence[Task]], abandon: Callable[[], None]) -> None:
    """Run the first share in this thread and each other one in a thread of the pool."""

    def run(share: Sequence[Task]) -> None:
        try:
            _run_share(share)
        except BaseException:
            abandon()
            raise

    others: list[Future[None]] = []
    try:
        others += [_pool().submit(run, share) for share in shares[1:]]
        for share in shares[:1]:
            run(share)
    except BaseException:
        abandon()
        raise
    finally:
        wait(others)
    for other in others:
        other.result()


def _run_share(tasks: Sequence[Task]) -> None:
    for function, arguments in tasks:
        function(*arguments)


def _pool() -> ThreadPoolExecutor:
    with _lock:
        if "threads" not in _pools:
            _pools["threads"] = ThreadPoolExecutor(_n_threads(), thread_name_prefix="rnn_gpu")
        return _pools["threads"]


def _n_threads() -> int:
    return os.cpu_count() or 1


def _forget_pool() -> None:
    """A forked child has none of its parent's threads, and other threads of the parent may have held the locks."""
    global _lock, _team_lock
    _lock, _team_lock = Lock(), Lock()
    _pools.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)
