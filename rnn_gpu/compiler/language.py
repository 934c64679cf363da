"""What the author of a cell imports: `cell` and the elementwise functions.

    from rnn_gpu.compiler.language import cell, sigmoid, tanh

    @cell(gates="zn", states="h")
    def mine(Wx, U, h):
        z = sigmoid(Wx.z + U.z(h))
        return (1 - z) * h + z * tanh(Wx.n + U.n(h))

`Wx.z` is gate z's block of `W x_t + b_ih`; `U.z(operand)` is gate z's block of `U operand + b_hh`; all else is
elementwise, written with + - * / ** and the functions of this module. The new states are returned in the order in
which they are declared; the first one is the output y_t.
"""

from __future__ import annotations

import inspect
import math
import sys
from collections.abc import Callable, Iterable, Mapping
from types import FrameType, FunctionType
from typing import NoReturn

from rnn_gpu.compiler import ops
from rnn_gpu.compiler.cell import Cell
from rnn_gpu.compiler.graph import Graph, Node, Traced
from rnn_gpu.errors import CellError

__all__ = [
    "Symbol",
    "cell",
    "clip",
    "cos",
    "exp",
    "log",
    "maximum",
    "minimum",
    "relu",
    "sigmoid",
    "sign",
    "sin",
    "softplus",
    "sqrt",
    "tanh",
    "where",
]

Vectors = Iterable[str] | Mapping[str, tuple[float, float]]


def cell(
    *, gates: Iterable[str], states: Iterable[str], vectors: Vectors = (), forget: str | None = None
) -> Callable[[Callable[..., object]], Cell]:
    """Make a function of symbols a `Cell`. The function is run once, here, and never again.

    gates: their names, in the order of their blocks in w_ih, w_hh and the biases. In a string each letter is a gate.
    states: names of the states, which are also the names of the function's arguments after `Wx, U`.
    vectors: names of per-unit vectors. If there are any, the function takes one more argument `v`, with `v.name`.
        A mapping gives each the range (low, high) in which `init_weights` draws it uniformly.
    forget: the gate whose bias starts at 1 in Keras' initialisation.

    Raises CellError, naming cell and line, for whatever the text may not do.
    """
    ranges: dict[str, tuple[float, float] | None]
    ranges = dict(vectors) if isinstance(vectors, Mapping) else dict.fromkeys(vectors)

    def decorate(function: Callable[..., object]) -> Cell:
        if not isinstance(function, FunctionType):
            raise CellError(f"cell: expected a plain function, got {type(function).__name__}")
        tracer = _Tracer(function)
        traced = tracer.trace(tuple(gates), tuple(states), tuple(ranges))
        if forget is not None and forget not in traced.gates:
            tracer.fail(f"forget: expected one of the gates {', '.join(traced.gates)}, got {forget!r}")
        return Cell(function.__name__, inspect.getdoc(function) or "", traced, forget, ranges)

    return decorate


class _Tracer:
    """Runs a cell's function once on symbols, and knows where in its text it is."""

    def __init__(self, function: FunctionType) -> None:
        self.function = function
        self.graph = Graph()

    def trace(self, gates: tuple[str, ...], states: tuple[str, ...], vectors: tuple[str, ...]) -> Traced:
        self._check_names(gates, states, vectors)
        products = _Products(self, gates)
        arguments: list[object] = [_Inputs(self, gates), products]
        arguments += [Symbol(self, self.graph.leaf("state", name)) for name in states]
        if vectors:
            arguments.append(_Leaves(self, "vector", vectors))
        for kind, labels, prefix in (("state", states, ""), ("vector", vectors, ""), ("input", gates, "Wx_")):
            for label in labels:
                self.graph.name(self.graph.leaf(kind, label), prefix + label)
        outputs = self._outputs(self.function(*arguments), states)
        for state, output in zip(states, outputs, strict=True):
            if output.op not in ("state", "vector", "input", "recurrent"):
                self.graph.names.pop(output, None)
                self.graph.name(output, f"{state}_new")
        traced = Traced(self.graph, gates, states, vectors, outputs)
        used = {**traced.leaves("input"), **traced.leaves("recurrent")}
        for name in gates:
            if name not in used:
                self.fail(f"gate {name!r} is declared but nothing that is returned depends on it")
        for name in vectors:
            if name not in traced.leaves("vector"):
                self.fail(f"vector {name!r} is declared but nothing that is returned depends on it")
        return traced

    def _check_names(self, gates: tuple[str, ...], states: tuple[str, ...], vectors: tuple[str, ...]) -> None:
        for kind, labels in (("gates", gates), ("states", states), ("vectors", vectors)):
            for label in labels:
                if not isinstance(label, str) or not label.isidentifier() or label.startswith("_"):
                    self.fail(f"{kind}: expected names such as 'f' or 'forget', got {label!r}")
                if label in ops.RESERVED:
                    self.fail(f"{kind}: expected another name than the reserved word {label!r}")
            if len(set(labels)) != len(labels):
                self.fail(f"{kind}: expected each name once, got {', '.join(labels)}")
        for kind, labels in (("gates", gates), ("states", states)):
            if not labels:
                self.fail(f"{kind}: expected at least one, got none")
        if shared := set(states) & set(vectors):
            self.fail(f"vectors: expected names that are not states, got {', '.join(sorted(shared))}")
        parameters = [
            p.name
            for p in inspect.signature(self.function).parameters.values()
            if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
        ]
        expected = ["Wx", "U", *states] + (["v"] if vectors else [])
        if parameters[2 : 2 + len(states)] != list(states) or len(parameters) != len(expected):
            self.fail(f"expected the arguments ({', '.join(expected)}), got ({', '.join(parameters)})")

    def _outputs(self, returned: object, states: tuple[str, ...]) -> tuple[Node, ...]:
        values = returned if isinstance(returned, tuple) else (returned,)
        if len(values) != len(states):
            self.fail(f"expected the {len(states)} new states ({', '.join(states)}) returned, got {len(values)} values")
        for state, value in zip(states, values, strict=True):
            if not isinstance(value, Symbol):
                self.fail(f"expected a symbol for the new state {state!r}, got {value!r}")
            if value.node.op in ("gt", "ge"):
                self.fail(
                    f"expected a number for the new state {state!r}, got a comparison; use where(condition, a, b)"
                )
        return tuple(value.node for value in values)

    def node(self, value: object) -> Node:
        """The node of an argument of an operation."""
        if isinstance(value, Symbol):
            if value.tracer is not self:
                self.fail("uses a symbol of another cell; each cell's text must be complete in itself")
            return value.node
        if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
            return self.graph.constant(value)
        self.fail(f"expected a symbol or a finite number, got {type(value).__name__} {value!r}")

    def apply(self, op: str, *values: object) -> Symbol:
        nodes = tuple(map(self.node, values))
        for position, node in enumerate(nodes):
            is_condition = node.op in ("gt", "ge")
            if is_condition != (op == "where" and position == 0):
                self.fail(
                    f"{op}: a comparison such as h > 0 can only be the first argument of where(condition, a, b)"
                    if is_condition
                    else f"where: expected a comparison such as h > 0 as its first argument, got {values[0]!r}"
                )
        self.learn_names()
        return Symbol(self, self.graph.apply(op, *nodes))

    def learn_names(self) -> None:
        """Name the nodes that the function's local variables hold, so that emitted source uses the author's names."""
        frame = self._frame()
        if frame is not None:
            for name, value in frame.f_locals.items():
                if isinstance(value, Symbol) and value.tracer is self and value.node.op != "constant":
                    self.graph.name(value.node, name)

    def _frame(self) -> FrameType | None:
        """The frame of the cell's function, if it is running."""
        frame: FrameType | None = sys._getframe(1)
        while frame is not None and frame.f_code is not self.function.__code__:
            frame = frame.f_back
        return frame

    def fail(self, message: str) -> NoReturn:
        frame = self._frame()
        code = self.function.__code__
        line = frame.f_lineno if frame is not None else code.co_firstlineno
        raise CellError(f"cell {self.function.__name__!r} ({code.co_filename}:{line}): {message}")


class Symbol:
    """A value of the cell's text while it is traced: one number per batch row and hidden unit."""

    def __init__(self, tracer: _Tracer, node: Node) -> None:
        self.tracer = tracer
        self.node = node

    def __add__(self, other: object) -> Symbol:
        return self.tracer.apply("add", self, other)

    def __radd__(self, other: object) -> Symbol:
        return self.tracer.apply("add", other, self)

    def __sub__(self, other: object) -> Symbol:
        return self.tracer.apply("sub", self, other)

    def __rsub__(self, other: object) -> Symbol:
        return self.tracer.apply("sub", other, self)

    def __mul__(self, other: object) -> Symbol:
        return self.tracer.apply("mul", self, other)

    def __rmul__(self, other: object) -> Symbol:
        return self.tracer.apply("mul", other, self)

    def __truediv__(self, other: object) -> Symbol:
        return self.tracer.apply("div", self, other)

    def __rtruediv__(self, other: object) -> Symbol:
        return self.tracer.apply("div", other, self)

    def __neg__(self) -> Symbol:
        return self.tracer.apply("neg", self)

    def __pos__(self) -> Symbol:
        return self

    def __abs__(self) -> Symbol:
        return self.tracer.apply("abs", self)

    def __pow__(self, power: object) -> Symbol:
        if power == 2:
            return self * self
        if power == 3:
            return self * self * self
        if power == 0.5:
            return sqrt(self)
        self.tracer.fail(f"**: expected the power 2, 3 or 0.5, got {power!r}; write other powers as exp(p * log(x))")

    def __gt__(self, other: object) -> Symbol:
        return self.tracer.apply("gt", self, other)

    def __lt__(self, other: object) -> Symbol:
        return self.tracer.apply("gt", other, self)

    def __ge__(self, other: object) -> Symbol:
        return self.tracer.apply("ge", self, other)

    def __le__(self, other: object) -> Symbol:
        return self.tracer.apply("ge", other, self)

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> NoReturn:
        self.tracer.fail("compares symbols with == or !=; use where(a > b, x, y)")

    __ne__ = __eq__

    def __bool__(self) -> NoReturn:
        self.tracer.fail(
            "branches on a symbol (if, while, and, or, not, min, max); the text is run once for all values: "
            "use where(a > b, x, y), maximum or minimum"
        )

    def _no_value(self, *_: object) -> NoReturn:
        self.tracer.fail(
            "uses a symbol as a plain value (a function of math or numpy, float(), iteration, indexing); "
            "use the functions of rnn_gpu.compiler.language"
        )

    __float__ = __int__ = __index__ = __complex__ = __iter__ = __getitem__ = __len__ = __matmul__ = _no_value
    __rmatmul__ = __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = __rpow__ = _no_value

    def __array_ufunc__(self, *_: object, **__: object) -> NoReturn:
        self._no_value()

    def __repr__(self) -> str:
        return self.tracer.graph.names.get(self.node, repr(self.node))


class _Leaves:
    """`Wx.i`, `v.p_i`: symbols by name."""

    def __init__(self, tracer: _Tracer, op: str, labels: tuple[str, ...]) -> None:
        self._tracer, self._op, self._labels = tracer, op, labels

    def __getattr__(self, label: str) -> Symbol:
        self._check(label)
        return Symbol(self._tracer, self._tracer.graph.leaf(self._op, label))

    def _check(self, label: str) -> None:
        kind = "vector" if self._op == "vector" else "gate"
        if label not in self._labels:
            self._tracer.fail(f"no {kind} is called {label!r}; declared are {', '.join(self._labels)}")


class _Inputs(_Leaves):
    def __init__(self, tracer: _Tracer, gates: tuple[str, ...]) -> None:
        super().__init__(tracer, "input", gates)


class _Products(_Leaves):
    """`U.i(operand)`: the recurrent products."""

    def __init__(self, tracer: _Tracer, gates: tuple[str, ...]) -> None:
        super().__init__(tracer, "recurrent", gates)
        self._operands: dict[str, Node] = {}

    def __getattr__(self, label: str) -> Callable[[object], Symbol]:  # type: ignore[override]
        self._check(label)

        def product(operand: object) -> Symbol:
            if not isinstance(operand, Symbol):
                self._tracer.fail(f"U.{label}: expected a symbol as its operand, got {operand!r}")
            node = self._tracer.node(operand)
            if self._operands.setdefault(label, node) is not node:
                self._tracer.fail(
                    f"U.{label} is applied to two operands; a gate has one recurrent matrix and one operand: "
                    "declare another gate"
                )
            self._tracer.learn_names()
            result = self._tracer.graph.product("recurrent", label, (node,))
            self._tracer.graph.name(result, f"U_{label}")
            return Symbol(self._tracer, result)

        return product


def _apply(op: str, *values: object) -> Symbol:
    for value in values:
        if isinstance(value, Symbol):
            return value.tracer.apply(op, *values)
    raise CellError(f"{op}: expected a symbol of a cell that is being traced, got {', '.join(map(repr, values))}")


def sigmoid(x: object) -> Symbol:
    """1 / (1 + exp(-x))"""
    return _apply("sigmoid", x)


def tanh(x: object) -> Symbol:
    """Hyperbolic tangent."""
    return _apply("tanh", x)


def relu(x: object) -> Symbol:
    """max(x, 0); its derivative at 0 is 0."""
    return _apply("relu", x)


def softplus(x: object) -> Symbol:
    """log(1 + exp(x)), without overflow."""
    return _apply("softplus", x)


def exp(x: object) -> Symbol:
    """e to the power x."""
    return _apply("exp", x)


def log(x: object) -> Symbol:
    """Natural logarithm."""
    return _apply("log", x)


def sqrt(x: object) -> Symbol:
    """Square root."""
    return _apply("sqrt", x)


def sin(x: object) -> Symbol:
    """Sine of x in radians."""
    return _apply("sin", x)


def cos(x: object) -> Symbol:
    """Cosine of x in radians."""
    return _apply("cos", x)


def sign(x: object) -> Symbol:
    """-1, 0 or 1; its derivative is 0 everywhere."""
    return _apply("sign", x)


def maximum(a: object, b: object) -> Symbol:
    """The larger one; NaN where either is NaN. At a tie, the gradient goes to `a`."""
    return _apply("maximum", a, b)


def minimum(a: object, b: object) -> Symbol:
    """The smaller one; NaN where either is NaN. At a tie, the gradient goes to `a`."""
    return _apply("minimum", a, b)


def clip(x: object, low: object, high: object) -> Symbol:
    """x, but at least `low` and at most `high`."""
    return _apply("minimum", _apply("maximum", x, low), high)


def where(condition: object, a: object, b: object) -> Symbol:
    """`a` where `condition` (a comparison such as h > 0) holds, `b` elsewhere. The gradient goes to the one taken."""
    return _apply("where", condition, a, b)
