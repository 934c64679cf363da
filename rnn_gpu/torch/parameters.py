"""The parameters of a layer under torch's names, and in the type of an enclosing torch.autocast."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from rnn_gpu.compiler.cell import Cell

__all__ = ["autocast", "parameter_names", "parameter_shapes"]

_TORCH_NAMES = {"w_ih": "weight_ih", "w_hh": "weight_hh", "b_ih": "bias_ih", "b_hh": "bias_hh"}


def parameter_shapes(cell: Cell, inputs: int, hidden: int, bias: bool) -> dict[str, tuple[int, ...]]:
    """The shapes of a layer's parameters, by their names in `Weights`, in the order of `Weights.items`."""
    g, s = len(cell.input_gates) * hidden, len(cell.recurrent_gates) * hidden
    shapes: dict[str, tuple[int, ...]] = {"w_ih": (g, inputs), "w_hh": (s, hidden)}
    if bias:
        shapes |= {"b_ih": (g,), "b_hh": (s,)}
    return {name: shape for name, shape in shapes.items() if shape[0]} | dict.fromkeys(cell.vectors, (hidden,))


def parameter_names(names: Iterable[str], suffix: str) -> list[str]:
    """torch's names for them."""
    return [_TORCH_NAMES.get(name, name) + suffix for name in names]


def autocast(x: Tensor, weights: list[Tensor], initial: list[Tensor]) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """All of them in the type of an enclosing torch.autocast; float64, as everywhere, is left alone."""
    if not torch._C._is_any_autocast_enabled():
        return x, weights, initial
    kind = x.device.type
    if kind == "meta" or not torch.is_autocast_enabled(kind):
        return x, weights, initial
    to = torch.get_autocast_dtype(kind)

    def cast(tensor: Tensor) -> Tensor:
        return tensor if tensor.dtype == torch.float64 else tensor.to(to)

    return cast(x), list(map(cast, weights)), list(map(cast, initial))
