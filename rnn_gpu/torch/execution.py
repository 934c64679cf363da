"""A stack of recurrent layers on tensors, forward and backward: what both the operators and the quick way to them run.

What the forward pass keeps for the backward pass (a `StackTape`) is no tensor. It travels as a tensor of one byte, the
token: the tape lives as long as that byte's memory does, and is found by its address. Where a token was copied, not
handed on, as by hooks that move saved tensors elsewhere, there is no tape, and the forward pass is run again.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

import numpy as np
import torch
from torch import Tensor

from rnn_gpu import cells, stack
from rnn_gpu.compiler.cell import Cell
from rnn_gpu.torch.projection import lstm_projection
from rnn_gpu.weights import Weights

__all__ = ["Call", "Given", "Result", "backward", "cell_of", "forward", "key_of", "tape_of", "token_of"]


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


class _Token(np.ndarray[Any, Any]):
    """A byte, whose memory keeps a tape alive."""

    tape: stack.StackTape


_tokens: WeakValueDictionary[int, _Token] = WeakValueDictionary()


def token_of(tape: stack.StackTape) -> Tensor:
    """A new token of the tape."""
    byte = np.zeros(1, np.uint8).view(_Token)
    byte.tape = tape
    token = torch.from_numpy(byte)
    _tokens[token.data_ptr()] = byte
    return token


def tape_of(token: Tensor, given: Given) -> stack.StackTape:
    """The tape of the token, or of another forward pass."""
    kept = _tokens.get(token.data_ptr()) if token.is_cpu else None
    return forward(given, save=True).tape if kept is None else kept.tape


def forward(given: Given, save: bool) -> Result:
    """Run all layers. save: keep what `backward` needs."""
    x, weights, initial, lengths, resets, masks, call = given
    cell = cell_of(call.cell)
    names = _split(call.names)
    layers = [
        Weights.of(dict(zip(names, weights[k : k + len(names)], strict=True)), cell.vectors)
        for k in range(0, len(weights), len(names))
    ]
    result = stack.forward(
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
        save=save,
    )
    last = [_stacked(states, x.dtype) for states in zip(*result.last, strict=True)]
    return Result(result.y, last, [state for layer in result.states for state in layer], result.tape)


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
    n_places = len(given.weights) // len(_split(given.call.names))
    places = [None if d is None else d.unbind(0) for d in dlast]
    n_states = len(dlast)
    of_places = [[None if place is None else place[k] for place in places] for k in range(n_places)]
    of_layers = [dstates[k : k + n_states] for k in range(0, len(dstates), n_states)]
    gradients = stack.backward(tape, dy, of_places, of_layers or None)
    d_weights = [gradient for layer in gradients.layers for _, gradient in layer.items()]
    initial = zip(*gradients.initial, strict=True) if given.initial else ()
    return gradients.x, d_weights, [_stacked(states, given.x.dtype) for states in initial]


_split = cache(str.split)


def _stacked(tensors: tuple[Tensor, ...], dtype: torch.dtype) -> Tensor:
    """Tensors (B, H) of our own, one after the other, of that type; a single one that has it is not copied."""
    stacked = torch.stack(tensors) if len(tensors) > 1 else tensors[0].unsqueeze_(0)
    return stacked if stacked.dtype is dtype else stacked.to(dtype)
