"""The backends under test: all that dispatch knows and this machine can run.

One for another device needs one entry here, in `DEVICES`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import currently_in_test_context, reject

import rnn_gpu
from rnn_gpu import dispatch
from rnn_gpu.arrays import dtype_name
from support.calls import Call, named_gradients

__all__ = ["DEVICES", "HOST_TARGETS", "REFERENCE", "TARGETS", "Target"]


@dataclass(frozen=True)
class Target:
    """A backend and the arrays it takes.

    put: from a NumPy array to one of the backend's device; get: and back. puts: by dtype of x, another `put` for all
    arrays of such a call, which are of one library.
    """

    name: str
    put: Callable[[np.ndarray], Any] = lambda array: array
    get: Callable[[Any], np.ndarray] = np.asarray
    puts: Mapping[str, Callable[[np.ndarray], Any]] = field(default_factory=dict, compare=False)

    def __str__(self) -> str:
        return self.name

    @property
    def batch_invariant(self) -> bool:
        return dispatch.BACKENDS[self.name].batch_invariant

    def forward(self, call: Call, *, save: bool = True) -> tuple[Call, rnn_gpu.Forward]:
        """The call with its arrays on the backend's device, and what comes of it there.

        Skips the test, saying why, where the backend is unavailable or refuses the call; hypothesis draws another call.
        """
        if reason := dispatch.BACKENDS[self.name].unavailable():
            pytest.skip(f"{self}: {reason}")
        there = self.place(call)
        if reason := rnn_gpu.explain(*there.arguments(), backend=self.name, save=save).reasons[self.name]:
            if currently_in_test_context():
                reject()
            pytest.skip(f"{self}: {reason}")
        return there, rnn_gpu.forward(*there.arguments(), save=save, backend=self.name)

    def place(self, call: Call) -> Call:
        """The call with its arrays on the backend's device."""
        return call.map(self._put(call))

    def _put(self, call: Call) -> Callable[[np.ndarray], Any]:
        return self.puts.get(dtype_name(call.x), self.put)

    def run(self, call: Call) -> dict[str, np.ndarray]:
        """The call's results by name, forward and backward."""
        there, (y, last, tape) = self.forward(call)
        return self.named(there, y, last, rnn_gpu.backward(tape, there.dy, there.dlast))

    def named(self, call: Call, y: Any, last: Any, gradients: rnn_gpu.Gradients) -> dict[str, np.ndarray]:
        """Results by name, as NumPy arrays."""
        ends = {f"last_{state}": array for state, array in zip(call.cell.states, last, strict=True)}
        named = {"y": y} | ends | named_gradients(call.cell, gradients)
        return {name: self.get(array) for name, array in named.items()}

    def step(self, call: Call, t: int, state: tuple[np.ndarray, ...] | None) -> tuple[np.ndarray, ...]:
        """The states after one step on `call.x[t]`, reset before it where the call says so."""
        put = self._put(call)
        state = state and tuple(map(put, state))
        resets = None if call.resets is None else call.resets[t]
        new = rnn_gpu.step(call.cell, put(call.x[t]), call.weights.map(put), state, resets=resets, backend=self.name)
        return tuple(map(self.get, new))


def _to_numba(array: np.ndarray) -> Any:
    from numba import cuda  # noqa: PLC0415  (where there is a device)

    return cuda.to_device(np.ascontiguousarray(array, array.dtype.newbyteorder("=")))


def _from_numba(array: Any) -> np.ndarray:
    """From Numba's array, or from one of CuPy, in whose arrays calls in bfloat16 come: Numba has none of it."""
    return array.copy_to_host() if hasattr(array, "copy_to_host") else _from_cupy(array)


def _to_cupy(array: np.ndarray) -> Any:
    """A copy on the device, with the same strides: those of a view of another array, as it was made."""
    cupy = pytest.importorskip("cupy", reason="no library for arrays of that dtype on the device")
    native = np.asarray(array, array.dtype.newbyteorder("="))
    if native.flags.c_contiguous:
        return cupy.asarray(native)
    around = cupy.zeros([2 * size for size in native.shape], native.dtype)
    view = around[(slice(None, None, -2),) * native.ndim]
    view[...] = cupy.asarray(np.ascontiguousarray(native))
    return view


def _from_cupy(array: Any) -> np.ndarray:
    return array.get()


DEVICES: dict[str, dict[str, Any]] = {
    "cupy_raw": {"put": _to_cupy, "get": _from_cupy},
    "numba_cuda": {"put": _to_numba, "get": _from_numba, "puts": {"bfloat16": _to_cupy}},
}
"""By backend, `put`, `get` and `puts` for one whose arrays do not lie in host memory."""

TARGETS = tuple(
    Target(name, **DEVICES.get(name, {})) for name, backend in dispatch.BACKENDS.items() if not backend.unavailable()
)
"""Those that can be tested here; `test_grid.py` says why the others cannot."""

HOST_TARGETS = tuple(target for target in TARGETS if target.name not in DEVICES)

REFERENCE = Target("numpy_cpu")
"""Run in float64, it is what the others are measured against; it is itself checked against scalar loops and torch."""
