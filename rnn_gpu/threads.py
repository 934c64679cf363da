"""How many threads the CPU kernels use."""

from __future__ import annotations

import operator
import os
import sys
import threading

from rnn_gpu.errors import ArgumentError, ArgumentTypeError

__all__ = ["get_threads", "set_threads", "torch_threads"]

ENVIRONMENT_VARIABLE = "NUMBA_NUM_THREADS"

_threads: list[int] = []
"""The number, once it has been set or asked for."""

_chosen = False
"""Whether it is one that somebody has chosen."""


def set_threads(threads: int | None) -> None:
    """Set the number of threads of the CPU kernels in this process; None goes back to the default.

    Results do not depend on it. Raises ArgumentTypeError or ArgumentError if it is no whole number of at least 1.
    """
    global _chosen  # noqa: PLW0603
    _threads[:] = [] if threads is None else [_at_least_one("threads", threads)]
    _chosen = threads is not None


def get_threads() -> int:
    """The number of threads: as set, else NUMBA_NUM_THREADS, else the processors this process may run on.

    The default is found when it is first wanted, and kept until `set_threads(None)`. Modules of rnn_gpu.torch use as
    many as torch does, where that is less than the processors and the number has not been chosen.
    """
    global _chosen
    threads = next(iter(_threads), None)
    if threads is None:
        named = os.environ.get(ENVIRONMENT_VARIABLE)
        threads = _default(named)
        _threads[:], _chosen = [threads], bool(named)
    if torch_threads.wanted and not _chosen:
        threads = min(threads, int(sys.modules["torch"].get_num_threads()))
    return threads


class _TorchThreads(threading.local):
    """`with torch_threads:` what this Python thread calls works for torch, and is best done by the threads of torch."""

    wanted = 0
    """How often so at present, as such calls may be within others."""

    def __enter__(self) -> None:
        self.wanted += 1

    def __exit__(self, *exception: object) -> None:
        self.wanted -= 1


torch_threads = _TorchThreads()


def _default(named: str | None) -> int:
    if named and named.strip():
        return _at_least_one(ENVIRONMENT_VARIABLE, int(named) if named.strip().isdecimal() else named)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _at_least_one(name: str, value: object) -> int:
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError as error:
        raise ArgumentTypeError(name, "a whole number", repr(value)) from error
    if isinstance(value, bool):
        raise ArgumentTypeError(name, "a whole number", repr(value))
    if number < 1:
        raise ArgumentError(name, "a whole number of at least 1", repr(value))
    return number
