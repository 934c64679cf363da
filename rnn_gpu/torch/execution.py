"""A stack of recurrent layers on tensors, forward and backward: what both the operators and the quick way to them run.

What the forward pass keeps for the backward pass (a `StackTape`) is no tensor. It travels as a tensor of one byte, the
token: the tape lives as long as that byte's memory does, and is found by its address. Where a token was copied, not
handed on, as by hooks that move saved tensors elsewhere, there is no tape, and the forward pass is run again.

On the CPU the stack is given NumPy arrays: each tensor becomes one once, however many layers there are.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from rnn_gpu import cells, stack
from rnn_gpu.arrays import DTYPES, library_of
from rnn_gpu.compiler.cell import Cell
from rnn_gpu.errors import BackendError
from rnn_gpu.threads import torch_threads
from rnn_gpu.torch.projection import lstm_projection
from rnn_gpu.weights import Weights
from rnn_gpu.weights.core import FIELDS

__all__ = [
    "Call",
    "Given",
    "Result",
    "backward",
    "cell_of",
    "forward",
    "key_of",
    "tape_of",
    "token_of",
    "weights_maker",
]


class Call(NamedTuple):
    """What a call asks for, in types that operators take.

    cell: its key, see `key_of`. names: of each layer's weights, as `Weights.items` has them, separated by spaces.
    hidden: H. backend: its name, or "" for the choice of dispatch. The rest: as in `stack.forward`.
    """

    cell: str
    names: str
    hidden: int
    bidirectional: bool = False
    reverse: bool = False
    all_states: bool = False
    recompute: bool = False
    backend: str = ""


class Given(NamedTuple):
    """All that a forward pass is given, and a backward pass again.

    x (T, B, I). weights: those of layer 0 forward, layer 0 backward ..., by `call.names`. initial: an (L*D, B, H) a
    state, or none. lengths (B,), resets (T, B), masks (L-1, T, B, D*H).
    """

    x: Tensor
    weights: list[Tensor]
    initial: list[Tensor]
    lengths: Tensor | None
    resets: Tensor | None
    masks: Tensor | None
    call: Call


class Result(NamedTuple):
    """y (T, B, D*H); last, an (L*D, B, H) a state; states, a (T, B, D*H) a layer and state, or none; the tape."""

    y: Tensor
    last: list[Tensor]
    states: list[Tensor]
    tape: stack.StackTape


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


_tokens: dict[int, stack.StackTape] = {}
"""The tapes of the tokens there are, by the addresses of their bytes."""


class _Token(np.ndarray[Any, Any]):
    """A byte, with whose end its tape is let go."""

    address = 0

    def __del__(self, forget: Callable[..., object] = _tokens.pop) -> None:
        forget(self.address, None)


def token_of(tape: stack.StackTape) -> Tensor:
    """A new token of the tape."""
    byte = np.zeros(1, np.uint8).view(_Token)
    token = torch.from_numpy(byte)
    byte.address = token.data_ptr()
    _tokens[byte.address] = tape
    return token


def tape_of(token: Tensor, given: Given) -> stack.StackTape:
    """The tape of the token, or of another forward pass."""
    kept = _tokens.get(token.data_ptr()) if token.is_cpu else None
    return forward(given, save=True).tape if kept is None else kept


def forward(given: Given, save: bool) -> Result:
    """Run all layers, where autograd does not look. save: keep what `backward` needs."""
    arrays = _on_host(given)
    if arrays is not None:
        try:
            with torch_threads:
                return _forward(given, save, *arrays)
        except BackendError:
            pass  # refused again, as the tensors that they were
    return _forward(given, save, given.x, given.weights, given.initial, back=_itself)


def _forward(
    given: Given, save: bool, x: Any, weights: list[Any], initial: list[Any], back: Callable[[Any], Tensor]
) -> Result:
    call, masks = given.call, given.masks
    cell = cell_of(call.cell)
    n_weights, weights_of = weights_maker(call.names, cell)
    result = stack.forward(
        cell,
        x,
        [weights_of(*weights[k : k + n_weights]) for k in range(0, len(weights), n_weights)],
        list(zip(*initial, strict=True)) if initial else None,
        given.lengths,
        given.resets,
        call.reverse,
        bidirectional=call.bidirectional,
        masks=None if masks is None else list(masks if back is _itself else _HOST.view(masks)),
        all_states=call.all_states,
        recompute=call.recompute,
        backend=call.backend or None,
        save=save,
    )
    last = [_stacked(states, back, given.x.dtype) for states in zip(*result.last, strict=True)]
    y = back(result.y)
    return Result(y, last, _states(result, y, back) if call.all_states else [], result.tape)


@cache
def weights_maker(names: str, cell: Cell) -> tuple[int, Callable[..., Weights]]:
    """How many weights a layer has, those of these names, and what makes `Weights` of their arrays."""
    split = names.split()
    if tuple(split) == FIELDS:
        return len(split), Weights
    return len(split), lambda *arrays: Weights.of(dict(zip(split, arrays, strict=True)), cell.vectors)


def backward(
    given: Given,
    tape: stack.StackTape,
    dy: Tensor | None,
    dlast: list[Tensor | None],
    dstates: list[Tensor | None],
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """The gradients of x, of each of the weights and of each of the initial states.

    dy, dlast, dstates: those of `Result.y`, `last` and `states`; None stands for zeros.
    """
    view, back = (_HOST.view, _HOST.back) if tape.library.name == "numpy" else (_itself, _itself)
    of_places = None
    if any(d is not None for d in dlast):
        n_places = len(given.weights) // weights_maker(given.call.names, cell_of(given.call.cell))[0]
        places = [[None] * n_places if d is None else view(d) for d in dlast]
        of_places = list(zip(*places, strict=True))
    of_layers = None
    if dstates:
        d_arrays = [None if d is None else view(d) for d in dstates]
        of_layers = [d_arrays[k : k + len(dlast)] for k in range(0, len(d_arrays), len(dlast))]
    with torch_threads:
        gradients = stack.backward(tape, None if dy is None else view(dy), of_places, of_layers)
    d_weights = [back(gradient) for layer in gradients.layers for _, gradient in layer.items()]
    d_initial = []
    if given.initial:
        d_initial = [_stacked(states, back, given.x.dtype) for states in zip(*gradients.initial, strict=True)]
    return back(gradients.x), d_weights, d_initial


def _states(result: stack.StackForward, y: Tensor, back: Callable[[Any], Tensor]) -> list[Tensor]:
    """All states as tensors that may be written to: y is the last layer's output, those of the others are kept as x."""
    states = [[back(state) if k else back(state).clone() for k, state in enumerate(layer)] for layer in result.states]
    if states:
        states[-1][0] = y
    return [state for layer in states for state in layer]


def _on_host(given: Given) -> tuple[Any, list[Any], list[Any], Callable[[Any], Tensor]] | None:
    """x, the weights and the initial states as NumPy arrays over their numbers, and what makes tensors of such arrays.

    None where the stack may refuse them.
    """
    x, weights, initial = given[:3]
    try:
        arrays = x.numpy(), [weight.numpy() for weight in weights], [states.numpy() for states in initial]
    except (RuntimeError, TypeError):  # elsewhere, or of a type that NumPy has not, as bfloat16
        for tensor in (x, *weights, *initial):
            if not tensor.is_cpu or tensor.layout is not torch.strided or tensor.dtype not in _KNOWN:
                return None
        view = _HOST.view
        return view(x), [view(weight) for weight in weights], [view(states) for states in initial], _HOST.back
    return *arrays, torch.from_numpy


_HOST = library_of("tensor", torch.empty(0, device="cpu"))
_KNOWN = frozenset(getattr(torch, name) for name in DTYPES)


def _itself(array: Any) -> Any:
    return array


def _stacked(states: tuple[Any, ...], back: Callable[[Any], Tensor], dtype: torch.dtype) -> Tensor:
    """States (B, H) of our own, one after the other, as a tensor of that type; one alone that has it is not copied."""
    if len(states) > 1:
        stacked = torch.stack([back(state) for state in states])
    elif isinstance(states[0], Tensor):
        stacked = states[0].unsqueeze_(0)  # in place: autograd allows no writing to views
    else:
        stacked = back(states[0][None])
    return stacked if stacked.dtype is dtype else stacked.to(dtype)
