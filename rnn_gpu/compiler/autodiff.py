"""Reverse-mode differentiation of a cell's graph, and the choice of what the forward pass must keep for it.

The adjoint of a stage's products `U_g operand` is the transposed product `sum_g dU_g U_g`, so the backward graph has
the same stages in reverse. See Griewank & Walther, Evaluating Derivatives (2008), chapter 3.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from rnn_gpu.compiler import ops
from rnn_gpu.compiler.graph import Node, Stage, Traced, topological

__all__ = ["Derived", "derive"]


@dataclass(frozen=True)
class Derived:
    """The backward graph of a cell. Gradients that are identically zero are absent.

    d_input, d_recurrent, d_vectors, d_states: nodes of the gradients, by gate, gate, vector and state.
    transposed: for each stage that a gradient reaches, the transposed product that gives its operand's gradient.
    saved: forward nodes that the backward graph reads and that are neither states nor cheap to recompute.
    """

    d_input: dict[str, Node]
    d_recurrent: dict[str, Node]
    d_vectors: dict[str, Node]
    d_states: dict[str, Node]
    transposed: dict[Stage, Node]
    saved: tuple[Node, ...]


def derive(traced: Traced) -> Derived:
    """Differentiate the cell; add the backward nodes to its graph, and names for them."""
    graph = traced.graph
    calculus = ops.Calculus(graph)
    adjoints: dict[Node, Node] = {}

    def accumulate(node: Node, gradient: Node | None) -> None:
        if gradient is not None and node.op != "constant":
            adjoints[node] = graph.apply("add", adjoints[node], gradient) if node in adjoints else gradient

    for state, output in zip(traced.states, traced.outputs, strict=True):
        leaf = graph.leaf("gradient", state)
        graph.name(leaf, f"d{state}_out")
        accumulate(output, leaf)

    stages = {stage.operand: stage for stage in traced.stages}
    transposed: dict[Stage, Node] = {}
    for node in reversed(traced.nodes):
        if stage := stages.get(node):
            # All of the stage's products use `node`, so all have been passed and their gradients are complete.
            gradients = tuple(
                adjoints.get(product, calculus.zero)
                for gate, product in traced.leaves("recurrent").items()
                if gate in stage.gates
            )
            if any(gradient.op != "constant" for gradient in gradients):
                transposed[stage] = graph.product("transposed", stage.name, gradients)
                accumulate(node, transposed[stage])
        if node in adjoints and node.op in ops.TABLE:
            gradient = adjoints[node]
            for argument, contribution in zip(
                node.args, ops.TABLE[node.op].adjoint(calculus, gradient, node.args, node), strict=True
            ):
                accumulate(argument, contribution)

    def reached(op: str) -> dict[str, Node]:
        return {label: adjoints[node] for label, node in traced.leaves(op).items() if node in adjoints}

    derived = Derived(reached("input"), reached("recurrent"), reached("vector"), reached("state"), transposed, ())
    _name(traced, derived, adjoints)
    roots = (
        *derived.d_input.values(),
        *derived.d_recurrent.values(),
        *derived.d_vectors.values(),
        *derived.d_states.values(),
    )
    return replace(derived, saved=_saved_set(traced, roots))


def _name(traced: Traced, derived: Derived, adjoints: dict[Node, Node]) -> None:
    names = traced.graph.name
    for kind, gradients in (
        ("dU_", derived.d_recurrent),
        ("dWx_", derived.d_input),
        ("d", derived.d_states),
        ("d", derived.d_vectors),
    ):
        for label, node in gradients.items():
            if node.op != "transposed":
                names(node, kind + label)
    for stage, node in derived.transposed.items():
        names(node, f"dU_{stage.name}_operand")
    for node, gradient in adjoints.items():
        if name := traced.graph.names.get(node):
            names(gradient, f"d{name}")


def _saved_set(traced: Traced, gradients: tuple[Node, ...]) -> tuple[Node, ...]:
    """The forward values to keep: what the gradients and the operands of dU read, less what is free or cheap."""
    backward: set[Node] = set()
    read: dict[Node, None] = {stage.operand: None for stage in traced.stages}
    for node in topological(gradients):
        if node.op in ("gradient", "transposed") or any(argument in backward for argument in node.args):
            backward.add(node)
            read |= {argument: None for argument in node.args if argument not in backward}

    forward = traced.nodes
    free = set(traced.outputs) | {node for node in forward if node.op in ("state", "vector", "constant")}
    wanted: set[Node] = set()
    stack = list(read)
    while stack:
        node = stack.pop()
        if node.op == "constant" or node in free or node in wanted:
            continue
        if node in forward and node.op not in ops.COMPARISONS:
            wanted.add(node)
        else:  # made up by a derivative rule, such as 1 - i: recomputed from its arguments
            stack.extend(node.args)

    at_hand = set(free)
    saved: dict[Node, None] = {}
    for node in forward:
        if node.op in ops.COMPARISONS and at_hand.issuperset(node.args):
            at_hand.add(node)
        if node in wanted:
            cheap = node.op in ops.TABLE and ops.TABLE[node.op].cheap and at_hand.issuperset(node.args)
            at_hand.add(node)
            if not cheap:
                saved[node] = None
    return tuple(saved)
