"""The backend that dispatch sees, over any `Device`."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from rnn_gpu.arrays import ArrayLibrary
from rnn_gpu.dispatch import Direct, Result
from rnn_gpu.errors import BackendError
from rnn_gpu.kernels.cupy_raw import backward, forward
from rnn_gpu.kernels.cupy_raw.call import Call
from rnn_gpu.kernels.cupy_raw.device import Device, Properties
from rnn_gpu.kernels.cupy_raw.method import Method, method_of
from rnn_gpu.kernels.cupy_raw.plan import Plan, choose
from rnn_gpu.kernels.cupy_raw.rows import rows_of
from rnn_gpu.problem import Array, Gradients, Inputs, Problem
from rnn_gpu.strategies import ENVIRONMENT_VARIABLE

__all__ = ["CudaBackend"]


class CudaBackend:
    """Runs problems on the devices that `device_of` finds for their arrays, as `plan_of` says."""

    name = "cupy_raw"
    description = "CUDA C++ through CuPy, whole sequences in one launch: every cell, option and dtype"
    device_kind = "cuda"
    copies_host_arrays = False
    batch_invariant = False  # tiles depend on the number of rows
    uses_blas = False

    def __init__(
        self,
        device_of: Callable[[ArrayLibrary], Device],
        unavailable: Callable[[], str | None],
        devices: Callable[[], list[str]],
        plan_of: Callable[[Problem, Properties], Plan] = choose,
    ) -> None:
        self._device_of, self._plan_of, self._unavailable, self._devices = device_of, plan_of, unavailable, devices

    def unavailable(self) -> str | None:
        return self._unavailable()

    def devices(self) -> list[str]:
        return self._devices()

    def refuses(self, problem: Problem) -> str | None:
        try:
            self._method(problem)
        except BackendError as error:
            return str(error)
        return None

    def plan(self, problem: Problem) -> str | None:
        """How the problem would be run, in words."""
        return str(self._method(problem).plan)

    def forward(self, problem: Problem, inputs: Inputs) -> Result:
        device = self._device_of(problem.library)
        with device.active():
            rows = None if inputs.lengths is None else rows_of(problem, inputs)
            method = self._method(problem, packed=rows is not None and rows.packed)
            return forward.run(Call(problem, inputs, device, method, rows or method.rows))

    def backward(
        self, problem: Problem, inputs: Inputs, saved: Any, dy: Array | None, dlast: tuple[Array | None, ...]
    ) -> Gradients:
        device = self._device_of(problem.library)  # with the stream that its caller works on now
        with device.active():
            return backward.run(saved, device, dy, dlast)

    def direct(self, problem: Problem) -> Direct | None:
        return None

    def step(self, problem: Problem, inputs: Inputs) -> tuple[Array, ...]:
        return self.forward(problem, inputs).last

    def _method(self, problem: Problem, *, packed: bool = False) -> Method:
        """Found once for a problem, and for each strategy that is asked for. Raises BackendError as the plan does."""
        key = (self, os.environ.get(ENVIRONMENT_VARIABLE), packed)
        found: Method | None = problem.memo.get(key)
        if found is None:
            plan = self._plan_of(problem, self._device_of(problem.library).properties)
            found = problem.memo[key] = method_of(problem, plan, packed=packed)
        return found
