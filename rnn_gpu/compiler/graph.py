"""The graph of one cell: nodes for `Wx.g`, `U.g(operand)`, states, vectors, constants and elementwise operations.

One graph holds the forward computation and, once `autodiff.derive` has run, the backward one: a backward node
is a node like any other, so that equal subexpressions are shared across both.
"""

from __future__ import annotations

import itertools
from collections.abc import Container, Iterable
from dataclasses import dataclass, field
from functools import cached_property

from rnn_gpu.compiler import ops

__all__ = ["Graph", "Node", "Stage", "Traced", "free_name", "topological"]


@dataclass(frozen=True, eq=False)
class Node:
    """One value per batch row and hidden unit.

    op: an operation of `ops.TABLE`, or one of the leaves and products
        constant    a number, `value`
        state       state `label` before the step
        vector      per-unit vector `label`
        input       gate `label`'s block of W x_t + b_ih
        recurrent   gate `label`'s block of U operand + b_hh; args = (operand,)
        gradient    the loss's gradient with respect to the new state `label`
        transposed  the sum over a stage's gates of dU_g @ U_g; args = (dU_g, ...), `label` the stage's name
    """

    op: str
    args: tuple[Node, ...] = ()
    label: str = ""
    value: float = 0.0
    number: int = 0
    """Position in the order in which the graph's nodes were made: arguments come before their users."""

    def __repr__(self) -> str:
        return self._text(depth=3)

    def _text(self, depth: int) -> str:
        """The expression, cut off at some depth: written out, shared parts would grow it exponentially."""
        if self.args and depth == 0:
            return f"{self.op}(...)"
        inside = ", ".join(argument._text(depth - 1) for argument in self.args) or self.label or repr(self.value)
        return f"{self.op}({inside})"


@dataclass
class Graph:
    """Makes nodes, sharing equal ones, and keeps the names that the emitted source gives them."""

    nodes: dict[tuple[object, ...], Node] = field(default_factory=dict)
    names: dict[Node, str] = field(default_factory=dict)

    def leaf(self, op: str, label: str) -> Node:
        return self._intern(op, label=label)

    def constant(self, value: float) -> Node:
        return self._intern("constant", value=float(value))

    def product(self, op: str, label: str, args: tuple[Node, ...]) -> Node:
        return self._intern(op, args, label)

    def apply(self, op: str, *args: Node) -> Node:
        """Return the node `op(*args)`, after simplifications that leave every bit of the result as it is."""
        negated = [a.args[0] if a.op == "neg" else None for a in args]
        match op, args:
            case "mul", (a, b) if b.op == "constant" and b.value == 1.0:
                return a
            case "mul", (a, b) if a.op == "constant" and a.value == 1.0:
                return b
            case "neg", _ if negated[0]:
                return negated[0]
            case "add", (a, _) if negated[1]:
                return self.apply("sub", a, negated[1])
            case "add", (_, b) if negated[0]:
                return self.apply("sub", b, negated[0])
            case "sub", (a, _) if negated[1]:
                return self.apply("add", a, negated[1])
            case "mul" | "div", (a, _) if negated[1]:
                return self.apply("neg", self.apply(op, a, negated[1]))
            case "mul" | "div", (_, b) if negated[0]:
                return self.apply("neg", self.apply(op, negated[0], b))
        return self._intern(op, args)

    def name(self, node: Node, wanted: str) -> None:
        """Give `node` the name `wanted`, or the first free variation of it, unless it has a name already."""
        if node in self.names:
            return
        wanted = f"{wanted}_" if wanted in ops.RESERVED else wanted
        self.names[node] = free_name(wanted, set(self.names.values()))

    def _intern(self, op: str, args: tuple[Node, ...] = (), label: str = "", value: float = 0.0) -> Node:
        # `repr` tells -0.0 from 0.0.
        key = (op, args, label, repr(value))
        if key not in self.nodes:
            self.nodes[key] = Node(op, args, label, value, number=len(self.nodes))
        return self.nodes[key]


@dataclass(frozen=True)
class Stage:
    """The recurrent products that share one operand: nothing of the next stage can start before they are done.

    name: of the gates together, unique in the cell.
    """

    name: str
    gates: tuple[str, ...]
    operand: Node


@dataclass(frozen=True)
class Traced:
    """What tracing a cell's text gives: the forward graph and what its leaves and outputs are called."""

    graph: Graph
    gates: tuple[str, ...]
    states: tuple[str, ...]
    vectors: tuple[str, ...]
    outputs: tuple[Node, ...]

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        """Every node that the outputs depend on, arguments first."""
        return topological(self.outputs)

    def leaves(self, op: str) -> dict[str, Node]:
        """The leaves or recurrent products of one kind that the outputs depend on, by label, as declared."""
        order = {"state": self.states, "vector": self.vectors}.get(op, self.gates)
        found = {node.label: node for node in self.nodes if node.op == op}
        return {label: found[label] for label in order if label in found}

    @cached_property
    def stages(self) -> tuple[Stage, ...]:
        """The stages in the order in which they can be computed."""
        by_operand: dict[Node, list[str]] = {}
        for gate, node in self.leaves("recurrent").items():
            by_operand.setdefault(node.args[0], []).append(gate)
        between = "_" if any(len(gate) > 1 for gate in self.gates) else ""
        stages: dict[str, Stage] = {}
        for node in self.nodes:
            if gates := by_operand.get(node):
                name = free_name(between.join(gates), stages)
                stages[name] = Stage(name, tuple(gates), node)
        return tuple(stages.values())


def free_name(wanted: str, taken: Container[str]) -> str:
    """`wanted`, or where that is taken `wanted_2`, `wanted_3` ..."""
    names = itertools.chain([wanted], (f"{wanted}_{count}" for count in itertools.count(2)))
    return next(name for name in names if name not in taken)


def topological(roots: Iterable[Node], stop: Container[Node] = ()) -> tuple[Node, ...]:
    """Return every node that `roots` depend on in the order in which they were made; do not look behind `stop`."""
    found: set[Node] = set()
    stack = list(roots)
    while stack:
        node = stack.pop()
        if node not in found:
            found.add(node)
            stack.extend(() if node in stop else node.args)
    return tuple(sorted(found, key=lambda node: node.number))
