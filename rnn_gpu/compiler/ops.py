"""The elementwise operations a cell may use: for each, how it is written and how it is differentiated.

This table is the only place that knows an operation. The functions it names (`tanh`, `where` ...) are supplied by
each backend: as NumPy functions, as Numba device functions, as `__device__` templates.
"""

from __future__ import annotations

import keyword
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rnn_gpu.compiler.graph import Graph, Node

__all__ = ["COMPARISONS", "RESERVED", "TABLE", "Op"]

ATOM, UNARY, PRODUCT, SUM, COMPARISON = 4, 3, 2, 1, 0
"""Precedence of written text, the tightest first."""

Adjoint = Callable[["Calculus", "Node", tuple["Node", ...], "Node"], tuple["Node | None", ...]]


@dataclass(frozen=True)
class Op:
    """One elementwise operation.

    text: how it is written in Python and C++ alike, `{}` for each argument.
    cuda: how it is written in C++ where that differs.
    precedence: of the text. Arguments of an infix operation are put in brackets where they bind less tightly.
    cheap: recomputing the result costs less than storing it and reading it back.
    adjoint: (calculus, gradient, args, result) -> one gradient an argument, None for no gradient at all. Written
        in terms of the result where that is cheaper.
    """

    text: str
    adjoint: Adjoint
    precedence: int = ATOM
    cheap: bool = False
    cuda: str = ""

    @property
    def arity(self) -> int:
        return self.text.count("{}")


class Calculus:
    """Graph nodes with the operators of arithmetic, for the derivative rules below."""

    def __init__(self, graph: Graph) -> None:
        self.apply = graph.apply
        self.constant = graph.constant

    def add(self, a: Node, b: Node) -> Node:
        return self.apply("add", a, b)

    def sub(self, a: Node, b: Node) -> Node:
        return self.apply("sub", a, b)

    def mul(self, a: Node, b: Node) -> Node:
        return self.apply("mul", a, b)

    def div(self, a: Node, b: Node) -> Node:
        return self.apply("div", a, b)

    def neg(self, a: Node) -> Node:
        return self.apply("neg", a)

    def where(self, condition: Node, a: Node, b: Node) -> Node:
        return self.apply("where", condition, a, b)

    @property
    def zero(self) -> Node:
        return self.constant(0.0)

    @property
    def one(self) -> Node:
        return self.constant(1.0)


def _call(name: str, adjoint: Adjoint, *, arity: int = 1, cheap: bool = False) -> Op:
    return Op(f"{name}({', '.join(['{}'] * arity)})", adjoint, cheap=cheap)


def _no_gradient(k: Calculus, d: Node, args: tuple[Node, ...], y: Node) -> tuple[None, ...]:
    return (None,) * len(args)


# In each rule: k the calculus, d the gradient of the result, the arguments, y the result.
TABLE: dict[str, Op] = {
    "add": Op("{} + {}", lambda k, d, args, y: (d, d), SUM, cheap=True),
    "sub": Op("{} - {}", lambda k, d, args, y: (d, k.neg(d)), SUM, cheap=True),
    "mul": Op("{} * {}", lambda k, d, args, y: (k.mul(d, args[1]), k.mul(d, args[0])), PRODUCT, cheap=True),
    "div": Op("{} / {}", lambda k, d, args, y: (q := k.div(d, args[1]), k.neg(k.mul(q, y))), PRODUCT),
    "neg": Op("-{}", lambda k, d, args, y: (k.neg(d),), UNARY, cheap=True),
    "exp": _call("exp", lambda k, d, args, y: (k.mul(d, y),)),
    "log": _call("log", lambda k, d, args, y: (k.div(d, args[0]),)),
    "sqrt": _call("sqrt", lambda k, d, args, y: (k.div(k.mul(d, k.constant(0.5)), y),)),
    "sin": _call("sin", lambda k, d, args, y: (k.mul(d, k.apply("cos", args[0])),)),
    "cos": _call("cos", lambda k, d, args, y: (k.neg(k.mul(d, k.apply("sin", args[0]))),)),
    "tanh": _call("tanh", lambda k, d, args, y: (k.mul(d, k.sub(k.one, k.mul(y, y))),)),
    "sigmoid": _call("sigmoid", lambda k, d, args, y: (k.mul(k.mul(d, y), k.sub(k.one, y)),)),
    "softplus": _call("softplus", lambda k, d, args, y: (k.mul(d, k.apply("sigmoid", args[0])),)),
    # Where y is NaN the gradient goes through: NaN is not hidden.
    "relu": _call("relu", lambda k, d, args, y: (k.where(k.apply("ge", k.zero, y), k.zero, d),), cheap=True),
    "abs": Op("abs({})", lambda k, d, args, y: (k.mul(d, k.apply("sign", args[0])),), cheap=True),
    "sign": _call("sign", _no_gradient, cheap=True),
    # At a tie the first argument takes the whole gradient.
    "maximum": _call(
        "maximum",
        lambda k, d, args, y: (
            k.where(c := k.apply("ge", args[0], args[1]), d, k.zero),
            k.where(c, k.zero, d),
        ),
        arity=2,
        cheap=True,
    ),
    "minimum": _call(
        "minimum",
        lambda k, d, args, y: (
            k.where(c := k.apply("ge", args[1], args[0]), d, k.zero),
            k.where(c, k.zero, d),
        ),
        arity=2,
        cheap=True,
    ),
    "gt": Op("{} > {}", _no_gradient, COMPARISON, cheap=True),
    "ge": Op("{} >= {}", _no_gradient, COMPARISON, cheap=True),
    "where": Op(
        "where({}, {}, {})",
        lambda k, d, args, y: (None, k.where(args[0], d, k.zero), k.where(args[0], k.zero, d)),
        cheap=True,
        cuda="({} ? {} : {})",
    ),
}

_CPP_WORDS = """
    alignas alignof and_eq asm auto bitand bitor bool case catch char char8_t char16_t char32_t co_await co_return
    co_yield compl concept const consteval constexpr constinit const_cast decltype default delete do double dynamic_cast
    enum explicit export extern false float friend goto inline int long mutable namespace new noexcept not_eq nullptr
    operator or_eq private protected public register reinterpret_cast requires short signed sizeof static static_assert
    static_cast struct switch template this thread_local throw true try typedef typeid typename union unsigned using
    virtual void volatile wchar_t xor xor_eq
    EOF HUGE_VAL INFINITY NAN NULL
""".split()

_EMITTED_WORDS = """
    real where T unit segment input recurrent state vector saved carried operand forward backward Forward Backward
    stage_of backward_stage same_gradients n_input n_recurrent n_state n_vector n_saved n_stages n_backward_stages
    n_forward_carried n_backward_carried
""".split()

COMPARISONS: frozenset[str] = frozenset(name for name, op in TABLE.items() if op.precedence == COMPARISON)
"""The operations whose result is no number: it is neither saved nor handed on, but compared again where it is read."""

RESERVED: frozenset[str] = frozenset([*keyword.kwlist, *_CPP_WORDS, *TABLE, *_EMITTED_WORDS])
"""Words that a cell, gate, state, vector or emitted variable may not be called."""
