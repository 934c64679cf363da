"""One layer in one direction on the CPU, by the addresses of its tensors: most calls there are, and the small ones.

What the general way costs a call, tensors seen as NumPy arrays and arrays handed back as tensors, is for a small layer
as much as its arithmetic. What the backward pass needs is a tensor here, saved with the others.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from rnn_gpu import dispatch
from rnn_gpu.dispatch import Direct
from rnn_gpu.errors import ArgumentError, ArgumentTypeError, BackendError
from rnn_gpu.problem import describe, known, remember
from rnn_gpu.threads import torch_threads
from rnn_gpu.torch.execution import Call, Given, cell_of, weights_maker
from rnn_gpu.weights.core import FIELDS

__all__ = ["Layer", "layer_of", "run"]


Maker = Callable[[], np.ndarray[Any, Any]]


class Layer(NamedTuple):
    """How a layer is run for tensors of given shapes.

    dtype: that of all tensors. n_weights: of w_ih, w_hh, b_ih, b_hh the first so many; missing: 0 for each of the
    others; no_states: 0 for each state.
    x, y, kept, state, weights: make arrays of the shape of x, of the output, of what backward needs, of a state and of
    each weight.
    """

    direct: Direct
    dtype: torch.dtype
    n_weights: int
    missing: tuple[int, ...]
    no_states: tuple[int, ...]
    x: Maker
    y: Maker
    kept: Maker
    state: Maker
    weights: tuple[Maker, ...]


def layer_of(given: Given, save: bool) -> Layer | None:
    """How the call is run by addresses; None where the general way is to run it, or to say what is wrong with it."""
    x, weights, initial, lengths, resets, masks, call = given
    if lengths is not None or resets is not None or masks is not None or call.all_states:
        return None
    dtype, shapes = x.dtype, []
    for tensor in (x, *weights, *initial):
        if tensor.dtype is not dtype or not tensor.is_cpu or tensor.layout is not torch.strided or tensor.is_neg():
            return None
        if type(tensor) not in _PLAIN or not tensor.data_ptr():  # a tensor of zeros may have no memory
            return None
        shapes.append(tensor.shape)
    key = (call, save, len(weights), dtype, os.environ.get(dispatch.ENVIRONMENT_VARIABLE), *shapes)
    found: Layer | tuple[()] | None = known(key)
    if found is None:
        found = remember(key, _made(given, save) or ())
    return found or None


_PLAIN = (Tensor, torch.nn.Parameter)


def _made(given: Given, save: bool) -> Layer | None:
    x, weights, initial, *_, call = given
    cell = cell_of(call.cell)
    n_weights, weights_of = weights_maker(call.names, cell)
    if x.dtype not in (torch.float32, torch.float64):  # NumPy may not have it
        return None
    if any(len(states) != 1 for states in initial):
        return None
    if len(weights) != n_weights or tuple(call.names.split()) != FIELDS[:n_weights]:
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
    n_kept = direct.kept_bytes // problem.dtype.itemsize
    return Layer(
        direct, x.dtype, n_weights, (0,) * (len(FIELDS) - n_weights), (0,) * len(cell.states),
        x=direct.maker(tuple(x.shape)), y=direct.maker((problem.T, problem.B, problem.H)),
        kept=direct.maker((n_kept,)), state=direct.maker((1, problem.B, problem.H)),
        weights=tuple(direct.maker(tuple(weight.shape)) for weight in weights),
    )  # fmt: skip


def run(layer: Layer, given: Given, save: bool) -> tuple[Tensor, ...]:
    """y (T, B, H), then the last states, (1, B, H) each; followed by autograd if `save`."""
    if save:
        result: tuple[Tensor, ...] = _apply(layer, given.call, given.x, *given.weights, *given.initial)  # type: ignore[no-untyped-call]
        return result
    return _forward(layer, given.x, (*given.weights, *given.initial))[1:]


def _forward(layer: Layer, x: Tensor, rest: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """What backward needs, y and the last states; rest: the weights and the initial states."""
    x, rest = x.contiguous(), [tensor.contiguous() for tensor in rest]
    found, n_weights = [tensor.data_ptr() for tensor in rest], layer.n_weights
    makers = layer.kept, layer.y, *[layer.state] * len(layer.no_states)
    kept, y, *last = [torch.from_numpy(make()) for make in makers]
    with torch_threads:
        layer.direct.forward(
            (*found[:n_weights], *layer.missing), x.data_ptr(), y.data_ptr(),
            tuple(found[n_weights:]) or layer.no_states, tuple([state.data_ptr() for state in last]), kept.data_ptr(),
        )  # fmt: skip
    return kept, y, *last


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
        kept, x, *rest = saved = ctx.saved_tensors
        layer: Layer = ctx.layer
        for tensor in saved:
            if tensor.dtype is not layer.dtype or not tensor.is_cpu:
                expected, found = f"{layer.dtype} on cpu", f"{tensor.dtype} on {tensor.device}"
                raise RuntimeError(f"rnn_gpu: a hook of saved tensors has made {found} of what was {expected}")
        if torch.is_grad_enabled():  # create_graph=True
            weights, initial = rest[: layer.n_weights], rest[layer.n_weights :]
            given = Given(x, weights, initial, None, None, None, ctx.call)
            return None, None, *_by_operator(given, dy, dlast)
        return None, None, *_backward(layer, kept, x, rest, dy, dlast, ctx.needs_input_grad[2])


_apply = super(torch.autograd.Function, _Function).apply
"""Function.apply without what it does for the transforms of functorch, which do not come here."""


def _by_operator(given: Given, dy: Tensor | None, dlast: tuple[Tensor | None, ...]) -> list[Tensor]:
    """The gradients by the operator, which refuses a second derivative."""
    from rnn_gpu.torch.operators import gradients_with_graph  # noqa: PLC0415  (which imports this module)

    no_tape = torch.zeros(1, dtype=torch.uint8)  # the forward pass is run again
    return gradients_with_graph(given, no_tape, dy, list(dlast), [])


def _backward(
    layer: Layer, kept: Tensor, x: Tensor, rest: Sequence[Tensor], dy: Tensor | None,
    dlast: tuple[Tensor | None, ...], with_dx: bool,
) -> list[Tensor | None]:  # fmt: skip
    """The gradients of x, if it is wanted, of the weights and of the initial states; rest: those."""
    kept, x, rest = kept.contiguous(), x.contiguous(), [tensor.contiguous() for tensor in rest]
    given = [None if d is None else d.resolve_neg().contiguous() for d in (dy, *dlast)]
    d_y, *d_last = [0 if d is None else d.data_ptr() for d in given]
    n_weights = layer.n_weights
    dx = torch.from_numpy(layer.x()) if with_dx else None
    results = [torch.from_numpy(make()) for make in (*layer.weights, *[layer.state] * len(rest[n_weights:]))]
    found = [tensor.data_ptr() for tensor in results]
    weights = (*[tensor.data_ptr() for tensor in rest[:n_weights]], *layer.missing)
    gradients = (0 if dx is None else dx.data_ptr(), *found[:n_weights], *layer.missing)
    d_initial = tuple(found[n_weights:]) or layer.no_states
    with torch_threads:
        layer.direct.backward(weights, x.data_ptr(), d_y, tuple(d_last), gradients, d_initial, kept.data_ptr())
    return [dx, *results]
