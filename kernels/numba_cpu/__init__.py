"""The fast CPU backend: the emitted cell functions on SIMD vectors, packed products, rows shared out over threads.

`BACKEND` is what dispatch sees. Nothing is compiled, and Numba is not imported, before the first call.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from rnn_gpu.dispatch import Direct, Result
from rnn_gpu.errors import ArgumentError
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

        threads = get_threads()
        return [f"{threads} thread{'s' if threads > 1 else ''}, {TRAITS.kind}"]

    def refuses(self, problem: Problem) -> str | None:
        return None

    def plan(self, problem: Problem) -> str | None:
        return None

    def forward(self, problem: Problem, inputs: Inputs) -> Result:
        run: Callable[[Problem, Inputs], Result] = _driver("forward").run
        if problem.real is problem.dtype:
            return run(problem, inputs)
        with np.errstate(all="ignore"):  # numbers too large for 16 bits become inf, as IEEE says
            return run(problem, inputs)

    def backward(
        self, problem: Problem, inputs: Inputs, saved: Any, dy: Array | None, dlast: tuple[Array | None, ...]
    ) -> Gradients:
        run: Callable[..., Gradients] = _driver("backward").run
        if problem.real is problem.dtype and not problem.cell.vectors:
            return run(problem, inputs, saved, dy, dlast)
        with np.errstate(all="ignore"):  # of sums in 64 bits, too
            return run(problem, inputs, saved, dy, dlast)

    def direct(self, problem: Problem) -> Direct | None:
        made: Direct | None = _driver("direct").direct_of(problem)
        return made

    def step(self, problem: Problem, inputs: Inputs) -> tuple[Array, ...]:
        run: Callable[[Problem, Inputs], tuple[Array, ...]] = _driver("step").run
        if problem.real is problem.dtype:
            return run(problem, inputs)
        with np.errstate(all="ignore"):
            return run(problem, inputs)


@cache
def _driver(name: str) -> Any:
    """The module of that name, imported when it is first wanted, as it imports Numba."""
    return importlib.import_module(f"{__name__}.{name}")


@cache
def _unavailable() -> str | None:
    """Why not, found once."""
    if not importlib.util.find_spec("numba"):
        return "the package numba is not installed"
    try:
        import numba  # noqa: PLC0415

        from rnn_gpu.kernels.numba_cpu import host  # noqa: F401, PLC0415
    except (ImportError, ValueError) as error:  # such as a variable of its own that Numba cannot read
        named = []
        if isinstance(error, ValueError) and not isinstance(error, ArgumentError):
            named = [f"{name}={value}" for name, value in os.environ.items() if name.startswith("NUMBA_")]
        return f"numba cannot be used: {error}" + (f" (in the environment: {', '.join(named)})" if named else "")
    return "NUMBA_DISABLE_JIT is set" if numba.config.DISABLE_JIT else None


BACKEND = _NumbaBackend()
