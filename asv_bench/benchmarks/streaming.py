"""Streaming: the latency of fused steps, with weights that may change and with frozen ones."""

from rnn_gpu.bench.shapes import Shape

from .common import BACKENDS, CELLS, QUICK, Timed


class Step(Timed):
    """As many steps, one a call, as the shape has."""

    params = (CELLS, BACKENDS, tuple(QUICK.steps), (False, True))
    param_names = ("cell", "backend", "shape", "frozen")

    def setup(self, cell: str, backend: str, shape: Shape, frozen: bool) -> None:
        self.prepare(cell, backend, shape, "step", frozen=frozen)

    def time_steps(self, cell: str, backend: str, shape: Shape, frozen: bool) -> None:
        self.run()
