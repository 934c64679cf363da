"""Layers on the CPU, by the addresses of their tensors, each direction for itself: most calls there are.

What the general way costs a call, tensors seen as NumPy arrays and arrays handed back as tensors, is for a small layer
as much as its arithmetic. What the backward pass needs is a tensor here, saved with the others, and autograd goes from
layer to layer.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence

from rnn_gpu import dispatch
from rnn_gpu.dispatch import Direct, Ends
from rnn_gpu.errors import ArgumentError, ArgumentTypeError, BackendError
from rnn_gpu.problem import describe, known, remember
from rnn_gpu.resets import from_behind, within
from rnn_gpu.threads import torch_threads
from rnn_gpu.torch.execution import Call, Given, cell_of, weights_maker
from rnn_gpu.torch.packed import padded
from rnn_gpu.weights.core import FIELDS

__all__ = ["Layer", "Rows", "layers_of", "rows_of", "run"]


Array = np.ndarray[Any, Any]
Maker = Callable[[], Array]


class Rows(NamedTuple):
    """Where rows end and begin anew: what is ours alone, and checked. resets: (T, B) bools, as `Direct` has them."""

    ends: Ends | None
    resets: Tensor | None

    @property
    def resets_at(self) -> int:
        """Their address; 0 without."""
        return 0 if self.resets is None else self.resets.data_ptr()


class Layer(NamedTuple):
    """How a layer is run in one direction, for tensors of given shapes.

    call: what is asked of it alone.
    dtype: that of all tensors. n_weights: of w_ih, w_hh, b_ih, b_hh the first so many; missing: 0 for each of the
    others; no_states: 0 for each state.
    x, y, kept, state, weights: make arrays of the shape of x, of the output, of what backward needs, of a state and of
    each weight. Those whose shapes differ from call to call are not used: of packed batches the first three, and with
    lengths kept.
    """

    call: Call
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


def rows_of(given: Given, batch_sizes: Array | None = None) -> Rows | None:
    """Where the rows end and begin anew; None where the general way is to make it out, or say what is wrong.

    batch_sizes: those of a packed batch, a copy, checked.
    """
    x, lengths, resets = given.x, given.lengths, given.resets
    ends = None if batch_sizes is None else Ends(True, batch_sizes)
    numbers = None
    if lengths is not None:
        if not _is_plain(lengths, torch.int64, x.shape[1:2]) or not lengths.numel():
            return None
        numbers = lengths.numpy().copy()  # and then looked at: memory is read and written by them
        if numbers.min() < 1 or numbers.max() > len(x):
            return None
        ends = Ends(False, numbers)
    if resets is None:
        return Rows(ends, None)
    if not _is_plain(resets, torch.bool, x.shape[:2]):
        return None
    return Rows(ends, torch.from_numpy(within(resets.numpy(), numbers)))


def _is_plain(tensor: Tensor, dtype: torch.dtype, shape: tuple[int, ...]) -> bool:
    if type(tensor) is not Tensor or tensor.dtype is not dtype or tensor.shape != shape:
        return False
    return tensor.is_cpu and tensor.layout is torch.strided and not tensor.is_neg()


def layers_of(given: Given, rows: Rows, save: bool) -> tuple[Layer, ...]:
    """How each layer and direction is run by addresses; none where the general way runs them, or says what is wrong.

    Of a packed batch x is (n_rows, I).
    """
    x, weights, initial, *_, call = given
    if call.all_states:
        return ()
    batch_sizes = rows.ends.numbers if rows.ends is not None and rows.ends.packed else None
    dtype, shapes = x.dtype, []
    for tensor in (x, *weights, *initial):
        if tensor.dtype is not dtype or not tensor.is_cpu or tensor.layout is not torch.strided or tensor.is_neg():
            return ()
        if type(tensor) not in _PLAIN or not tensor.data_ptr():  # a tensor of zeros may have no memory
            return ()
        shapes.append(tensor.shape)
    if batch_sizes is not None:
        shapes[0] = torch.Size((_ANY, batch_sizes.item(0), x.shape[1]))
    asked_for = os.environ.get(dispatch.ENVIRONMENT_VARIABLE)
    key = (call, save, len(weights), dtype, rows.ends is None, rows.resets is None, asked_for, *shapes)
    found: tuple[Layer, ...] | None = known(key)
    if found is None:
        n_steps, n_rows = x.shape[:2] if batch_sizes is None else (1, batch_sizes.item(0))  # of any T, see `Direct`
        found = remember(key, _made(given, save, (n_steps, n_rows)))
    return found


_ANY = -1
"""Stands for the steps of a packed batch."""

_PLAIN = (Tensor, torch.nn.Parameter)


def _made(given: Given, save: bool, steps_and_rows: tuple[int, int]) -> tuple[Layer, ...]:
    x, weights, initial, lengths, resets, _, call = given
    n_weights, _ = weights_maker(call.names, cell_of(call.cell))
    n_steps, n_rows = steps_and_rows
    of_rows = {} if lengths is None else {"lengths": np.full(n_rows, n_steps)}
    of_rows |= {} if resets is None else {"resets": np.zeros(steps_and_rows, np.bool_)}
    n_directions = 2 if call.bidirectional else 1
    if x.dtype not in (torch.float32, torch.float64):  # NumPy may not have it
        return ()
    if tuple(call.names.split()) != FIELDS[:n_weights] or len(weights) % (n_weights * n_directions):
        return ()
    n_places = len(weights) // n_weights
    if any(len(states) != n_places for states in initial):
        return ()
    arrays = [weight.detach().numpy() for weight in weights]
    states = [state.detach().numpy() for state in initial]
    layers = []
    below: Array = np.broadcast_to(np.zeros((), arrays[0].dtype), (*steps_and_rows, x.shape[-1]))
    try:
        for place in range(n_places):
            direction = place % n_directions
            of_place = call._replace(bidirectional=False, reverse=call.reverse or direction == 1)
            weights_of_place = arrays[place * n_weights : (place + 1) * n_weights]
            states_of_place = tuple(state[place] for state in states)
            layers.append(_layer(of_place, below, weights_of_place, states_of_place, of_rows, x.dtype, save))
            if direction == n_directions - 1:
                below = np.broadcast_to(below[0, 0, 0], (*steps_and_rows, n_directions * call.hidden))
    except (ArgumentError, ArgumentTypeError, BackendError, IndexError):
        return ()  # to be said by the general way
    return tuple(layers)


def _layer(
    call: Call, x: Array, weights: Sequence[Array], states: tuple[Array, ...], of_rows: Mapping[str, Array],
    dtype: torch.dtype, save: bool,
) -> Layer:  # fmt: skip
    """The layer for arrays of these shapes, whose numbers do not matter. of_rows: lengths and resets, if any."""
    cell = cell_of(call.cell)
    n_weights, weights_of = weights_maker(call.names, cell)
    problem, _ = describe(
        cell, x, weights_of(*weights), initial=states or None, lengths=of_rows.get("lengths"),
        resets=of_rows.get("resets"), reverse=call.reverse, save=save, recompute=call.recompute,
    )  # fmt: skip
    backend = dispatch.select(problem, call.backend or None)
    direct = backend.direct(problem)
    if direct is None:
        raise BackendError(f"{backend.name} runs it in another way")
    n_kept = direct.kept_bytes() // problem.dtype.itemsize
    return Layer(
        call, direct, dtype, n_weights, (0,) * (len(FIELDS) - n_weights), (0,) * len(cell.states),
        x=direct.maker(x.shape), y=direct.maker((problem.T, problem.B, problem.H)), kept=direct.maker((n_kept,)),
        state=direct.maker((1, problem.B, problem.H)), weights=tuple(direct.maker(weight.shape) for weight in weights),
    )  # fmt: skip


def run(layers: tuple[Layer, ...], given: Given, rows: Rows, save: bool) -> tuple[Tensor, list[Tensor]]:
    """y (T, B, D*H), and the last states, (L*D, B, H) each; followed by autograd if `save`.

    Of a packed batch y is (n_rows, D*H), and so are the masks.
    """
    x, weights, initial, _, _, masks, call = given
    if len(layers) == 1:
        y, *last = _run(layers[0], rows, x, (*weights, *initial), save)
        return y, last
    n_directions, n_weights = 2 if call.bidirectional else 1, layers[0].n_weights
    x = x.contiguous() if call.bidirectional else x  # once for both
    of_directions = [rows, rows]
    if rows.resets is not None and call.bidirectional:
        of_directions[1] = Rows(rows.ends, torch.from_numpy(from_behind(rows.resets.numpy(), None)))
    lasts = []
    for first in range(0, len(layers), n_directions):
        outputs = []
        for place in range(first, first + n_directions):
            of_place = weights[place * n_weights : (place + 1) * n_weights]
            states = [state[place : place + 1] for state in initial]
            output, *last = _run(layers[place], of_directions[place - first], x, (*of_place, *states), save)
            outputs.append(output)
            lasts.append(last)
        y = outputs[0] if n_directions == 1 else torch.cat(outputs, -1)
        x = y if masks is None or place == len(layers) - 1 else y * masks[first // n_directions]
    return y, [torch.cat(of_places) for of_places in zip(*lasts, strict=True)]


def _run(layer: Layer, rows: Rows, x: Tensor, rest: Sequence[Tensor], save: bool) -> tuple[Tensor, ...]:
    """y (T, B, H), then the last states, (1, B, H) each; rest: the weights and the initial states."""
    if save:
        result: tuple[Tensor, ...] = _apply(layer, rows, x, *rest)  # type: ignore[no-untyped-call]
        return result
    return _forward(layer, rows, x, rest)[1:]


def _forward(layer: Layer, rows: Rows, x: Tensor, rest: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """What backward needs, y and the last states; rest: the weights and the initial states."""
    x, rest = x.contiguous(), [tensor.contiguous() for tensor in rest]
    found, n_weights = [tensor.data_ptr() for tensor in rest], layer.n_weights
    _, *makers = *_of_call(layer, rows.ends, x), *[layer.state] * len(layer.no_states)
    kept, y, *last = [torch.from_numpy(make()) for make in makers]
    with torch_threads:
        layer.direct.forward(
            (*found[:n_weights], *layer.missing), x.data_ptr(), y.data_ptr(),
            tuple(found[n_weights:]) or layer.no_states, tuple([state.data_ptr() for state in last]), kept.data_ptr(),
            rows.ends, rows.resets_at,
        )  # fmt: skip
    return kept, y, *last


def _of_call(layer: Layer, ends: Ends | None, x: Tensor) -> tuple[Maker, Maker, Maker]:
    """What makes arrays of the shapes of x, of what backward needs, and of the output."""
    if ends is None:
        return layer.x, layer.kept, layer.y
    kept = layer.direct.maker((layer.direct.kept_bytes(ends) // layer.dtype.itemsize,))
    if not ends.packed:
        return layer.x, kept, layer.y
    n_rows, n_inputs = x.shape
    return layer.direct.maker((n_rows, n_inputs)), kept, layer.direct.maker((n_rows, layer.call.hidden))


class _Function(torch.autograd.Function):
    """A layer in one direction, for autograd."""

    @staticmethod
    def forward(ctx: Any, layer: Layer, rows: Rows, x: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        kept, *results = _forward(layer, rows, x, rest)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(kept, x, *rest)
        ctx.layer, ctx.rows, ctx.shapes = layer, rows, [kept.shape, x.shape, *[tensor.shape for tensor in rest]]
        return tuple(results)

    @staticmethod
    def backward(ctx: Any, dy: Tensor | None, *dlast: Tensor | None) -> tuple[Tensor | None, ...]:
        kept, x, *rest = saved = ctx.saved_tensors
        layer, rows = ctx.layer, ctx.rows
        for tensor, shape in zip(saved, ctx.shapes, strict=True):
            strided = tensor.is_cpu and tensor.layout is torch.strided
            if tensor.dtype is not layer.dtype or not strided or tensor.shape != shape:
                expected = f"{layer.dtype} {tuple(shape)} on cpu"
                found = f"{tensor.dtype} {tuple(tensor.shape)} on {tensor.device}, {tensor.layout}"
                raise RuntimeError(f"rnn_gpu: a hook of saved tensors has made {found} of what was {expected}")
        if not all(d is None or torch._C._has_storage(d) for d in (dy, *dlast)):
            raise NotImplementedError(
                "rnn_gpu.torch has no vectorised backward, as is_grads_batched=True and vectorize=True ask for"
            )
        if torch.is_grad_enabled():  # create_graph=True
            return None, None, *_by_operator(layer, rows, x, rest, dy, dlast)
        with_dx = ctx.needs_input_grad[2]
        return None, None, *_backward(layer, rows, kept, x, rest, dy, dlast, with_dx)


_apply = super(torch.autograd.Function, _Function).apply
"""Function.apply without what it does for the transforms of functorch, which do not come here."""


def _by_operator(
    layer: Layer, rows: Rows, x: Tensor, rest: Sequence[Tensor], dy: Tensor | None, dlast: tuple[Tensor | None, ...]
) -> list[Tensor]:
    """The gradients by the operator, which refuses a second derivative."""
    from rnn_gpu.torch.operators import gradients_with_graph  # noqa: PLC0415  (which imports this module)

    lengths = of_packed = None
    if rows.ends is not None and rows.ends.packed:
        sizes = torch.from_numpy(rows.ends.numbers)
        dy = None if dy is None else padded(dy, sizes)[0]
        x, of_packed = padded(x, sizes)
        lengths = of_packed
    elif rows.ends is not None:
        lengths = torch.from_numpy(rows.ends.numbers)
    weights, initial = list(rest[: layer.n_weights]), list(rest[layer.n_weights :])
    given = Given(x, weights, initial, lengths, rows.resets, None, layer.call)
    no_tape = torch.zeros(1, dtype=torch.uint8)  # the forward pass is run again
    dx, *others = gradients_with_graph(given, no_tape, dy, list(dlast), [])
    return [dx if of_packed is None else pack_padded_sequence(dx, of_packed).data, *others]


def _backward(
    layer: Layer, rows: Rows, kept: Tensor, x: Tensor, rest: Sequence[Tensor], dy: Tensor | None,
    dlast: tuple[Tensor | None, ...], with_dx: bool,
) -> list[Tensor | None]:  # fmt: skip
    """The gradients of x, if it is wanted, of the weights and of the initial states; rest: those."""
    kept, x, rest = kept.contiguous(), x.contiguous(), [tensor.contiguous() for tensor in rest]
    given = [None if d is None else d.resolve_neg().contiguous() for d in (dy, *dlast)]
    d_y, *d_last = [0 if d is None else d.data_ptr() for d in given]
    n_weights = layer.n_weights
    dx = torch.from_numpy(_of_call(layer, rows.ends, x)[0]()) if with_dx else None
    results = [torch.from_numpy(make()) for make in (*layer.weights, *[layer.state] * len(rest[n_weights:]))]
    found = [tensor.data_ptr() for tensor in results]
    weights = (*[tensor.data_ptr() for tensor in rest[:n_weights]], *layer.missing)
    gradients = (0 if dx is None else dx.data_ptr(), *found[:n_weights], *layer.missing)
    d_initial = tuple(found[n_weights:]) or layer.no_states
    with torch_threads:
        layer.direct.backward(
            weights, x.data_ptr(), d_y, tuple(d_last), gradients, d_initial, kept.data_ptr(),
            rows.ends, rows.resets_at,
        )  # fmt: skip
    return [dx, *results]
