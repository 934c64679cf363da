"""A stack of recurrent layers on tensors, forward and backward: what both the operators and the quick way to them run.

What the forward pass keeps for the backward pass (a `StackTape`) is no tensor. It travels as a tensor of one byte, the
token: the tape lives as long as that byte's memory does, and is found by its address. Where a token was copied, not
handed on, as by hooks that move saved tensors elsewhere, there is no tape, and the forward pass is run again.
"""

from __future__ import annotations

from typing import Any, NamedTuple
from weakref import WeakValueDictionary

import numpy as np
import torch
from torch import Tensor

from rnn_gpu import cells, stack
from rnn_gpu.compiler.cell import Cell
from rnn_gpu.torch.projection import lstm_projection
from rnn_gpu.weights import Weights

__all__ = ["Call", "backward", "cell_of", "forward", "key_of"]


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


def forward(
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
    of_states = [state for states in zip(*result.last, strict=True) for state in states]
    last = torch.stack(of_states).view(-1, len(result.last), *of_states[0].shape).to(x.dtype)
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


def backward(
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
    gradients = stack.backward(
        tape,
        dy,
        None if dlast is None else [states.unbind(0) for states in dlast.unbind(1)],
        None if dstates is None else [states.unbind(0) for states in dstates.unbind(0)],
    )
    d_weights = [gradient for layer in gradients.layers for _, gradient in layer.items()]
    d_initial = [torch.stack(states).to(x.dtype) for states in zip(*gradients.initial, strict=True)] if initial else []
    return gradients.x, d_weights, d_initial
