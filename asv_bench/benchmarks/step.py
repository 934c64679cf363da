"""Streaming: the latency of one fused step from a carried state."""

from .common import BACKENDS, CELLS, STEPS, Call, Shape


class Step:
    params = (CELLS, BACKENDS, STEPS)
    param_names = ("cell", "backend", "shape")

    def setup(self, cell: str, backend: str, shape: Shape) -> None:
        self.call = Call(cell, backend, shape)

    def time_step(self, cell: str, backend: str, shape: Shape) -> None:
        self.call.step()
