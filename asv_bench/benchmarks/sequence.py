"""Whole sequences: the forward pass alone, and a training step's forward and backward pass."""

from .common import BACKENDS, CELLS, SEQUENCES, Shape, prepared


class Forward:
    params = (CELLS, BACKENDS, SEQUENCES)
    param_names = ("cell", "backend", "shape")

    def setup(self, cell: str, backend: str, shape: Shape) -> None:
        self.run = prepared(cell, backend, shape, "forward")

    def time_forward(self, cell: str, backend: str, shape: Shape) -> None:
        self.run()


class Train:
    params = (CELLS, BACKENDS, SEQUENCES)
    param_names = ("cell", "backend", "shape")

    def setup(self, cell: str, backend: str, shape: Shape) -> None:
        self.run = prepared(cell, backend, shape, "train")

    def time_train(self, cell: str, backend: str, shape: Shape) -> None:
        self.run()
