"""What keeping only the states for backward costs in time and saves in memory."""

from rnn_gpu.bench.shapes import Shape

from .common import BACKENDS, GATED, Timed

LONG = Shape(1000, 64, 64, 64)
"""Enough for what is kept to be more than the interpreter and its libraries."""


class Recompute(Timed):
    params = (GATED, BACKENDS, (False, True))
    param_names = ("cell", "backend", "recompute")

    def setup(self, cell: str, backend: str, recompute: bool) -> None:
        self.prepare(cell, backend, LONG, "train", recompute=recompute)

    def time_train(self, cell: str, backend: str, recompute: bool) -> None:
        self.run()

    # The process' peak: the interpreter, the libraries and the arrays included.
    def peakmem_train(self, cell: str, backend: str, recompute: bool) -> None:
        self.run()
