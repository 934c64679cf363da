"""The GPU through Numba: the emitted Python cell functions in `@cuda.jit` kernels, to be read and changed in Python.

`BACKEND` is what dispatch sees. `block.py`, `grid.py` and `stepwise.py` are the kernels over a sequence, `product.py`
those over all steps at once; `plan.py` chooses. Nothing is compiled, and Numba is not imported, before the first call.
"""

from __future__ import annotations

from typing import Any

from rnn_gpu.dispatch import Direct, Result
from rnn_gpu.errors import BackendError
from rnn_gpu.kernels.numba_cuda import device
from rnn_gpu.problem import Array, Gradients, Inputs, Problem

__all__ = ["BACKEND"]


class _NumbaCudaBackend:
    name = "numba_cuda"
    description = "CUDA kernels in Python, compiled by Numba: every cell, option and dtype"
    device_kind = "cuda"
    copies_host_arrays = True
    batch_invariant = True
    uses_blas = False

    def unavailable(self) -> str | None:
        return device.unavailable()

    def devices(self) -> list[str]:
        return device.devices()

    def refuses(self, problem: Problem) -> str | None:
        try:
            self._plans(problem)
        except BackendError as error:  # a strategy was named, and cannot run it
            return str(error)
        return None

    def plan(self, problem: Problem) -> str | None:
        lines = [] if problem.library.kind == "cuda" else ["x is copied to the device, and the results back"]
        return "\n".join([*lines, *map(str, self._plans(problem))])

    def _plans(self, problem: Problem) -> list[Any]:
        from rnn_gpu.kernels.numba_cuda.jit import SIMULATED  # noqa: PLC0415  (imports Numba)
        from rnn_gpu.kernels.numba_cuda.plan import planned  # noqa: PLC0415
        from rnn_gpu.kernels.numba_cuda.traits import TRAITS  # noqa: PLC0415

        properties = device.properties(problem.library.index)
        if not SIMULATED:
            from rnn_gpu.kernels.numba_cuda.compilation import target_for  # noqa: PLC0415

            target_for(properties.capability)  # refused where nothing is compiled for the device
        directions = ("forward", "backward") if problem.save else ("forward",)
        return [planned(problem, direction, properties, TRAITS) for direction in directions]

    def forward(self, problem: Problem, inputs: Inputs) -> Result:
        from rnn_gpu.kernels.numba_cuda import forward  # noqa: PLC0415

        return forward.run(problem, inputs)

    def backward(
        self, problem: Problem, inputs: Inputs, saved: Any, dy: Array | None, dlast: tuple[Array | None, ...]
    ) -> Gradients:
        from rnn_gpu.kernels.numba_cuda import backward  # noqa: PLC0415

        return backward.run(problem, inputs, saved, dy, dlast)

    def direct(self, problem: Problem) -> Direct | None:
        return None

    def step(self, problem: Problem, inputs: Inputs) -> tuple[Array, ...]:
        return self.forward(problem, inputs).last


BACKEND = _NumbaCudaBackend()
