"""Cells made from other cells' texts: the same equations with other functions, another output, or masked products.

A cell's text is written once, in rnn_gpu/cells or by a user; a framework that lets its users choose the activations,
asks for all states, or drops recurrent connections, runs a variant of it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from types import FunctionType
from typing import Any

from rnn_gpu.compiler.cell import Cell
from rnn_gpu.compiler.language import Symbol, cell
from rnn_gpu.errors import ArgumentError

__all__ = ["with_functions", "with_gates", "with_masked_products", "with_output"]

Text = Callable[..., Any]


def with_functions(base: Cell, name: str, functions: Mapping[str, Callable[[Symbol], Symbol]]) -> Cell:
    """The cell called `name` whose text calls `functions` in place of those of the same names, such as "tanh".

    Raises ArgumentError for a name that the text does not use.
    """
    text = base.text
    for used in functions:
        if used not in text.__code__.co_names:
            raise ArgumentError("functions", f"names that cell {base.name} uses", repr(used))
    changed = FunctionType(text.__code__, {**text.__globals__, **functions}, name, text.__defaults__, text.__closure__)
    changed.__doc__ = text.__doc__
    return _made(base, changed, base.gates, base.states)


def with_gates(base: Cell, gates: Sequence[str]) -> Cell:
    """The cell with the blocks of its gates in another order. Raises ArgumentError for other gates than its own."""
    if sorted(gates) != sorted(base.gates):
        raise ArgumentError("gates", f"those of cell {base.name}, {' '.join(base.gates)}", " ".join(gates))
    return _made(base, base.text, tuple(gates), base.states)


@cache
def with_output(base: Cell, state: str) -> Cell:
    """The cell whose output y_t is this one of its states: that state comes first, the others follow in their order."""
    order = (state, *(other for other in base.states if other != state))

    def text(Wx: Any, U: Any, *rest: Any) -> tuple[Any, ...]:
        states = dict(zip(order, rest, strict=False))
        new = base.text(Wx, U, *(states[name] for name in base.states), *rest[len(order) :])
        named = dict(zip(base.states, new if isinstance(new, tuple) else (new,), strict=True))
        return tuple(named[name] for name in order)

    return _made(base, _disguised(base, text, f"{base.name}_{state}", order), base.gates, order)


@cache
def with_masked_products(base: Cell, masks: tuple[tuple[str, str], ...]) -> Cell:
    """The cell in which each recurrent product U.g(operand) is U.g(mask * operand), the mask being one more state.

    masks: (gate, name of its mask) pairs; gates may share a mask. The masks follow the cell's own states, and come out
    of each step as they went in: a mask is given, a number for each row and unit, as the initial state.
    """
    of_gate = dict(masks)
    names = tuple(dict.fromkeys(of_gate[gate] for gate in base.recurrent_gates))
    order = (*base.states, *names)

    def text(Wx: Any, U: Any, *rest: Any) -> tuple[Any, ...]:
        found = dict(zip(names, rest[len(base.states) :], strict=False))
        masked = _Masked(U, {gate: found[of_gate[gate]] for gate in base.recurrent_gates})
        new = base.text(Wx, masked, *rest[: len(base.states)], *rest[len(order) :])
        return (*(new if isinstance(new, tuple) else (new,)), *(found[name] for name in names))

    return _made(base, _disguised(base, text, f"{base.name}_masked", order), base.gates, order)


class _Masked:
    """`U`, whose products multiply their operands by masks first."""

    def __init__(self, products: Any, masks: Mapping[str, Any]) -> None:
        self._products, self._masks = products, masks

    def __getattr__(self, gate: str) -> Callable[[Any], Any]:
        return lambda operand: getattr(self._products, gate)(self._masks[gate] * operand)


def _disguised(base: Cell, text: Text, name: str, states: Sequence[str]) -> Text:
    """The function under another name, with the signature that a cell of these states has."""
    names = ["Wx", "U", *states, *(["v"] if base.vectors else [])]
    parameters = [inspect.Parameter(each, inspect.Parameter.POSITIONAL_OR_KEYWORD) for each in names]
    text.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    text.__name__, text.__doc__ = name, base.doc
    return text


def _made(base: Cell, text: Text, gates: Sequence[str], states: Sequence[str]) -> Cell:
    ranges = {name: limits for name, limits in base.vector_ranges.items() if limits is not None}
    vectors: Any = ranges if len(ranges) == len(base.vectors) else base.vectors
    return cell(gates=gates, states=states, vectors=vectors, forget=base.forget)(text)
