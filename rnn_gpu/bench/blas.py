"""NumPy's matrix product: its threads, and the rate that it reaches on this machine."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
from collections.abc import Callable, Iterator

import numpy as np

__all__ = ["SGEMM_SIZE", "limited", "sgemm", "sgemm_flops", "threads_remark"]

SGEMM_SIZE = 2048
"""Rows and columns of a product that is large enough to run at the machine's rate."""


def threads_remark(threads: int) -> str | None:
    """What is to be said about the threads of NumPy's BLAS, None if they will be as many."""
    if importlib.util.find_spec("threadpoolctl") is not None:
        return None
    return (
        f"NumPy's BLAS runs with as many threads as it chose itself, not necessarily {threads}: "
        "to have them set, pip install threadpoolctl"
    )


@contextlib.contextmanager
def limited(threads: int) -> Iterator[None]:
    """While open, BLAS uses this many threads, if threadpoolctl is there to set them."""
    if importlib.util.find_spec("threadpoolctl") is None:
        yield
        return
    with importlib.import_module("threadpoolctl").threadpool_limits(limits=threads, user_api="blas"):
        yield


def sgemm() -> Callable[[], object]:
    """A large float32 product to be timed."""
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, SGEMM_SIZE, SGEMM_SIZE), np.float32)
    out = np.empty_like(a)
    return lambda: np.matmul(a, b, out=out)


def sgemm_flops() -> float:
    """Floating-point operations of that product."""
    return 2.0 * SGEMM_SIZE**3
