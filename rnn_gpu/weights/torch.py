"""Weights from and to the state dicts of torch.nn.RNN, LSTM and GRU. torch itself is not needed."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from rnn_gpu import cells
from rnn_gpu.compiler.cell import Cell
from rnn_gpu.errors import ArgumentError, ArgumentTypeError
from rnn_gpu.weights.core import Weights
from rnn_gpu.weights.layout import Orders, gate_order, read, read_weights, reorder

__all__ = ["from_torch", "layers_from_torch", "to_torch"]

ORDERS: Orders = {
    cells.rnn: ("h",),
    cells.rnn_relu: ("h",),
    cells.lstm: ("i", "f", "g", "o"),
    cells.gru: ("r", "z", "n"),
}
"""The blocks of a torch.nn.RNN, LSTM or GRU. https://docs.pytorch.org/docs/stable/generated/torch.nn.LSTM.html"""


def from_torch(
    cell: Cell, state_dict: Mapping[str, Any], *, layer: int = 0, reverse: bool = False, prefix: str = ""
) -> Weights:
    """Return the Weights, as NumPy arrays of their own, of one layer and direction of a torch module's state dict.

    cell: rnn (nonlinearity "tanh"), rnn_relu (nonlinearity "relu"), lstm or gru.
    state_dict: arrays by torch's names: weight_ih_l0 (G*H, I), weight_hh_l0 (G*H, H), and, if the module has
        biases, bias_ih_l0 and bias_hh_l0 (G*H,). The arrays are torch tensors, NumPy arrays, or others NumPy can read.
    reverse: read the layer's backward direction, whose names end in "_reverse".
    prefix: what stands before the names, such as "encoder.rnn.".

    Raises ArgumentError for a cell that torch does not have, a missing key, a wrong shape, or a projection
    (`proj_size`); ArgumentTypeError for what is no mapping or no array of floats.
    """
    order = gate_order(cell, ORDERS, "torch")
    _check(state_dict)
    suffix = _suffix(layer, reverse)
    sizes = {"G": len(order)}

    def part(name: str, axes: str) -> NDArray[Any]:
        key = f"{prefix}{name}{suffix}"
        if key not in state_dict:
            nearest = difflib.get_close_matches(key, map(str, state_dict), n=3, cutoff=0.0)
            got = f"{len(state_dict)} keys, the nearest {', '.join(map(repr, nearest))}" if nearest else "no keys"
            raise ArgumentError("state_dict", f"key {key!r}", got)
        return reorder(read(f"state_dict[{key!r}]", state_dict[key], axes, sizes), order, cell.gates)

    projection = f"{prefix}weight_hr{suffix}"
    if projection in state_dict:
        raise ArgumentError("state_dict", "a module without a projection (proj_size=0)", f"key {projection!r}")
    w_hh = part("weight_hh", "G*H H")
    w_ih = part("weight_ih", "G*H I")
    if not any(f"{prefix}{name}{suffix}" in state_dict for name in ("bias_ih", "bias_hh")):
        return Weights(w_ih, w_hh)
    return Weights(w_ih, w_hh, part("bias_ih", "G*H"), part("bias_hh", "G*H"))


def _check(state_dict: object) -> None:
    if not isinstance(state_dict, Mapping):
        expected = "a mapping of arrays by name, such as module.state_dict()"
        raise ArgumentTypeError("state_dict", expected, type(state_dict).__name__)


def layers_from_torch(cell: Cell, state_dict: Mapping[str, Any], *, prefix: str = "") -> list[tuple[Weights, ...]]:
    """Return all layers of a torch module's state dict, each as (forward,) or (forward, backward).

    Arguments and errors are those of `from_torch`.
    """
    _check(state_dict)
    pattern = re.compile(re.escape(prefix) + r"weight_ih_l(\d+)(_reverse)?")
    found = [match for match in map(pattern.fullmatch, map(str, state_dict)) if match]
    directions = (False, True) if any(match[2] for match in found) else (False,)
    n_layers = 1 + max((int(match[1]) for match in found), default=0)
    return [
        tuple(from_torch(cell, state_dict, layer=layer, reverse=reverse, prefix=prefix) for reverse in directions)
        for layer in range(n_layers)
    ]


def to_torch(
    cell: Cell, weights: Weights, *, layer: int = 0, reverse: bool = False, prefix: str = ""
) -> dict[str, NDArray[Any]]:
    """Return `weights` as one layer and direction of a torch module's state dict, of NumPy arrays of their own.

    Names and shapes are those of `from_torch`. The biases are both there, or neither (a module of bias=False); where
    `weights` has one only, the other is zero. Load them with
    `module.load_state_dict({name: torch.from_numpy(array) for name, array in ...})`.

    Raises ArgumentError for a cell that torch does not have or a wrong shape, ArgumentTypeError for a missing matrix.
    """
    order = gate_order(cell, ORDERS, "torch")
    ours = read_weights(cell, weights)
    parts = {"weight_ih": ours.w_ih, "weight_hh": ours.w_hh}
    if ours.biases is not None:
        parts["bias_ih"], parts["bias_hh"] = ours.biases
    suffix = _suffix(layer, reverse)
    return {f"{prefix}{name}{suffix}": reorder(array, cell.gates, order) for name, array in parts.items()}


def _suffix(layer: int, reverse: bool) -> str:
    return f"_l{layer}{'_reverse' if reverse else ''}"
