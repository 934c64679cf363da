"""A layer's run on each of Keras' backends, one module each, imported when it is first needed."""

from __future__ import annotations

import importlib
from typing import Any

from keras import backend

from rnn_gpu.compiler.cell import Cell
from rnn_gpu.errors import BackendError

__all__ = ["run"]

_MODULES = {
    "torch": "rnn_gpu.keras.engines.torch",
    "jax": "rnn_gpu.keras.engines.jax",
    "tensorflow": "rnn_gpu.keras.engines.tensorflow",
}


def run(cell: Cell, x: Any, weights: dict[str, Any], initial: list[Any], lengths: Any) -> tuple[Any, list[Any]]:
    """Run the cell over x (T, B, I), or (T, B, G*H) where `weights` has no w_ih: y (T, B, H) and the last states.

    weights: by the names of `rnn_gpu.Weights`; initial: a (B, H) a state; lengths (B,) or None. All are tensors of
    Keras' backend, which follows the gradients. Raises BackendError for a backend of Keras that is none of those above.
    """
    name = backend.backend()
    if name not in _MODULES:
        known = ", ".join(_MODULES)
        raise BackendError(f"rnn_gpu.keras runs on Keras' backends {known}; Keras is configured for {name}")
    found: tuple[Any, list[Any]] = importlib.import_module(_MODULES[name]).run(cell, x, weights, initial, lengths)
    return found
