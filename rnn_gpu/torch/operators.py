"""The stack as two operators of torch, rnn_gpu::forward and rnn_gpu::backward, and the gradient of the first.

The operators are what torch.compile and other tracers see. Called on plain tensors, `run` reaches the same two
functions by a torch.autograd.Function, which spends less time on each call.
"""

from __future__ import annotations

from typing import Any, get_type_hints

import torch
from torch import Tensor
from torch.autograd import forward_ad

from rnn_gpu.torch import direct, execution
from rnn_gpu.torch.execution import Call, Given, cell_of
from rnn_gpu.torch.packed import checked_sizes

__all__ = ["run", "run_packed"]

_TYPES = {
    Tensor: "Tensor",
    list[Tensor]: "Tensor[]",
    Tensor | None: "Tensor?",
    str: "str",
    int: "SymInt",
    bool: "bool",
}


def _arguments() -> str:
    """The fields of `Given`, and in place of the last those of `Call`, as an operator declares them."""
    hints = get_type_hints(Given)
    del hints["call"]
    return ", ".join(f"{_TYPES[kind]} {name}" for name, kind in (hints | get_type_hints(Call)).items())


def _given(arguments: tuple[Any, ...]) -> Given:
    """The reverse of `_flat`."""
    x, weights, initial, lengths, resets, masks, *call = arguments
    return Given(x, weights, initial, lengths, resets, masks, Call(*call))


def _flat(given: Given) -> tuple[Any, ...]:
    """The operators' arguments."""
    return (*given[:-1], *given.call)


def _forward(*arguments: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """y (T, B, D*H); the last states (S, L*D, B, H); all states (L, S, T, B, D*H), empty if not wanted; the token.

    arguments: those of `Given`, and whether to save.
    """
    *rest, save = arguments
    given = _given(tuple(rest))
    with torch.no_grad():
        ran = execution.forward(given, save)
    states = ran.y.new_empty(0)
    if given.call.all_states:
        states = torch.stack(ran.states).view(-1, len(ran.last), *ran.y.shape)
    token = execution.token_of(ran.tape) if save else torch.zeros(1, dtype=torch.uint8)
    return ran.y, torch.stack(ran.last), states, token


_forward_operator: Any = torch.library.custom_op(
    "rnn_gpu::forward",
    _forward,
    mutates_args=(),
    schema=f"({_arguments()}, bool save) -> (Tensor, Tensor, Tensor, Tensor)",
)


def _forward_fake(*arguments: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    x, weights, initial, *_, call = _given(arguments[:-1])
    for what, tensors in (("the parameters", weights), ("hx", initial)):
        for tensor in tensors:
            if tensor.device != x.device:
                raise RuntimeError(f"rnn_gpu: expected {what} on {x.device} as input is, got one on {tensor.device}")
    n_steps, n_rows, _ = x.shape
    n_states = len(cell_of(call.cell).states)
    n_directions = 2 if call.bidirectional else 1
    n_places = len(weights) // len(call.names.split())
    y = x.new_empty(n_steps, n_rows, n_directions * call.hidden)
    last = x.new_empty(n_states, n_places, n_rows, call.hidden)
    states = x.new_empty((n_places // n_directions, n_states, *y.shape) if call.all_states else 0)
    return y, last, states, torch.empty(1, dtype=torch.uint8, device="meta" if x.device.type == "meta" else "cpu")


def _backward(
    dy: Tensor | None, dlast: Tensor | None, dstates: Tensor | None, token: Tensor, *arguments: Any
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """The gradients of x, of each of the weights and of each of the initial states."""
    given = _given(arguments)
    n_states = len(cell_of(given.call.cell).states)
    with torch.no_grad():
        of_states = dstates.flatten(0, 1).unbind(0) if given.call.all_states and dstates is not None else ()
        of_last = [None] * n_states if dlast is None else dlast.unbind(0)
        return execution.backward(given, execution.tape_of(token, given), dy, list(of_last), list(of_states))


_backward_operator: Any = torch.library.custom_op(
    "rnn_gpu::backward",
    _backward,
    mutates_args=(),
    schema=f"(Tensor? dy, Tensor? dlast, Tensor? dstates, Tensor token, {_arguments()})"
    " -> (Tensor, Tensor[], Tensor[])",
)


def _backward_fake(
    dy: Any, dlast: Any, dstates: Any, token: Tensor, *arguments: Any
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    def like(tensor: Tensor) -> Tensor:
        return tensor.new_empty(tensor.shape)

    given = _given(arguments)
    return like(given.x), list(map(like, given.weights)), list(map(like, given.initial))


def _keep(ctx: Any, given: Given, token: Tensor) -> None:
    """Note what the backward pass needs."""
    x, weights, initial, lengths, resets, masks, ctx.call = given
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(token, x, lengths, resets, masks, *weights, *initial)
    ctx.n_weights = len(weights)


def _kept(ctx: Any) -> tuple[Tensor, Given]:
    token, x, lengths, resets, masks, *rest = ctx.saved_tensors
    return token, Given(x, rest[: ctx.n_weights], rest[ctx.n_weights :], lengths, resets, masks, ctx.call)


def _set_up(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.mark_non_differentiable(output[3])
    _keep(ctx, _given(inputs[:-1]), output[3])


def _operator_backward(ctx: Any, dy: Any, dlast: Any, dstates: Any, _: Any) -> tuple[Any, ...]:
    token, given = _kept(ctx)
    gradients = _backward_operator(dy, dlast, dstates, token, *_flat(given))
    return *gradients, *[None] * (3 + len(Call._fields) + 1)


_forward_operator.register_fake(_forward_fake)
_forward_operator.register_autograd(_operator_backward, setup_context=_set_up)


def _refuse(ctx: Any, *gradients: Any) -> None:
    raise NotImplementedError(
        "rnn_gpu.torch has no gradients of gradients: backward with create_graph=True cannot go through its layers "
        "twice. torch.nn's layers can, on the CPU: replace only those of which you do not need it"
    )


_backward_operator.register_fake(_backward_fake)
_backward_operator.register_autograd(_refuse)


class _Function(torch.autograd.Function):
    """What the operators do, without the dispatcher. Arguments: `given`, and the tensors in it that autograd follows.

    Returns y, then the last states, then all states, as `execution.Result` has them.
    """

    @staticmethod
    def forward(ctx: Any, given: Given, x: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        ran = execution.forward(given, save=True)
        _keep(ctx, given, execution.token_of(ran.tape))
        ctx.n_states = len(ran.last)
        return ran.y, *ran.last, *ran.states

    @staticmethod
    def backward(ctx: Any, dy: Any, *rest: Any) -> tuple[Any, ...]:
        token, given = _kept(ctx)
        dlast, dstates = list(rest[: ctx.n_states]), list(rest[ctx.n_states :])
        if torch.is_grad_enabled():  # create_graph=True
            return None, *gradients_with_graph(given, token, dy, dlast, dstates)
        dx, d_weights, d_initial = execution.backward(given, execution.tape_of(token, given), dy, dlast, dstates)
        return None, dx, *d_weights, *d_initial


def gradients_with_graph(
    given: Given, token: Tensor, dy: Tensor | None, dlast: list[Tensor | None], dstates: list[Tensor | None]
) -> list[Tensor]:
    """The gradients of x, the weights and the initial states by the operator, which refuses a second derivative."""
    of_states = _joined(dstates)
    of_states = None if of_states is None else of_states.view(-1, len(dlast), *of_states.shape[1:])
    dx, d_weights, d_initial = _backward_operator(dy, _joined(dlast), of_states, token, *_flat(given))
    return [dx, *d_weights, *d_initial]


def _joined(gradients: list[Tensor | None]) -> Tensor | None:
    """Gradients of one shape as one tensor, zeros for None; None where all are."""
    some = next((gradient for gradient in gradients if gradient is not None), None)
    if some is None:
        return None
    return torch.stack([torch.zeros_like(some) if gradient is None else gradient for gradient in gradients])


def run(given: Given) -> tuple[Tensor, list[Tensor], list[list[Tensor]]]:
    """y, the last states and all states, those of a layer together, as `execution.Result` has them.

    They are followed by autograd where anything given is.
    """
    x, weights, initial, *_, call = given
    save = _is_followed(given)
    if _is_traced(x):
        y, last, states, _ = _forward_operator(*_flat(given), save)
        return y, list(last.unbind(0)), [list(layer.unbind(0)) for layer in states] if call.all_states else []
    rows = direct.rows_of(given)
    if rows is not None and (layers := direct.layers_of(given, rows, save)):
        return *direct.run(layers, given, rows, save), []
    if save:
        y, *rest = _Function.apply(given, x, *weights, *initial)  # type: ignore[no-untyped-call]
    else:
        ran = execution.forward(given, save=False)
        y, rest = ran.y, [*ran.last, *ran.states]
    n_states = len(cell_of(call.cell).states)
    return y, rest[:n_states], [rest[k : k + n_states] for k in range(n_states, len(rest), n_states)]


def run_packed(given: Given, batch_sizes: Tensor) -> tuple[Tensor, list[Tensor]] | None:
    """The same for a packed batch, with x (n_rows, I) and y (n_rows, D*H); None where it is to be padded.

    Raises ArgumentError for sizes that are no packed batch's.
    """
    if _is_traced(given.x) or not batch_sizes.is_cpu:
        return None
    save, sizes = _is_followed(given), checked_sizes(batch_sizes, len(given.x))
    rows = direct.rows_of(given, sizes)
    if rows is not None and (layers := direct.layers_of(given, rows, save)):
        return direct.run(layers, given, rows, save)
    return None


def _is_followed(given: Given) -> bool:
    """Whether autograd follows the call. Raises NotImplementedError for tensors with a tangent."""
    x, weights, initial, *_ = given
    if forward_ad._current_level >= 0:
        for tensor in (x, *weights, *initial):
            if forward_ad.unpack_dual(tensor).tangent is not None:  # type: ignore[no-untyped-call]
                raise NotImplementedError("rnn_gpu.torch has no forward-mode derivatives: torch.nn's layers have")
    return torch.is_grad_enabled() and (x.requires_grad or any(tensor.requires_grad for tensor in weights + initial))


def _is_traced(x: Tensor) -> bool:
    """Whether something other than torch's plain autograd is to see the call: a compiler, a mode, a transform."""
    return (
        torch.compiler.is_compiling()
        or type(x) not in (Tensor, torch.nn.Parameter)
        or x.is_meta
        or torch._C._len_torch_dispatch_stack() > 0
        or torch._C._are_functorch_transforms_active()
    )
