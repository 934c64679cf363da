"""The stack as two operators of torch, rnn_gpu::forward and rnn_gpu::backward, and the gradient of the first.

The operators are what torch.compile and other tracers see. Called on plain tensors, `run` reaches the same two
functions by a torch.autograd.Function, which spends less time on each call.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from rnn_gpu.torch import execution
from rnn_gpu.torch.execution import Call, cell_of

__all__ = ["run"]


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
        return execution.forward(x, weights, initial, lengths, resets, masks, call)


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
        return execution.backward(dy, dlast, dstates, token, x, weights, initial, lengths, resets, masks, call)


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
    def forward(
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
        output = execution.forward(x, weights, initial, lengths, resets, masks, call)
        _keep(ctx, (x, weights, initial, lengths, resets, masks, *call), output)
        return output

    @staticmethod
    def backward(ctx: Any, dy: Any, dlast: Any, dstates: Any, _: Any) -> tuple[Any, ...]:
        if torch.is_grad_enabled():  # create_graph=True: by the operator, which refuses a second derivative
            gradients = _operator_backward(ctx, dy, dlast, dstates, None)[:3]
        else:
            gradients = _backward_by(execution.backward, ctx, dy, dlast, dstates)
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
    """y, the last states and all states, as `execution.forward` gives them, followed by autograd.

    `call.save` is found here: whether anything will be differentiated.
    """
    save = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (x, *weights, *initial))
    call = call._replace(save=save)
    if _is_traced(x):
        traced: tuple[Tensor, ...] = _forward_operator(x, weights, initial, lengths, resets, masks, *call)
        return traced[0], traced[1], traced[2]
    if save:
        found: tuple[Tensor, ...] = _Function.apply(call, len(weights), x, lengths, resets, masks, *weights, *initial)  # type: ignore[no-untyped-call]
        return found[0], found[1], found[2]
    with torch.no_grad():
        return execution.forward(x, weights, initial, lengths, resets, masks, call)[:3]


def _is_traced(x: Tensor) -> bool:
    """Whether something other than torch's plain autograd is to see the call: a compiler, a mode, a transform."""
    return (
        torch.compiler.is_compiling()
        or type(x) not in (Tensor, torch.nn.Parameter)
        or x.device.type == "meta"
        or torch._C._len_torch_dispatch_stack() > 0
        or torch._C._are_functorch_transforms_active()
    )
