"""The threads of torch's operators, which run the kernels where these work for torch.

When an operator of torch has ended, its threads watch for the next one for some milliseconds, each on a processor:
threads of ours would have to share the processors with them, and take twice as long. So a team is then one of the
OpenMP library that torch has loaded, made by the function that compilers call for `#pragma omp parallel`. It is the
same in the libraries of GNU, LLVM and Intel; where there is none, as on Windows, once a team has come out too small,
and in a forked child, the threads are ours.

A forked child of a process in which OpenMP has run may wait for ever for OpenMP's threads, which it has not: in torch's
operators, as after any of these in the parent. torch's advice holds: spawn, or torch.set_num_threads(1) in the child.
"""

from __future__ import annotations

import ctypes
import os
import sys
from functools import cache

import numpy as np

from rnn_gpu.kernels.numba_cpu.board import COUNT, NUMBER, PARALLEL, PART, PLACES, THREADS, address_of_part
from rnn_gpu.kernels.numba_cpu.jit import BUILD
from rnn_gpu.problem import Array
from rnn_gpu.threads import torch_threads

__all__ = ["lent", "refuse"]

_FUNCTIONS = {PARALLEL: "GOMP_parallel", NUMBER: "omp_get_thread_num", COUNT: "omp_get_num_threads"}

_refused = False


def lent(members: int) -> Array | None:
    """What is to stand on the board for a team of torch's threads; None if torch has none for so many members."""
    if not torch_threads.wanted or _refused:
        return None
    threads = sys.modules["torch"].get_num_threads()
    return _places(threads) if threads >= members else None


def refuse() -> None:
    """Borrow no threads any more."""
    global _refused  # noqa: PLW0603
    _refused = True


@cache
def _places(threads: int) -> Array | None:
    """A board's places from PARALLEL on: where OpenMP's functions are that torch calls, and what its threads run."""
    if os.name != "posix":  # Windows has another OpenMP
        return None
    for path in (None, sys.modules["torch"]._C.__file__):  # first those that were loaded for all before torch was
        library = ctypes.CDLL(path)
        found = {place: _address(library, name) for place, name in _FUNCTIONS.items()}
        if all(found.values()):
            found |= {PART: address_of_part(BUILD), THREADS: threads}
            return np.array([found[place] for place in range(PARALLEL, PLACES)], np.int64)
    return None


def _address(library: ctypes.CDLL, name: str) -> int:
    """The address of a function of that name, 0 if there is none."""
    function = getattr(library, name, None)
    return 0 if function is None else ctypes.cast(function, ctypes.c_void_p).value or 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=refuse)
