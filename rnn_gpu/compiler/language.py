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

import dis
import inspect
import math
import sys
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from numbers import Real
from types import FrameType, FunctionType
from typing import Any, NoReturn

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

    def decorate(function: Callable[..., object]) -> Cell:
        if not isinstance(function, FunctionType):
            raise CellError(f"cell: expected a plain function, got {type(function).__name__}")
        tracer = _Tracer(function)
        ranges = tracer.ranges(vectors)
        traced = tracer.trace(tracer.labels("gates", gates), tracer.labels("states", states), tuple(ranges))
        if forget is not None and forget not in traced.gates:
            tracer.fail(f"forget: expected one of the gates {', '.join(traced.gates)}, got {forget!r}")
        return Cell(function.__name__, inspect.getdoc(function) or "", traced, forget, ranges, function)

    return decorate


class _Tracer:
    """Runs a cell's function once on symbols, and knows where in its text it is."""

    def __init__(self, function: FunctionType) -> None:
        self.function = function
        self.graph = Graph()
        self.fixed_names: set[str] = set()
        """Names that emitted source gives to what is not a node yet: no local variable may take one."""

    def labels(self, kind: str, given: Any) -> tuple[str, ...]:
        """The names declared as `kind`, a valid name each."""
        if not isinstance(given, Iterable):
            self.fail(f"{kind}: expected names, got {given!r}")
        labels = tuple(given)
        hint = f"; one name of several letters is ({given!r},)" if isinstance(given, str) and len(given) > 1 else ""
        for label in labels:
            if not isinstance(label, str) or not _is_name(label) or label.startswith("_"):
                self.fail(f"{kind}: expected names such as 'f' or 'forget', got {label!r}{hint}")
            if label in ops.RESERVED:
                self.fail(f"{kind}: expected another name than the reserved word {label!r}")
        if len(set(labels)) != len(labels):
            self.fail(f"{kind}: expected each name once, got {', '.join(labels)}{hint}")
        if not labels and kind != "vectors":
            self.fail(f"{kind}: expected at least one, got none")
        return labels

    def ranges(self, vectors: Any) -> dict[str, tuple[float, float] | None]:
        """The vectors and the range of each."""
        names = self.labels("vectors", vectors)
        if not isinstance(vectors, Mapping):
            return dict.fromkeys(names)
        for name, limits in vectors.items():
            is_pair = isinstance(limits, tuple | list) and len(limits) == 2
            if not is_pair or not all(map(_is_number, limits)) or limits[0] > limits[1]:
                self.fail(f"vectors: expected a range (low, high) for {name!r}, got {limits!r}")
        return {name: (float(low), float(high)) for name, (low, high) in vectors.items()}

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
        outputs = self._outputs(self._run(arguments), states)
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
        name = self.function.__name__
        if not _is_name(name) or name in ops.RESERVED:
            self.fail("expected a function with a name in ASCII that is no reserved word, as in def my_cell(...)")
        if shared := set(states) & set(vectors):
            self.fail(f"vectors: expected names that are not states, got {', '.join(sorted(shared))}")
        self.fixed_names = {f"{kind}_{gate}" for kind in ("Wx", "U") for gate in gates} | {f"d{s}_out" for s in states}
        for kind, labels in (("states", states), ("vectors", vectors)):
            if taken := self.fixed_names.intersection(labels):
                self.fail(f"{kind}: expected other names than {', '.join(sorted(taken))}, which emitted source uses")
        parameters = [
            p.name
            for p in inspect.signature(self.function).parameters.values()
            if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
        ]
        expected = ["Wx", "U", *states] + (["v"] if vectors else [])
        if parameters != expected:
            self.fail(f"expected the arguments ({', '.join(expected)}), got ({', '.join(parameters)})")

    def _run(self, arguments: list[object]) -> object:
        """Run the text once. Whatever Python says against it, such as a misspelt name, becomes a CellError."""
        token = _tracing.set(self)
        try:
            return self.function(*arguments)
        except CellError:
            raise
        except Exception as error:
            line, traceback = None, error.__traceback__
            while traceback is not None:
                line = traceback.tb_lineno if traceback.tb_frame.f_code is self.function.__code__ else line
                traceback = traceback.tb_next
            raise self.error(f"{type(error).__name__}: {error}", line) from error
        finally:
            _tracing.reset(token)

    def _outputs(self, returned: object, states: tuple[str, ...]) -> tuple[Node, ...]:
        values = returned if isinstance(returned, tuple) else (returned,)
        line = self._return_line()
        if len(values) != len(states):
            got = f"{len(values)} values" if isinstance(returned, tuple) else repr(returned)
            raise self.error(f"expected the new states ({', '.join(states)}) returned, got {got}", line)
        for state, value in zip(states, values, strict=True):
            if not isinstance(value, Symbol):
                raise self.error(f"expected a symbol for the new state {state!r}, got {value!r}", line)
            if value.tracer is not self:
                raise self.error(
                    f"expected a symbol of this cell for the new state {state!r}, got one of another", line
                )
            if _is_comparison(value):
                message = f"expected a number for the new state {state!r}, got a comparison; use where(condition, a, b)"
                raise self.error(message, line)
        return tuple(value.node for value in values)

    def node(self, value: object) -> Node:
        """The node of an argument of an operation."""
        if isinstance(value, Symbol):
            if value.tracer is not self:
                self.fail("uses a symbol of another cell; each cell's text must be complete in itself")
            return value.node
        if _is_number(value):
            return self.graph.constant(float(value))  # type: ignore[arg-type]
        if isinstance(value, _Product):
            self.fail(f"{value!r} without its operand, which is written {value!r}(h)")
        self.fail(f"expected a symbol or a finite number, got {type(value).__name__} {value!r}")

    def apply(self, op: str, *values: object) -> Symbol:
        running = _tracing.get()
        if running is not self:
            (running or self).fail("a symbol is used outside of its own cell's text")
        if op == "where" and not _is_comparison(values[0]):
            self.fail(f"where: expected a comparison such as h > 0 as its first argument, got {values[0]!r}")
        if any(map(_is_comparison, values[1:] if op == "where" else values)):
            self.fail(
                f"{_written(op)}: a comparison such as h > 0 can only be the first argument of where(condition, a, b)"
            )
        nodes = tuple(map(self.node, values))
        if all(node.op == "constant" for node in nodes):
            self.fail(f"{_written(op)}: expected a symbol, got only numbers; compute constants with Python's math")
        self.learn_names()
        return Symbol(self, self.graph.apply(op, *nodes))

    def learn_names(self) -> None:
        """Name the nodes that the function's local variables hold, so that emitted source uses the author's names."""
        frame = self._frame()
        if frame is not None:
            for name, value in frame.f_locals.items():
                if (
                    isinstance(value, Symbol)
                    and value.tracer is self
                    and _is_name(name)
                    and name not in self.fixed_names
                ):
                    self.graph.name(value.node, name)

    def _frame(self) -> FrameType | None:
        """The frame of the cell's function, if it is running."""
        frame: FrameType | None = sys._getframe(1)
        while frame is not None and frame.f_code is not self.function.__code__:
            frame = frame.f_back
        return frame

    def _return_line(self) -> int | None:
        """The line of the text's return statement, if it has only one."""
        instructions = dis.get_instructions(self.function)
        lines = {
            i.positions and i.positions.lineno for i in instructions if i.opname in ("RETURN_VALUE", "RETURN_CONST")
        }
        return lines.pop() if len(lines) == 1 else None

    def error(self, message: str, line: int | None) -> CellError:
        """The error that names the cell and the line, by default that of the decorator."""
        code = self.function.__code__
        place = f"{code.co_filename}:{line or code.co_firstlineno}"
        return CellError(f"cell {self.function.__name__!r} ({place}): {message}")

    def fail(self, message: str) -> NoReturn:
        frame = self._frame()
        raise self.error(message, frame.f_lineno if frame is not None else None)


_tracing: ContextVar[_Tracer | None] = ContextVar("tracing", default=None)
"""Whose text is running."""


def _is_name(text: str) -> bool:
    """Whether Python and C++ alike take it as a name."""
    return text.isidentifier() and text.isascii()


def _is_number(value: object) -> bool:
    try:
        return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:
        return False


def _is_comparison(value: object) -> bool:
    return isinstance(value, Symbol) and value.node.op in ops.COMPARISONS


def _written(op: str) -> str:
    """An operation as the author wrote it: `tanh`, or the sign of an infix operation."""
    return ops.TABLE[op].text.replace("{}", "").strip() if ops.TABLE[op].precedence < ops.ATOM else op


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
        if _is_number(power):
            match power:
                case 2:
                    return self * self
                case 3:
                    return self * self * self
                case 0.5:
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
            "branches on a symbol (if, while, and, or, not, a < b < c, min, max); the text is run once for all values: "
            "use where(a > b, x, y), maximum or minimum"
        )

    def _no_value(self, *_: object) -> NoReturn:
        self.tracer.fail(
            "uses a symbol as a plain value (a function of math or numpy, float(), iteration, indexing); "
            "use the functions of rnn_gpu.compiler.language"
        )

    def _no_operation(self, *_: object) -> NoReturn:
        self.tracer.fail(
            "uses an operation other than + - * / **; use those and the functions of rnn_gpu.compiler.language "
            "(2 ** x is exp(math.log(2) * x), and U.g(x) the only product of matrices)"
        )

    def _no_logic(self, *_: object) -> NoReturn:
        self.tracer.fail("combines comparisons with & | ^ ~; write where(a > b, where(c > d, x, y), y)")

    __float__ = __int__ = __index__ = __complex__ = __iter__ = __len__ = __array__ = __array_function__ = _no_value
    __getitem__ = __setitem__ = __delitem__ = _no_value
    __matmul__ = __rmatmul__ = __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = __rpow__ = _no_operation
    __divmod__ = __rdivmod__ = __lshift__ = __rlshift__ = __rshift__ = __rrshift__ = __round__ = _no_operation
    __and__ = __rand__ = __or__ = __ror__ = __xor__ = __rxor__ = __invert__ = _no_logic

    def __array_ufunc__(self, function: Any, method: str, *values: object, **_: object) -> Symbol:
        # A number of NumPy's on the left of an operator comes here.
        operators = {"add": "add", "subtract": "sub", "multiply": "mul", "divide": "div"}
        if method != "__call__" or function.__name__ not in operators:
            self._no_value()
        return self.tracer.apply(operators[function.__name__], *values)

    def __repr__(self) -> str:
        return self.tracer.graph.names.get(self.node, "a comparison" if _is_comparison(self) else repr(self.node))


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

    def __getattr__(self, label: str) -> _Product:  # type: ignore[override]
        self._check(label)
        return _Product(self._tracer, label, self._operands)


class _Product:
    """`U.i`: gate i's recurrent product, to be given its operand."""

    def __init__(self, tracer: _Tracer, label: str, operands: dict[str, Node]) -> None:
        self._tracer, self._label, self._operands = tracer, label, operands

    def __call__(self, *operands: object) -> Symbol:
        tracer, label = self._tracer, self._label
        if len(operands) != 1 or not isinstance(operands[0], Symbol) or _is_comparison(operands[0]):
            tracer.fail(f"{self!r}: expected one symbol as its operand, got {', '.join(map(repr, operands)) or 'none'}")
        node = tracer.node(operands[0])
        if self._operands.setdefault(label, node) is not node:
            tracer.fail(
                f"{self!r} is applied to two operands; a gate has one recurrent matrix and one operand: "
                "declare another gate"
            )
        tracer.learn_names()
        result = tracer.graph.product("recurrent", label, (node,))
        tracer.graph.name(result, f"U_{label}")
        return Symbol(tracer, result)

    def __repr__(self) -> str:
        return f"U.{self._label}"


def _apply(op: str, *values: object) -> Symbol:
    tracer = _tracing.get()
    if tracer is None:
        raise CellError(f"{op}: expected to be called in the text of a cell, on its symbols")
    return tracer.apply(op, *values)


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
