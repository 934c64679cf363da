"""Writes the steps of a function as statements, in the notation that Python and C++ share."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from rnn_gpu.compiler import ops
from rnn_gpu.compiler.graph import Node
from rnn_gpu.compiler.program import Function

__all__ = ["number", "statements"]


def number(value: float) -> str:
    """The shortest text that reads back as `value`."""
    short = value.is_integer() and abs(value) < 1e15 and not (value == 0 and math.copysign(1, value) < 0)
    return str(int(value)) if short else repr(value)


def statements(
    function: Function, names: dict[Node, str], text: Callable[[ops.Op], str], constant: Callable[[float], str]
) -> Iterator[tuple[Node, str]]:
    """Yield (node, expression) for each step that has a name; a step without one is written into its only user."""

    def write(node: Node) -> tuple[str, int]:
        if node.op == "constant":
            return constant(node.value), ops.ATOM
        if node in names or node.op not in ops.TABLE:
            return names[node], ops.ATOM
        return expression(node)

    def expression(node: Node) -> tuple[str, int]:
        op = ops.TABLE[node.op]
        written = []
        for position, argument in enumerate(node.args):
            inner, precedence = write(argument)
            # Arithmetic is not associative in floating point: the right operand keeps its brackets.
            binds = op.precedence < precedence or (op.precedence == precedence and position == 0)
            written.append(inner if op.precedence == ops.ATOM or binds else f"({inner})")
        return text(op).format(*written), op.precedence

    for node in function.steps:
        if node in names:
            yield node, expression(node)[0]
