"""A stack of recurrent layers as two operators of torch, rnn_gpu::forward and rnn_gpu::backward, with its gradient.

The operators are what torch.compile and other tracers see. Called on plain tensors, `run` reaches the same two functions
by way of a torch.autograd.Function, which costs a tenth of the dispatcher's time.

What the forward pass keeps for the backward pass (a `StackTape`) is no tensor. It travels as a tensor of one byte, the
token: the tape lives as long as that byte's memory does, and is found by its address. Where a token was copied instead of
handed on, for instance by hooks that move saved tensors elsewhere, there is no tape, and the forward pass is run again.
"""

from __future__ import annotations

from typing import Any, NamedTuple
from weakref import WeakValueDictionary

import numpy as np
import torch
from torch import Tensor

from rnn_gpu import cells, stack
from rnn_gpu.arrays import zeros
from rnn_gpu.compiler.cell import Cell
from rnn_gpu.torch.projection import lstm_projection
from rnn_gpu.weights import Weights

__all__ = ["Call", "cell_of", "key_of", "run"]


class Call(NamedTuple):
    """What a call asks for, in types that operators take.

    cell: its key, see `key_of`. names: of each layer's weights, as `Weights.items` has them, separated by spaces.
    hidden: H. backend: its name, or "" for the choice of dispatch. The rest: as in `stack.forward`.
    """

    cell: str
    names: str
    hidden: int
    bidirectional: bool
    reverse: bool
    all_states: bool
    recompute: bool
    backend: str
    save: bool


_cells: dict[str, Cell] = {}


def key_of(cell: Cell) -> str:
    """The text by which operators and modules know a cell, the same in every process."""
    key = f"{cell.name}:{cell.digest}"
    _cells.setdefault(key, cell)
    return key


def cell_of(key: str) -> Cell:
    """The cell of that key. Raises RuntimeError where it is a user's own that this process has not met."""
    if key not in _cells:
        for cell in (*cells.ALL.values(), lstm_projection):
            key_of(cell)
    if key not in _cells:
        name = key.partition(":")[0]
        raise RuntimeError(f"rnn_gpu: the cell {name} of a saved module or graph is not one of this process")
    return _cells[key]


class _Token(np.ndarray[Any, Any]):
    """A byte, whose memory keeps a tape alive."""

    tape: stack.StackTape


_tokens: WeakValueDictionary[int, _Token] = WeakValueDictionary()


def _token(tape: stack.StackTape) -> Tensor:
    byte = np.zeros(1, np.uint8).view(_Token)
    byte.tape = tape
    token = torch.from_numpy(byte)
    _tokens[token.data_ptr()] = byte
    return token


def _forward(
    x: Tensor,
    weights: list[Tensor],
    initial: list[Tensor],
    lengths: Tensor | None,
    resets: Tensor | None,
    masks: Tensor | None,
    call: Call,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """y (T, B, D*H); the last states (S, L*D, B, H); all states (L, S, T, B, D*H), empty if not wanted; the token.

    weights: those of layer 0 forward, layer 0 backward ..., by `call.names`. initial: an (L*D, B, H) a state, or none.
    lengths (B,), resets (T, B), masks (L-1, T, B, D*H).
    """
    result = _run(x, weights, initial, lengths, resets, masks, call)
    last = torch.stack([torch.stack(states) for states in zip(*result.last, strict=True)]).to(x.dtype)
    states = torch.stack([torch.stack(layer) for layer in result.states]) if call.all_states else x.new_empty(0)
    token = _token(result.tape) if call.save else torch.zeros(1, dtype=torch.uint8)
    return result.y, last, states, token


def _run(
    x: Tensor,
    weights: list[Tensor],
    initial: list[Tensor],
    lengths: Tensor | None,
    resets: Tensor | None,
    masks: Tensor | None,
    call: Call,
) -> stack.StackForward:
    cell = cell_of(call.cell)
    names = call.names.split()
    layers = [
        Weights.of(dict(zip(names, weights[k : k + len(names)], strict=True)), cell.vectors)
        for k in range(0, len(weights), len(names))
    ]
    return stack.forward(
        cell,
        x,
        layers,
        list(zip(*initial, strict=True)) if initial else None,
        lengths,
        resets,
        call.reverse,
        bidirectional=call.bidirectional,
        masks=None if masks is None else list(masks),
        all_states=call.all_states,
        recompute=call.recompute,
        backend=call.backend or None,
        save=call.save,
    )


def _backward(
    dy: Tensor | None,
    dlast: Tensor | None,
    dstates: Tensor | None,
    token: Tensor,
    x: Tensor,
    weights: list[Tensor],
    initial: list[Tensor],
    lengths: Tensor | None,
    resets: Tensor | None,
    masks: Tensor | None,
    call: Call,
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """The gradients of x, of each of the weights and of each of the initial states."""
    dstates = dstates if call.all_states else None
    kept = _tokens.get(token.data_ptr()) if token.device.type == "cpu" else None
    tape = _run(x, weights, initial, lengths, resets, masks, call).tape if kept is None else kept.tape
    if dy is None and dlast is None and dstates is None:
        problem = tape.tapes[-1][0][0].problem
        width = problem.H * len(tape.tapes[-1])
        dy = zeros(problem.library, (problem.T, problem.B, width), problem.dtype)
    gradients = stack.backward(
        tape,
        dy,
        None if dlast is None else [states.unbind(0) for states in dlast.unbind(1)],
        None if dstates is None else [states.unbind(0) for states in dstates.unbind(0)],
    )
    d_weights = [gradient for layer in gradients.layers for _, gradient in layer.items()]
    d_initial = [torch.stack(states).to(x.dtype) for states in zip(*gradients.initial, strict=True)] if initial else []
    return gradients.x, d_weights, d_initial


@torch.library.custom_op("rnn_gpu::forward", mutates_args=())
def _forward_operator(
    x: Tensor,
    weights: list[Tensor],
    initial: list[Tensor],
    lengths: Tensor | None,
    resets: Tensor | None,
    masks: Tensor | None,
    cell: str,
    names: str,
    hidden: int,
    bidirectional: bool,
    reverse: bool,
    all_states: bool,
    recompute: bool,
    backend: str,
    save: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    call = Call(cell, names, hidden, bidirectional, reverse, all_states, recompute, backend, save)
    with torch.no_grad():
        return _forward(x, weights, initial, lengths, resets, masks, call)


@_forward_operator.register_fake
def _(
    x: Tensor,
    weights: list[Tensor],
    initial: list[Tensor],
    lengths: Tensor | None,
    resets: Tensor | None,
    masks: Tensor | None,
    *fields: Any,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    call = Call(*fields)
    n_steps, n_rows, _ = x.shape
    n_states = len(cell_of(call.cell).states)
    n_directions = 2 if call.bidirectional else 1
    n_places = len(weights) // len(call.names.split())
    y = x.new_empty(n_steps, n_rows, n_directions * call.hidden)
    last = x.new_empty(n_states, n_places, n_rows, call.hidden)
    states = x.new_empty((n_places // n_directions, n_states, *y.shape) if call.all_states else 0)
    return y, last, states, torch.empty(1, dtype=torch.uint8, device="meta" if x.device.type == "meta" else "cpu")


@torch.library.custom_op("rnn_gpu::backward", mutates_args=())
def _backward_operator(
    dy: Tensor | None,
    dlast: Tensor | None,
    dstates: Tensor | None,
    token: Tensor,
    x: Tensor,
    weights: list[Tensor],
    initial: list[Tensor],
    lengths: Tensor | None,
    resets: Tensor | None,
    masks: Tensor | None,
    cell: str,
    names: str,
    hidden: int,
    bidirectional: bool,
    reverse: bool,
    all_states: bool,
    recompute: bool,
    backend: str,
    save: bool,
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    call = Call(cell, names, hidden, bidirectional, reverse, all_states, recompute, backend, save)
    with torch.no_grad():
        return _backward(dy, dlast, dstates, token, x, weights, initial, lengths, resets, masks, call)


@_backward_operator.register_fake
def _(
    dy: Tensor | None,
    dlast: Tensor | None,
    dstates: Tensor | None,
    token: Tensor,
    x: Tensor,
    weights: list[Tensor],
    initial: list[Tensor],
    *rest: Any,
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    def like(tensor: Tensor) -> Tensor:
        return tensor.new_empty(tensor.shape)

    return like(x), list(map(like, weights)), list(map(like, initial))


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    """Note what the backward pass needs. inputs: those of the forward operator."""
    x, weights, initial, lengths, resets, masks, *fields = inputs
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(output[3])
    ctx.save_for_backward(output[3], x, lengths, resets, masks, *weights, *initial)
    ctx.call, ctx.n_weights, ctx.n_initial = Call(*fields), len(weights), len(initial)


def _backward_by(function: Any, ctx: Any, dy: Any, dlast: Any, dstates: Any) -> tuple[Any, ...]:
    """The gradients of the forward operator's tensors, by the function or the operator."""
    token, x, lengths, resets, masks, *rest = ctx.saved_tensors
    weights, initial = rest[: ctx.n_weights], rest[ctx.n_weights :]
    found: tuple[Any, ...] = function(dy, dlast, dstates, token, x, weights, initial, lengths, resets, masks, ctx.call)
    return found


def _operator_backward(ctx: Any, dy: Any, dlast: Any, dstates: Any, _: Any) -> tuple[Any, ...]:
    def function(*arguments: Any) -> Any:
        return _backward_operator(*arguments[:-1], *arguments[-1])

    return *_backward_by(function, ctx, dy, dlast, dstates), *[None] * (3 + len(Call._fields))


_forward_operator.register_autograd(_operator_backward, setup_context=_keep)


def _refuse(ctx: Any, *gradients: Any) -> None:
    raise NotImplementedError(
        "rnn_gpu.torch has no gradients of gradients: backward with create_graph=True cannot go through its layers "
        "twice. torch.nn's layers can, on the CPU: replace only those of which you do not need it"
    )


_backward_operator.register_autograd(_refuse)


class _Function(torch.autograd.Function):
    """What the operators do, without the dispatcher. Arguments: the tensors one by one, and how many are what."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        call: Call,
        n_weights: int,
        x: Tensor,
        lengths: Tensor | None,
        resets: Tensor | None,
        masks: Tensor | None,
        *rest: Tensor,
    ) -> tuple[Tensor, ...]:
        weights, initial = list(rest[:n_weights]), list(rest[n_weights:])
        output = _forward(x, weights, initial, lengths, resets, masks, call)
        _keep(ctx, (x, weights, initial, lengths, resets, masks, *call), output)
        return output

    @staticmethod
    def backward(ctx: Any, dy: Any, dlast: Any, dstates: Any, _: Any) -> tuple[Any, ...]:  # type: ignore[override]
        if torch.is_grad_enabled():  # create_graph=True: by the operator, which refuses a second derivative
            gradients = _operator_backward(ctx, dy, dlast, dstates, None)[:3]
        else:
            gradients = _backward_by(_backward, ctx, dy, dlast, dstates)
        dx, d_weights, d_initial = gradients
        return None, None, dx, None, None, None, *d_weights, *d_initial


def run(
    x: Tensor,
    weights: list[Tensor],
    initial: list[Tensor],
    lengths: Tensor | None,
    resets: Tensor | None,
    masks: Tensor | None,
    call: Call,
) -> tuple[Tensor, Tensor, Tensor]:
    """y, the last states and all states, as `_forward` gives them, followed by autograd.

    `call.save` is found here: whether anything will be differentiated.
    """
    save = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (x, *weights, *initial))
    call = call._replace(save=save)
    if _is_traced(x):
        return _forward_operator(x, weights, initial, lengths, resets, masks, *call)[:3]
    if save:
        found: tuple[Tensor, ...] = _Function.apply(call, len(weights), x, lengths, resets, masks, *weights, *initial)  # type: ignore[no-untyped-call]
        return found[0], found[1], found[2]
    with torch.no_grad():
        return _forward(x, weights, initial, lengths, resets, masks, call)[:3]


def _is_traced(x: Tensor) -> bool:
    """Whether something other than torch's plain autograd is to see the call: a compiler, a mode, a transform."""
    return (
        torch.compiler.is_compiling()
        or type(x) not in (Tensor, torch.nn.Parameter)
        or x.device.type == "meta"
        or torch._C._len_torch_dispatch_stack() > 0
        or torch._C._are_functorch_transforms_active()
    )
