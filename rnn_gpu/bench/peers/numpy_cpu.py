"""Our own NumPy backend, the reference."""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager

from rnn_gpu.bench import ours
from rnn_gpu.bench.calls import Call
from rnn_gpu.bench.runner import Runner
from rnn_gpu.bench.shapes import Case

__all__ = ["PEER"]


class _NumpyBackend:
    name = "numpy_cpu"

    def unavailable(self) -> str | None:
        return None

    def refuses(self, case: Case) -> str | None:
        return None

    def threads(self, number: int) -> AbstractContextManager[None]:
        """Nothing to do: those of NumPy's BLAS are set by `rnn_gpu.bench.blas`, for every user of BLAS at once."""
        return contextlib.nullcontext()

    def runner(self, call: Call, threads: int) -> Runner:
        return ours.runner(call, self.name)


PEER = _NumpyBackend()
