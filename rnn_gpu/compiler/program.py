"""A cell's computation cut into straight-line functions: what runs before, between and after the recurrent products.

    forward:   f_0, product of stage 0, f_1, product of stage 1, ..., f_S
    backward:  b_0, transposed product of stage S-1, b_1, ..., transposed product of stage 0, b_S

A driver runs them in this order; both emitters write them out. A value that one function computes and a later one
reads is an output of the first and an input of the second.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from rnn_gpu.compiler import ops
from rnn_gpu.compiler.autodiff import Derived, derive
from rnn_gpu.compiler.graph import Graph, Node, Stage, Traced, topological

__all__ = ["Function", "Program", "build"]


@dataclass(frozen=True)
class Function:
    """One straight-line elementwise function.

    inputs: nodes it reads; steps: nodes it computes, arguments first; outputs: those of `steps` that others read.
    """

    name: str
    inputs: tuple[Node, ...]
    steps: tuple[Node, ...]
    outputs: tuple[Node, ...]


@dataclass(frozen=True)
class Program:
    """All that a driver needs to know of a cell.

    forward, backward: S + 1 functions each, S the number of stages; a function without steps does nothing.
    operands: computes, from states and saved values, the operands that dU needs and that are neither.
    """

    traced: Traced
    derived: Derived
    forward: tuple[Function, ...]
    backward: tuple[Function, ...]
    operands: Function

    @property
    def stages(self) -> tuple[Stage, ...]:
        return self.traced.stages

    @cached_property
    def backward_stages(self) -> tuple[Stage, ...]:
        """The stages that a gradient reaches, in the order in which backward does their transposed products."""
        return tuple(stage for stage in reversed(self.stages) if stage in self.derived.transposed)

    @cached_property
    def shares_gradient(self) -> bool:
        """Whether the gradients of the input products are those of the recurrent ones, in the order of the stages.

        So it is where every gate has both products, and their sum is all that the cell reads.
        """
        gates = [gate for stage in self.stages for gate in stage.gates]
        return gates == list(self.traced.leaves("input")) and all(
            self.derived.d_input.get(gate) is self.derived.d_recurrent.get(gate) for gate in gates
        )

    @cached_property
    def functions(self) -> tuple[Function, ...]:
        """The functions that have something to compute, in the order in which they run."""
        return tuple(f for f in (*self.forward, *self.backward, self.operands) if f.steps)

    @cached_property
    def same_gradients(self) -> bool:
        """Whether the gradients of all products with U, stage by stage, are those of all products with W, in order."""
        zero = self.traced.graph.constant(0.0)
        d_recurrent = [self.derived.d_recurrent.get(gate, zero) for stage in self.stages for gate in stage.gates]
        return d_recurrent == [self.derived.d_input.get(gate, zero) for gate in self.traced.leaves("input")]

    def stage_of(self, gate: str) -> int:
        """The index of the stage whose product gives a gate's block."""
        return next(index for index, stage in enumerate(self.stages) if gate in stage.gates)

    def name(self, node: Node) -> str:
        """The name of a node that functions hand to one another."""
        return self.traced.graph.names[node]


def build(cell_name: str, traced: Traced) -> Program:
    """Differentiate the traced cell and cut both directions at the products."""
    derived = derive(traced)
    stages = traced.stages
    at_hand = {n for n in traced.nodes if n.op in ("state", "vector", "input", "constant")}

    after_stage = {
        product: index + 1
        for index, stage in enumerate(stages)
        for gate, product in traced.leaves("recurrent").items()
        if gate in stage.gates
    }
    forward = _cut(
        [f"{cell_name}_operand_{stage.name}" for stage in stages] + [f"{cell_name}_forward"],
        targets=(*(stage.operand for stage in stages), *traced.outputs, *derived.saved),
        leaves=dict.fromkeys(at_hand, 0) | after_stage,
    )

    kept = {*derived.saved, *traced.outputs, *at_hand}
    reverse = [stage for stage in reversed(stages) if stage in derived.transposed]
    gradients = (derived.d_input, derived.d_recurrent, derived.d_vectors, derived.d_states)
    backward = _cut(
        [f"{cell_name}_backward_{stage.name}" for stage in reverse] + [f"{cell_name}_backward"],
        targets=tuple(node for group in gradients for node in group.values()),
        leaves=dict.fromkeys(kept, 0)
        | {traced.graph.leaf("gradient", state): 0 for state in traced.states}
        | {derived.transposed[stage]: index + 1 for index, stage in enumerate(reverse)},
    )
    (operands,) = _cut(
        [f"{cell_name}_operands"],
        targets=tuple(stage.operand for stage in stages),
        leaves=dict.fromkeys(kept, 0),
    )
    program = Program(traced, derived, forward, backward, operands)
    for function in program.functions:
        _name_what_is_shared(traced.graph, function)
    return program


def _cut(names: list[str], targets: tuple[Node, ...], leaves: dict[Node, int]) -> tuple[Function, ...]:
    """Spread the computation of `targets` over consecutive functions.

    leaves: the nodes that are given, and the index of the first function that can read each. A target is computed in
    the first function that can; what it needs, in the first function that reads it, or if it is a comparison, in each.
    """
    order = [node for node in topological(targets, stop=leaves) if node not in leaves and node.op != "constant"]
    users: dict[Node, list[Node]] = {}
    for node in order:
        for argument in node.args:
            users.setdefault(argument, []).append(node)

    earliest = dict(leaves)
    for node in order:
        earliest[node] = max((earliest.get(argument, 0) for argument in node.args), default=0)
    place: dict[Node, int] = {}
    for node in reversed(order):
        place[node] = earliest[node] if node in targets else min(place[user] for user in users[node])

    def belongs(node: Node, index: int) -> bool:
        readers = users[node] if node.op in ops.COMPARISONS else [node]
        return any(place[reader] == index for reader in readers)

    steps = [tuple(node for node in order if belongs(node, index)) for index in range(len(names))]
    read = [{argument for node in part for argument in node.args if argument not in part} for part in steps]
    handed_on = set(targets).union(*read)
    return tuple(
        Function(
            name,
            inputs=_sorted(node for node in read[index] if node.op != "constant"),
            steps=steps[index],
            outputs=tuple(node for node in steps[index] if node in handed_on),
        )
        for index, name in enumerate(names)
    )


_KINDS = ("gradient", "transposed", "input", "recurrent", "vector", "state")


def _sorted(nodes: Iterable[Node]) -> tuple[Node, ...]:
    """Gradients first, then gates, vectors, states, and values kept from before; within a kind as first made."""
    return tuple(sorted(nodes, key=lambda n: (_KINDS.index(n.op) if n.op in _KINDS else len(_KINDS), n.number)))


def _name_what_is_shared(graph: Graph, function: Function) -> None:
    """Name what is handed on or used more than once; the rest is written where it is used."""
    for node in function.steps:
        uses = sum(step.args.count(node) for step in function.steps)
        if uses > 1 or node in function.outputs:
            graph.name(node, _descriptive_name(graph, node))


_LONG = 32
"""Letters beyond which a name that is put together says less than the expression it stands for."""

_INFIX = {"add": "plus", "sub": "minus", "mul": "times", "div": "over"}


def _descriptive_name(graph: Graph, node: Node) -> str:
    def word(argument: Node) -> str:
        if argument.op == "constant":
            return "one" if argument.value == 1.0 else ""
        return graph.names.get(argument, "").removesuffix("_new").rstrip("_")

    words = [word(argument) for argument in node.args]
    if not all(words):
        return "value"
    name = f"_{_INFIX[node.op]}_".join(words) if node.op in _INFIX else "_".join([node.op, *words])
    return name if len(name) <= _LONG else "value"
