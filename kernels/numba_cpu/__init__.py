"""The fast CPU backend: the emitted cell functions on SIMD vectors, packed products, rows shared out over threads.

`BACKEND` is what dispatch sees. Nothing is compiled, and Numba is not imported, before the first call.
"""

from __future__ import annotations

import importlib.util
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any

import numpy as np

from rnn_gpu.dispatch import Result
from rnn_gpu.problem import Array, Gradients, Inputs, Problem
from rnn_gpu.threads import get_threads

__all__ = ["BACKEND"]


class _NumbaBackend:
    name = "numba_cpu"
    description = "compiled by Numba, SIMD and threads: every cell, option and dtype"
    device_kind = "cpu"
    copies_host_arrays = False
    batch_invariant = True
    uses_blas = False

    def unavailable(self) -> str | None:
        return _unavailable()

    def devices(self) -> list[str]:
        from rnn_gpu.kernels.numba_cpu.host import TRAITS  # noqa: PLC0415  (imports Numba)

        return [f"{get_threads()} threads, {TRAITS.kind}"]

    def refuses(self, problem: Problem) -> str | None:
        return None

    def plan(self, problem: Problem) -> str | None:
        return None

    def forward(self, problem: Problem, inputs: Inputs) -> Result:
        from rnn_gpu.kernels.numba_cpu import forward  # noqa: PLC0415

        with _quiet(problem):
            return forward.run(problem, inputs)

    def backward(
        self, problem: Problem, inputs: Inputs, saved: Any, dy: Array | None, dlast: tuple[Array | None, ...]
    ) -> Gradients:
        from rnn_gpu.kernels.numba_cpu import backward  # noqa: PLC0415

        with _quiet(problem):
            return backward.run(problem, inputs, saved, dy, dlast)

    def step(self, problem: Problem, inputs: Inputs) -> tuple[Array, ...]:
        from rnn_gpu.kernels.numba_cpu import step  # noqa: PLC0415

        with _quiet(problem):
            return step.run(problem, inputs)


def _quiet(problem: Problem) -> AbstractContextManager[None]:
    """Numbers too large for 16 bits become inf, as IEEE says, without a warning."""
    return _NOTHING if problem.real is problem.dtype else np.errstate(all="ignore")


_NOTHING = nullcontext()


@cache
def _unavailable() -> str | None:
    """Why not, found once."""
    if not importlib.util.find_spec("numba"):
        return "the package numba is not installed"
    try:
        import numba  # noqa: PLC0415

        from rnn_gpu.kernels.numba_cpu import host  # noqa: F401, PLC0415
    except (ImportError, ValueError) as error:  # such as a variable of its own that Numba cannot read
        return f"numba cannot be used: {error}"
    return "NUMBA_DISABLE_JIT is set" if numba.config.DISABLE_JIT else None


BACKEND = _NumbaBackend()
