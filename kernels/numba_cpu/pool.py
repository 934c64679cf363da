"""Runs compiled functions side by side, in threads that stay between calls.

The functions release the interpreter lock. Numba's own pool is not used: one of its threading layers ends the process
when two Python threads call at once, and none is on every machine.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from threading import Lock
from typing import Any

__all__ = ["Task", "run_all"]

Task = tuple[Callable[..., None], tuple[Any, ...]]

_lock = Lock()
_pools: dict[str, ThreadPoolExecutor] = {}


def run_all(tasks: Sequence[Task], threads: int) -> None:
    """Run every (function, arguments), in at most `threads` threads of which this is one; return when all have ended.

    Raises what the first failing task raised, after all have ended.
    """
    if threads == 1 or len(tasks) == 1:
        _run_share(tasks)
        return
    shares = [tasks[k::threads] for k in range(min(threads, len(tasks)))]
    others = [_pool().submit(_run_share, share) for share in shares[1:]]
    try:
        _run_share(shares[0] if shares else ())
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
            _pools["threads"] = ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="rnn_gpu")
        return _pools["threads"]


def _forget_pool() -> None:
    """A forked child has none of its parent's threads."""
    global _lock  # noqa: PLW0603  (another thread of the parent may have held it)
    _lock = Lock()
    _pools.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)
