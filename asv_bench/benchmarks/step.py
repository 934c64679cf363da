"""Streaming: the latency of one fused step, with weights that may change and with frozen ones."""

from .common import BACKENDS, CELLS, STEPS, Shape, prepared


class Step:
    params = (CELLS, BACKENDS, STEPS, (False, True))
    param_names = ("cell", "backend", "shape", "frozen")

    def setup(self, cell: str, backend: str, shape: Shape, frozen: bool) -> None:
        self.run = prepared(cell, backend, shape, "step", frozen=frozen)

    def time_step(self, cell: str, backend: str, shape: Shape, frozen: bool) -> None:
        self.run()
