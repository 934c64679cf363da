"""What every benchmark runs on: the cells, the backends, the shapes, and the arrays made from them.

T time steps, B batch rows, I inputs, H hidden units.
"""

from typing import Any, NamedTuple

import numpy as np

import rnn_gpu
from rnn_gpu import cells
from rnn_gpu.errors import BackendError

CELLS = ("rnn", "lstm", "gru")
BACKENDS = ("numpy_cpu",)


class Shape(NamedTuple):
    T: int
    B: int
    I: int  # noqa: E741
    H: int


# Overhead of a step; a language model's chunk; products that fill the caches.
SEQUENCES = (Shape(T=64, B=1, I=32, H=32), Shape(T=64, B=32, I=128, H=128), Shape(T=64, B=64, I=512, H=512))
STEPS = (Shape(T=1, B=1, I=64, H=64), Shape(T=1, B=1, I=512, H=512), Shape(T=1, B=32, I=128, H=128))


class Call:
    """One cell on one backend at one shape, in float32, with everything it reads made beforehand.

    Raises NotImplementedError, by which asv skips, where the backend cannot run it.
    """

    def __init__(self, cell: str, backend: str, shape: Shape) -> None:
        rng = np.random.default_rng(0)
        self.cell = getattr(cells, cell)
        self.backend = backend
        self.w = rnn_gpu.init_weights(self.cell, input_size=shape.I, hidden_size=shape.H, dtype="float32", seed=0)
        self.x = rng.standard_normal((shape.T, shape.B, shape.I), dtype=np.float32)
        self.dy = rng.standard_normal((shape.T, shape.B, shape.H), dtype=np.float32)
        try:
            _, self.last, _ = self.forward(save=False)
        except BackendError as reason:
            raise NotImplementedError(str(reason)) from reason

    def forward(self, *, save: bool) -> Any:
        return rnn_gpu.forward(self.cell, self.x, self.w, backend=self.backend, save=save)

    def train(self) -> Any:
        _, _, tape = self.forward(save=True)
        return rnn_gpu.backward(tape, dy=self.dy)

    def step(self) -> Any:
        return rnn_gpu.step(self.cell, self.x[0], self.w, self.last, backend=self.backend)
