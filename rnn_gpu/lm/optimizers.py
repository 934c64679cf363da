"""Adam and RMSprop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["OPTIMIZERS", "Adam", "Optimizer", "RMSprop"]

Arrays = Mapping[str, NDArray[Any]]


class Optimizer(Protocol):
    """Updates parameters, in place, from their gradients. `moments` and `steps` are all it remembers."""

    moments: dict[str, NDArray[Any]]
    steps: int

    def __init__(self, parameters: Arrays) -> None: ...

    def step(self, parameters: Arrays, gradients: Arrays, learning_rate: float) -> None: ...


class Adam:
    """Adaptive moment estimation. Kingma & Ba (2015), algorithm 1, with its rearranged step size (section 2)."""

    beta1: ClassVar[float] = 0.9
    beta2: ClassVar[float] = 0.999
    epsilon: ClassVar[float] = 1e-8

    def __init__(self, parameters: Arrays) -> None:
        self.moments = {f"{kind}.{name}": np.zeros_like(p) for name, p in parameters.items() for kind in ("m", "v")}
        self.steps = 0

    def step(self, parameters: Arrays, gradients: Arrays, learning_rate: float) -> None:
        self.steps += 1
        scale = learning_rate * (1.0 - self.beta2**self.steps) ** 0.5 / (1.0 - self.beta1**self.steps)
        for name, parameter in parameters.items():
            gradient, m, v = gradients[name], self.moments[f"m.{name}"], self.moments[f"v.{name}"]
            m += (1.0 - self.beta1) * (gradient - m)
            v += (1.0 - self.beta2) * (np.square(gradient) - v)
            parameter -= scale * m / (np.sqrt(v) + self.epsilon)


class RMSprop:
    """A running average of squared gradients sets each parameter's rate. Tieleman & Hinton (2012), lecture 6.5."""

    decay: ClassVar[float] = 0.9
    epsilon: ClassVar[float] = 1e-8

    def __init__(self, parameters: Arrays) -> None:
        self.moments = {f"v.{name}": np.zeros_like(p) for name, p in parameters.items()}
        self.steps = 0

    def step(self, parameters: Arrays, gradients: Arrays, learning_rate: float) -> None:
        self.steps += 1
        for name, parameter in parameters.items():
            gradient, v = gradients[name], self.moments[f"v.{name}"]
            v += (1.0 - self.decay) * (np.square(gradient) - v)
            parameter -= learning_rate * gradient / (np.sqrt(v) + self.epsilon)


OPTIMIZERS: dict[str, type[Optimizer]] = {"adam": Adam, "rmsprop": RMSprop}
"""By the name that `--optimizer` takes."""
