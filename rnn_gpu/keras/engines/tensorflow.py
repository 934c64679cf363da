"""On Keras' TensorFlow backend: callbacks to the host, eager or in graphs; XLA cannot compile them."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from rnn_gpu.compiler.cell import Cell
from rnn_gpu.keras.engines import host

__all__ = ["run"]


def run(cell: Cell, x: Any, weights: dict[str, Any], initial: list[Any], lengths: Any) -> tuple[Any, list[Any]]:
    """See `rnn_gpu.keras.engines.run`."""
    names = tuple(weights)
    n_weights = len(weights)
    no_lengths = lengths is None

    def of_host(function: Any, inputs: list[Any], *rest: Any) -> Any:
        """The function of `host`, its results as tensors."""

        def call(ends: Any, *arrays: Any) -> Any:
            x, *others = arrays
            given, initial = others[:n_weights], others[n_weights : n_weights + len(cell.states)]
            after = others[n_weights + len(cell.states) :]
            more = (after[0], after[1:]) if after else ()
            return function(cell, x, names, given, initial, None if no_lengths else ends, *more)

        arguments = [tf.zeros((0,), tf.int32) if no_lengths else lengths, *inputs, *rest]
        count = 1 + len(cell.states) if function is host.forward else len(inputs)
        return tf.numpy_function(call, arguments, [x.dtype] * count, stateful=False)

    @tf.custom_gradient
    def differentiable(*inputs: Any) -> Any:
        y, *last = of_host(host.forward, list(inputs))
        y.set_shape((*x.shape[:2], initial[0].shape[1]))
        for state, before in zip(last, initial, strict=True):
            state.set_shape(before.shape)

        def gradient(*gradients: Any) -> Any:
            found = of_host(host.backward, list(inputs), *gradients)
            for each, given in zip(found, inputs, strict=True):
                each.set_shape(given.shape)
            return found

        return [y, *last], gradient

    y, *last = differentiable(x, *weights.values(), *initial)
    return y, last
