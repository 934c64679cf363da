"""One layer in one direction on the CPU, by the addresses of its tensors: most calls there are, and the small ones.

What the general way costs a call, tensors seen as NumPy arrays and arrays handed back as tensors, is for a small layer
as much as its arithmetic. What the backward pass needs is a tensor here, saved with the others.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from rnn_gpu import dispatch
from rnn_gpu.dispatch import Direct
from rnn_gpu.errors import ArgumentError, ArgumentTypeError, BackendError
from rnn_gpu.kernels.numba_cpu import memory
from rnn_gpu.problem import describe, known, remember
from rnn_gpu.threads import torch_threads
from rnn_gpu.torch.execution import Call, Given, cell_of, weights_maker

__all__ = ["Layer", "layer_of", "run"]


class Layer(NamedTuple):
    """How a layer is run for tensors of given shapes.

    places: of w_ih, w_hh, b_ih, b_hh among its `n_weights` parameters, or n_weights for those it has not.
    y, kept, state: shapes of the output, of what backward needs, and of a state; gradients: of those of x and of
    the parameters.
    """

    direct: Direct
    places: tuple[int, ...]
    n_weights: int
    n_states: int
    dtype: np.dtype[Any]
    y: tuple[int, ...]
    kept: tuple[int, ...]
    state: tuple[int, ...]
    gradients: tuple[tuple[int, ...], ...]


def layer_of(given: Given, save: bool) -> Layer | None:
    """How the call is run by addresses; None where the general way is to run it, or to say what is wrong with it."""
    x, weights, initial, lengths, resets, masks, call = given
    if lengths is not None or resets is not None or masks is not None or call.all_states:
        return None
    dtype, shapes = x.dtype, []
    for tensor in (x, *weights, *initial):
        if tensor.dtype is not dtype or not tensor.is_cpu or tensor.layout is not torch.strided or tensor.is_neg():
            return None
        shapes.append(tensor.shape)
    key = (call, save, len(weights), dtype, os.environ.get(dispatch.ENVIRONMENT_VARIABLE), *shapes)
    found: Layer | None | tuple[()] = known(key)
    if found is None:
        found = remember(key, _made(given, save) or ())
    return found or None


def _made(given: Given, save: bool) -> Layer | None:
    x, weights, initial, *_, call = given
    cell = cell_of(call.cell)
    n_weights, weights_of = weights_maker(call.names, cell)
    if len(weights) != n_weights or x.dtype not in (torch.float32, torch.float64):
        return None
    try:
        arrays = [tensor.detach().numpy() for tensor in (x, *weights, *initial)]
        states = tuple(state[0] for state in arrays[1 + n_weights :])
        problem, _ = describe(
            cell, arrays[0], weights_of(*arrays[1 : 1 + n_weights]), initial=states or None, reverse=call.reverse,
            save=save, recompute=call.recompute,
        )  # fmt: skip
        direct = dispatch.select(problem, call.backend or None).direct(problem)
    except (ArgumentError, ArgumentTypeError, BackendError, IndexError):
        return None  # to be said by the general way
    if direct is None:
        return None
    names = call.names.split()
    places = tuple(names.index(name) if name in names else n_weights for name in ("w_ih", "w_hh", "b_ih", "b_hh"))
    shapes = tuple(array.shape for array in arrays[: 1 + n_weights])
    return Layer(
        direct, places, n_weights, len(cell.states), problem.dtype, y=(problem.T, problem.B, problem.H),
        kept=(direct.kept_bytes // problem.dtype.itemsize,), state=(1, problem.B, problem.H), gradients=shapes,
    )  # fmt: skip


def run(layer: Layer, given: Given, save: bool) -> tuple[Tensor, ...]:
    """y (T, B, H), then the last states, (1, B, H) each; followed by autograd if `save`."""
    if save:
        result: tuple[Tensor, ...] = _Function.apply(layer, given.call, given.x, *given.weights, *given.initial)  # type: ignore[no-untyped-call]
        return result
    return _forward(layer, given.x, (*given.weights, *given.initial))[1:]


def _forward(layer: Layer, x: Tensor, rest: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """What backward needs, y and the last states; rest: the weights and the initial states."""
    x, rest = x.contiguous(), [tensor.contiguous() for tensor in rest]
    dtype = layer.dtype
    kept, y = _empty(layer.kept, dtype), _empty(layer.y, dtype)
    last = [_empty(layer.state, dtype) for _ in range(layer.n_states)]
    weights, initial = _addresses(layer, rest)
    with torch_threads:
        layer.direct.forward(
            weights, x.data_ptr(), y.data_ptr(), initial, tuple([state.data_ptr() for state in last]), kept.data_ptr()
        )
    return kept, y, *last


def _addresses(layer: Layer, tensors: Sequence[Tensor]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Of w_ih, w_hh, b_ih and b_hh, or of tensors of their shapes, and of what follows them, a state each; or 0."""
    found = [tensor.data_ptr() for tensor in tensors]
    states = tuple(found[layer.n_weights :]) or (0,) * layer.n_states
    found[layer.n_weights :] = (0,)
    return tuple([found[place] for place in layer.places]), states


def _empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Tensor:
    """A tensor that is yet to be written; a large one in memory that is kept between calls.

    NumPy makes a small array in less time than torch does.
    """
    count = math.prod(shape)
    if count * dtype.itemsize < memory.SMALLEST:
        return torch.from_numpy(np.empty(shape, dtype))
    return torch.from_numpy(memory.empty(count, dtype).reshape(shape))


class _Function(torch.autograd.Function):
    """The layer, for autograd."""

    @staticmethod
    def forward(ctx: Any, layer: Layer, call: Call, x: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        kept, *results = _forward(layer, x, rest)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(kept, x, *rest)
        ctx.layer, ctx.call = layer, call
        return tuple(results)

    @staticmethod
    def backward(ctx: Any, dy: Tensor | None, *dlast: Tensor | None) -> tuple[Tensor | None, ...]:
        kept, x, *rest = ctx.saved_tensors
        layer: Layer = ctx.layer
        if torch.is_grad_enabled():  # create_graph=True
            weights, initial = rest[: layer.n_weights], rest[layer.n_weights :]
            given = Given(x, weights, initial, None, None, None, ctx.call)
            return None, None, *_by_operator(given, dy, dlast)
        return None, None, *_backward(layer, kept, x, rest, dy, dlast)


def _by_operator(given: Given, dy: Tensor | None, dlast: tuple[Tensor | None, ...]) -> list[Tensor]:
    """The gradients by the operator, which refuses a second derivative."""
    from rnn_gpu.torch.operators import gradients_with_graph  # noqa: PLC0415  (which imports this module)

    no_tape = torch.zeros(1, dtype=torch.uint8)  # the forward pass is run again
    return gradients_with_graph(given, no_tape, dy, list(dlast), [])


def _backward(
    layer: Layer, kept: Tensor, x: Tensor, rest: Sequence[Tensor], dy: Tensor | None,
    dlast: tuple[Tensor | None, ...],
) -> list[Tensor]:  # fmt: skip
    """The gradients of x, of the weights and of the initial states; rest: those."""
    x, rest = x.contiguous(), [tensor.contiguous() for tensor in rest]
    d_results = [None if d is None else d.resolve_neg().contiguous() for d in (dy, *dlast)]
    d_y, *d_last = [0 if d is None else d.data_ptr() for d in d_results]
    results = [_empty(shape, layer.dtype) for shape in layer.gradients]
    results += [_empty(layer.state, layer.dtype) for _ in rest[layer.n_weights :]]
    weights, _ = _addresses(layer, rest)
    d_weights, d_initial = _addresses(layer, results[1:])
    with torch_threads:
        layer.direct.backward(
            weights, x.data_ptr(), d_y, tuple(d_last), (results[0].data_ptr(), *d_weights), d_initial, kept.data_ptr()
        )
    return results
