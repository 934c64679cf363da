"""The reference backend: plain vectorised NumPy, right in float64, honest in float32.

`BACKEND` is what dispatch sees; `forward.py` and `backward.py` are the driver, one direction each.
"""

from __future__ import annotations

import platform
from typing import Any

from rnn_gpu.dispatch import Direct, Result
from rnn_gpu.kernels.numpy_cpu import backward, forward
from rnn_gpu.problem import Array, Gradients, Inputs, Problem

__all__ = ["BACKEND"]


class _NumpyBackend:
    name = "numpy_cpu"
    description = "vectorised NumPy, the reference: every cell, option and dtype"
    device_kind = "cpu"
    copies_host_arrays = False
    batch_invariant = False  # BLAS picks its blocking by the number of rows
    uses_blas = True

    def unavailable(self) -> str | None:
        return None

    def devices(self) -> list[str]:
        return [platform.processor() or platform.machine()]

    def refuses(self, problem: Problem) -> str | None:
        return None

    def plan(self, problem: Problem) -> str | None:
        return None

    def forward(self, problem: Problem, inputs: Inputs) -> Result:
        return forward.run(problem, inputs)

    def backward(
        self, problem: Problem, inputs: Inputs, saved: Any, dy: Array | None, dlast: tuple[Array | None, ...]
    ) -> Gradients:
        return backward.run(problem, inputs, saved, dy, dlast)

    def direct(self, problem: Problem) -> Direct | None:
        return None

    def step(self, problem: Problem, inputs: Inputs) -> tuple[Array, ...]:
        return forward.run(problem, inputs).last


BACKEND = _NumpyBackend()
