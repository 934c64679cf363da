"""Writes a cell as a C++ functor: a struct of static functions that a kernel's driver calls for one hidden unit.

The driver owns a `Forward<T>` or `Backward<T>` in registers and fills what a function reads. It calls `forward<0>`,
does the product of stage 0, calls `forward<1>` ... and in `backward` likewise, the stages reversed. The text holds
arithmetic only; functions such as `sigmoid(x)` are found in the scope that the struct is put in, as
`template <class T> __device__ T sigmoid(T)`.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rnn_gpu.compiler import ops
from rnn_gpu.compiler.emit_expression import number, statements
from rnn_gpu.compiler.graph import Node, topological
from rnn_gpu.compiler.program import Function, Program

__all__ = ["source"]


def source(name: str, doc: str, program: Program) -> str:
    """The struct as text."""
    traced, derived = program.traced, program.derived
    inputs, recurrents = tuple(traced.leaves("input")), tuple(traced.leaves("recurrent"))
    saved = tuple(program.name(node) for node in derived.saved)
    stages = program.stages
    reverse = program.backward_stages
    forward, backward = _forward(program), _backward(program)
    late = 0 not in forward.written("unit.saved", "unit.state_new")
    early = backward.written("unit.d_U", "unit.d_Wx") <= {0}

    enumerations = {
        "input": inputs,
        "recurrent": recurrents,
        "state": traced.states,
        "vector": traced.vectors,
        "saved": saved,
    }
    counts = {f"n_{kind}": len(labels) for kind, labels in enumerations.items()}
    counts |= {"n_stages": len(stages), "n_backward_stages": len(reverse)}
    counts |= {"n_forward_carried": len(forward.carried), "n_backward_carried": len(backward.carried)}

    def registers(name: str, members: Iterable[tuple[str, str, str]]) -> str:
        """A struct with an array of each kind; kinds that the cell has none of are left out."""
        lines = [
            f"  T {member}{'' if 'operand' in member else f'[{count}]'};  // {meaning}"
            for member, count, meaning in members
            if counts[count]
        ]
        return f"template <class T> struct {name} {{\n" + "\n".join(lines) + "\n};"

    parts = [
        *(f"struct {kind} {{ enum {{ {', '.join(labels)} }}; }};" for kind, labels in enumerations.items() if labels),
        *(f"static constexpr int {name} = {count};" for name, count in counts.items()),
        f"static constexpr bool same_gradients = {str(program.same_gradients).lower()};"
        "  // d_U, in the order of the stages, is d_Wx",
        f"static constexpr bool late_results = {str(late).lower()};"
        "  // saved and state_new are known after the first product",
        f"static constexpr bool early_gradients = {str(early).lower()};  // d_U and d_Wx are known before it",
        _table("stage_of", "gate", recurrents, [program.stage_of(gate) for gate in recurrents]),
        _table("backward_stage", "k", [s.name for s in reverse], [stages.index(stage) for stage in reverse]),
        "",
        registers(
            "Forward",
            [
                ("Wx", "n_input", "in: W x_t + b_ih"),
                ("U", "n_recurrent", "in: U operand + b_hh, a stage at a time"),
                ("state", "n_state", "in: the states before the step"),
                ("vector", "n_vector", "in"),
                ("operand", "n_stages", "out of forward<k>: what stage k multiplies"),
                ("saved", "n_saved", "out: kept for backward"),
                ("state_new", "n_state", "out: the states after the step"),
                ("carried", "n_forward_carried", "from one function to a later one"),
            ],
        ),
        "",
        registers(
            "Backward",
            [
                ("d_state_new", "n_state", "in: gradients of the states after the step"),
                ("d_operand", "n_backward_stages", "in: the transposed product of the stage just done"),
                ("state", "n_state", "in: the states before the step"),
                ("state_new", "n_state", "in: the states after the step"),
                ("vector", "n_vector", "in"),
                ("saved", "n_saved", "in: kept by forward"),
                ("d_U", "n_recurrent", "out: gradients of U operand + b_hh"),
                ("d_Wx", "n_input", "out: gradients of W x_t + b_ih"),
                ("d_vector", "n_vector", "out: to be summed over T and B"),
                ("d_state", "n_state", "out: gradients of the states before the step"),
                ("operand", "n_stages", "out of operand<k>: what stage k multiplied, for dU"),
                ("carried", "n_backward_carried", "from one function to a later one"),
            ],
        ),
        "",
        _template("forward", "Forward", forward.segments()),
        "",
        _template("backward", "Backward", backward.segments()),
        *(["", _template("operand", "Backward", _operands(program))] if stages else []),
    ]
    comment = textwrap.indent(f"{name}: {doc}".rstrip(" :"), "// ", lambda line: True)
    lines = (line.rstrip() for line in comment.splitlines())
    comment = "\n".join(f"{line} //" if line.endswith("\\") else line for line in lines)  # no continued comment
    body = textwrap.indent("\n".join(part for part in parts if part is not None), "  ")
    return f"{comment}\nstruct {name} {{\n{body}\n}};\n"


@dataclass(frozen=True)
class _Direction:
    """One direction's functions, and where in the registers each value lies.

    places: of the values that lie in the registers whenever they are read.
    arrivals: by function, the value that a driver hands over in a register used again for the next one.
    results: (value, register, function that writes it; None for the first one that knows the value, which is the very
        first for what the driver filled in).
    """

    functions: Sequence[Function]
    places: dict[Node, str]
    arrivals: dict[int, tuple[Node, str]]
    results: list[tuple[Node, str, int | None]]
    names: dict[Node, str]

    def _known(self) -> dict[Node, int]:
        known = {node: index for index, function in enumerate(self.functions) for node in function.outputs}
        return known | {node: index for index, (node, _) in self.arrivals.items()}

    def _written(self, node: Node, forced: int | None) -> int:
        return self._known().get(node, 0) if forced is None else forced

    @property
    def carried(self) -> tuple[Node, ...]:
        """Values that a later function reads or writes out, and that have no place of their own."""
        last_use = {node: index for index, function in enumerate(self.functions) for node in function.inputs}
        for node, _, forced in self.results:
            last_use[node] = max(last_use.get(node, 0), self._written(node, forced))
        return tuple(n for n, index in self._known().items() if n not in self.places and last_use.get(n, 0) > index)

    def written(self, *registers: str) -> set[int]:
        """The functions that write results of these registers."""
        return {self._written(n, forced) for n, place, forced in self.results if place.startswith(registers)}

    def segments(self) -> list[list[str]]:
        """The statements of each function."""
        return [self._segment(index) for index in range(len(self.functions))]

    def _segment(self, index: int) -> list[str]:
        function = self.functions[index]
        carried = {node: f"unit.carried[{position}]" for position, node in enumerate(self.carried)}
        arrived = dict([self.arrivals[index]]) if index in self.arrivals else {}
        places = self.places | carried | arrived

        def value(node: Node) -> str:
            if node.op == "constant":
                return f"T({number(node.value)})"
            return self.names[node] if node in function.steps or node in function.inputs else places[node]

        lines = _body(function, places, self.names)
        known_here = [*arrived, *function.outputs]
        lines += [f"{carried[node]} = {value(node)};" for node in known_here if node in carried]
        lines += [
            f"{register} = {value(node)};"
            for node, register, forced in self.results
            if self._written(node, forced) == index
        ]
        return lines


def _body(function: Function, places: dict[Node, str], names: dict[Node, str]) -> list[str]:
    """Bind what is read to its name, then the arithmetic."""
    lines = [f"const T {names[node]} = {places[node]};" for node in function.inputs]
    for node, expression in statements(
        function, names, lambda op: op.cuda or op.text, lambda value: f"T({number(value)})"
    ):
        lines.append(f"const {'bool' if node.op in ops.COMPARISONS else 'T'} {names[node]} = {expression};")
    return lines


def _forward(program: Program) -> _Direction:
    traced, names = program.traced, program.traced.graph.names
    saved = {node: f"unit.saved[saved::{names[node]}]" for node in program.derived.saved}
    leaves = _leaf_places(program) | {
        node: f"unit.{member}[{kind}::{label}]"
        for kind, member in (("input", "Wx"), ("recurrent", "U"))
        for label, node in traced.leaves(kind).items()
    }
    new = {f"unit.state_new[state::{s}]": n for s, n in zip(traced.states, traced.outputs, strict=True)}
    last = len(program.stages)
    results: list[tuple[Node, str, int | None]]
    results = [(stage.operand, "unit.operand", index) for index, stage in enumerate(program.stages)]
    # A product is there only after its stage: the last function can pass on any.
    results += [(node, place, last if node in leaves else None) for node, place in saved.items()]
    results += [(node, place, last if node in leaves else None) for place, node in new.items()]
    return _Direction(program.forward, saved | leaves, {}, results, names)


def _backward(program: Program) -> _Direction:
    traced, derived = program.traced, program.derived
    places = _kept_places(program)
    places |= {traced.graph.leaf("gradient", state): f"unit.d_state_new[state::{state}]" for state in traced.states}
    arrivals = {
        index + 1: (derived.transposed[stage], "unit.d_operand") for index, stage in enumerate(program.backward_stages)
    }
    zero = traced.graph.constant(0.0)
    results: list[tuple[Node, str, int | None]] = [
        (gradients.get(label, zero), f"unit.{member}[{kind}::{label}]", None)
        for member, kind, labels, gradients in (
            ("d_U", "recurrent", traced.leaves("recurrent"), derived.d_recurrent),
            ("d_Wx", "input", traced.leaves("input"), derived.d_input),
            ("d_vector", "vector", traced.vectors, derived.d_vectors),
            ("d_state", "state", traced.states, derived.d_states),
        )
        for label in labels
    ]
    return _Direction(program.backward, places, arrivals, results, traced.graph.names)


def _operands(program: Program) -> list[list[str]]:
    """For each stage, its operand once more: read where it is a state or saved, else recomputed."""
    places, names = _kept_places(program), program.traced.graph.names
    everything = program.operands
    segments = []
    for stage in program.stages:
        if stage.operand in places:
            segments.append([f"unit.operand = {places[stage.operand]};"])
            continue
        needed = topological([stage.operand], stop=places)
        inputs, steps = (tuple(n for n in part if n in needed) for part in (everything.inputs, everything.steps))
        own = Function(everything.name, inputs, steps, (stage.operand,))
        segments.append([*_body(own, places, names), f"unit.operand = {names[stage.operand]};"])
    return segments


def _leaf_places(program: Program) -> dict[Node, str]:
    graph = program.traced.graph
    return {graph.leaf("state", name): f"unit.state[state::{name}]" for name in program.traced.states} | {
        graph.leaf("vector", name): f"unit.vector[vector::{name}]" for name in program.traced.vectors
    }


def _kept_places(program: Program) -> dict[Node, str]:
    """What backward finds: the states after the step, what forward saved, and the leaves."""
    traced, names = program.traced, program.traced.graph.names
    places = {n: f"unit.state_new[state::{s}]" for s, n in zip(traced.states, traced.outputs, strict=True)}
    places |= {node: f"unit.saved[saved::{names[node]}]" for node in program.derived.saved}
    return places | _leaf_places(program)


def _table(name: str, argument: str, meanings: Sequence[str], numbers: Sequence[int]) -> str | None:
    """`stage_of(gate)`: the stage whose product gives the gate's block; `backward_stage(k)`: the stage of the k-th
    product of backward. None where the table would be empty."""
    if not numbers:
        return None
    table = ", ".join(map(str, numbers))
    return (
        f"__device__ static constexpr int {name}(int {argument}) {{\n"
        f"  constexpr int table[] = {{{table}}};  // {', '.join(meanings)}\n"
        f"  return table[{argument}];\n}}"
    )


def _template(name: str, registers: str, segments: list[list[str]]) -> str:
    lines: list[str] = []
    for index, segment in enumerate(segments):
        if segment:
            lines += [f"  if constexpr (segment == {index}) {{", *(f"    {line}" for line in segment), "  }"]
    head = f"template <int segment, class T> __device__ static void {name}({registers}<T>& unit) {{"
    return "\n".join([head, *lines, "}"])
