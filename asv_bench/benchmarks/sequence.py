"""Whole sequences: the forward pass alone, and a training step's forward and backward pass."""

from .common import BACKENDS, CELLS, SEQUENCES, Call, Shape


class Sequence:
    params = (CELLS, BACKENDS, SEQUENCES)
    param_names = ("cell", "backend", "shape")

    def setup(self, cell: str, backend: str, shape: Shape) -> None:
        self.call = Call(cell, backend, shape)

    def time_forward(self, cell: str, backend: str, shape: Shape) -> None:
        self.call.forward(save=False)

    def time_train(self, cell: str, backend: str, shape: Shape) -> None:
        self.call.train()
