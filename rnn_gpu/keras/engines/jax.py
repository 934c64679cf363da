"""On Keras' JAX backend: callbacks to the host, jit included, with a gradient by jax.custom_vjp."""

from __future__ import annotations

from functools import cache
from typing import Any

import jax
import numpy as np

from rnn_gpu.compiler.cell import Cell
from rnn_gpu.keras.engines import host

__all__ = ["run"]


def run(cell: Cell, x: Any, weights: dict[str, Any], initial: list[Any], lengths: Any) -> tuple[Any, list[Any]]:
    """See `rnn_gpu.keras.engines.run`."""
    y, *last = _differentiable(cell, tuple(weights))(x, list(weights.values()), initial, lengths)
    return y, last


@cache
def _differentiable(cell: Cell, names: tuple[str, ...]) -> Any:
    """(x, weights, initial, lengths) to [y, *last]."""

    def of_host(function: Any, shapes: Any, x: Any, weights: Any, initial: Any, lengths: Any, *rest: Any) -> Any:
        def call(x: Any, weights: Any, initial: Any, lengths: Any, *rest: Any) -> Any:
            x, weights, initial, lengths, rest = jax.tree.map(np.asarray, (x, weights, initial, lengths, rest))
            return function(cell, x, names, weights, initial, lengths, *rest)

        return jax.pure_callback(call, shapes, x, weights, initial, lengths, *rest, vmap_method="sequential")

    def like(array: Any) -> Any:
        return jax.ShapeDtypeStruct(array.shape, array.dtype)

    @jax.custom_vjp
    def forward(x: Any, weights: Any, initial: Any, lengths: Any) -> Any:
        y = jax.ShapeDtypeStruct((*x.shape[:2], initial[0].shape[1]), x.dtype)
        return of_host(host.forward, [y, *map(like, initial)], x, weights, initial, lengths)

    def ahead(*inputs: Any) -> Any:
        return forward(*inputs), inputs

    def back(inputs: Any, gradients: Any) -> Any:
        x, weights, initial, lengths = inputs
        shapes = [like(x), *map(like, weights), *map(like, initial)]
        dx, *rest = of_host(host.backward, shapes, *inputs, gradients[0], gradients[1:])
        no_lengths = None if lengths is None else np.zeros(lengths.shape, jax.dtypes.float0)
        return dx, rest[: len(weights)], rest[len(weights) :], no_lengths

    forward.defvjp(ahead, back)
    return forward
