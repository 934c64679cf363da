"""The functions that emitted cells call, vectorised, and the compiled functions of a cell."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from rnn_gpu.compiler import emit_python
from rnn_gpu.compiler.cell import Cell
from rnn_gpu.compiler.program import Function

__all__ = ["Environment", "functions_of", "run"]

Environment = dict[str, Any]
"""Arrays by the names that the emitted functions give them, each (B, H)."""


def _sigmoid(x: Any) -> Any:
    # exp overflows to inf for x below -88 (float32): 1 / inf = 0 is the right answer.
    return 1 / (1 + np.exp(-x))


def _softplus(x: Any) -> Any:
    return np.logaddexp(x.dtype.type(0), x)


def _relu(x: Any) -> Any:
    return np.maximum(x, 0)


_FUNCTIONS = {name: getattr(np, name) for name in emit_python.CALLED if hasattr(np, name)}
_FUNCTIONS |= {"sigmoid": _sigmoid, "softplus": _softplus, "relu": _relu}

_compiled: MutableMapping[Cell, dict[str, dict[str, Callable[..., Any]]]] = WeakKeyDictionary()


def functions_of(cell: Cell, real: np.dtype[Any]) -> dict[str, Callable[..., Any]]:
    """The cell's emitted functions by name, computing in `real`; compiled once per cell and type."""
    by_type = _compiled.setdefault(cell, {})
    if real.name not in by_type:
        by_type[real.name] = emit_python.compiled(cell.program, real.type, _FUNCTIONS)
    return by_type[real.name]


def run(cell: Cell, function: Function, functions: dict[str, Callable[..., Any]], values: Environment) -> None:
    """Call one emitted function on the values it names, and add what it returns to them."""
    if not function.steps:
        return
    name = cell.program.name
    results = functions[function.name](*[values[name(node)] for node in function.inputs])
    if len(function.outputs) == 1:
        results = (results,)
    values.update(zip(map(name, function.outputs), results, strict=True))
