"""Writes one step of a cell over the rows of a batch: loops that load, call the emitted functions, and store.

The text is the bridge between the cell's functions, which know values by name, and this backend's arrays, which know
places. All arrays are flat; `cells.forward_step` and `cells.backward_step` say what each holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rnn_gpu.compiler.graph import Node
from rnn_gpu.compiler.program import Function, Program

__all__ = ["Step", "backward_step", "forward_step"]


@dataclass(frozen=True)
class _Place:
    """Where a value lies: element `offset` + row * `stride` + unit of `array`; if `wanted`, when that is true.

    padded: whether there is room for whole vectors of units.
    """

    array: str
    offset: str
    stride: str
    wanted: str = ""
    padded: bool = True

    @property
    def load(self) -> str:
        return f"load({self.array}, {self._index})"

    def store(self, value: str) -> str:
        if not self.padded:
            return f"store_within({self.array}, {self._index}, {value}, H - unit)"
        function = "add_wide" if self.array == "DV" else "store"
        return f"{function}({self.array}, {self._index}, {value})"

    @property
    def _index(self) -> str:
        return f"{self.offset} + row * {self.stride} + unit" if self.stride else f"{self.offset} + unit"


Results = Sequence[tuple[Node | None, _Place]]
"""Values and the places that want them; None is zero."""


@dataclass(frozen=True)
class Step:
    """Text of a function, and the slots of C that it needs."""

    text: str
    scratch: int


def forward_step(program: Program, arguments: str) -> Step:
    """Text of `forward_step(cell, arguments)`."""
    traced, stages = program.traced, program.stages
    saved, outputs = program.derived.saved, traced.outputs
    places = _leaf_places(program)
    places |= {node: _field("P", "p0", k, "p_row") for k, node in enumerate(traced.leaves("input").values())}
    for index, stage in enumerate(stages):
        for k, gate in enumerate(stage.gates):
            places[traced.leaves("recurrent")[gate]] = _field("R", f"r_{index}", k, "r_row")
    handed_on = _handed_on(program.forward)
    kept = {node: _field("Q", "q0", k, "q_row", "" if node in handed_on else "keep") for k, node in enumerate(saved)}
    operands = [stage.operand for stage in stages if stage.operand.op != "state"]
    scratch = _scratch([*operands, *(node for node in handed_on if node not in kept)])
    results: Results = [
        *scratch.items(),
        *kept.items(),
        *((node, _slot("N", k)) for k, node in enumerate(outputs)),
    ]
    computed = _computed(program.forward)
    writer = _Writer(program, scratch | kept | places)
    first_gate = [sum(len(stage.gates) for stage in stages[:k]) for k in range(len(stages))]

    body = ["lanes, panel = lanes_of(S), panel_of(S)", "r_0, u_0 = integer(0), integer(0)"]
    for index, stage in enumerate(stages):
        function = program.forward[index]
        body += writer.loop(function, _from(function, results) + _leaves_among([stage.operand], results, computed))
        operand = scratch.get(stage.operand) or places[stage.operand]
        body += [
            "meet(team)",
            "if last - first < H_p:",
            f"    fetch_rows({operand.array}, {operand.offset}, {operand.stride}, rows, H_p)",
            f"width = padded({len(stage.gates)} * H_p, panel)",
            f"product_of_weights(R, r_{index}, r_row, {operand.array}, {operand.offset}, {operand.stride}, U, "
            f"u_{index}, bias, r_{index}, rows, integer({first_gate[index]}), integer({len(stage.gates)}), H, H_p, "
            "first, last, H)",
            f"r_{index + 1}, u_{index + 1} = r_{index} + width, u_{index} + width * H",
        ]
        if operand.array == "S":  # where the next step's N may be
            operand = _slot("N", traced.states.index(stage.operand.label))
        if index == len(stages) - 1 and operand in _early_places(program, results):
            body.append("meet(team)")  # where this product reads, the next step writes before its first meeting
    last = program.forward[-1]
    body += writer.loop(last, _from(last, results) + _leaves_among([*saved, *outputs], results, computed))
    return _define("forward_step", arguments, body, scratch)


def backward_step(program: Program, arguments: str) -> Step:
    """Text of `backward_step(cell, arguments)`."""
    traced, derived, stages = program.traced, program.derived, program.stages
    places = _leaf_places(program)
    places |= {node: _field("A", "a0", k, "a_row") for k, node in enumerate(traced.outputs) if node not in places}
    places |= {node: _field("Q", "q0", k, "q_row") for k, node in enumerate(derived.saved)}
    places |= {traced.graph.leaf("gradient", label): _slot("D", k) for k, label in enumerate(traced.states)}
    products = {stage: _Place("T", f"{k} * rows * t_row", "t_row") for k, stage in enumerate(program.backward_stages)}
    places |= {derived.transposed[stage]: place for stage, place in products.items()}
    scratch = _scratch(_handed_on(program.backward))

    first_gate = {stage: sum(len(s.gates) for s in stages[:k]) for k, stage in enumerate(stages)}
    d_recurrent: dict[str, _Place] = {
        gate: _gate("DR", "dr0", first_gate[stage] + k, "dr_row")
        for stage in stages
        for k, gate in enumerate(stage.gates)
    }
    d_input = {gate: _gate("DP", "dp0", k, "dp_row") for k, gate in enumerate(traced.leaves("input"))}
    d_vectors = {name: _Place("DV", f"dv0 + {k} * dv_slot", "H_p") for k, name in enumerate(traced.vectors)}
    results: list[tuple[Node | None, _Place]] = list(scratch.items())
    for gradients, wanted in (
        (derived.d_recurrent, d_recurrent),
        (derived.d_input, {} if program.shares_gradient else d_input),
        (derived.d_states, {name: _slot("E", k) for k, name in enumerate(traced.states)}),
        (derived.d_vectors, d_vectors),
    ):
        results += [(gradients.get(label), place) for label, place in wanted.items()]
    computed = _computed(program.backward)
    writer = _Writer(program, scratch | places)

    operands = [(stage.operand, _field("O", "o0", k, "o_row")) for k, stage in enumerate(stages)]
    body = ["lanes, panel = lanes_of(S), panel_of(S)", "u_0, zero, one = integer(0), integer(0), integer(1)"]
    body += writer.loop(program.operands, operands)
    for index, stage in enumerate(program.backward_stages):
        function = program.backward[index]
        gates = [derived.d_recurrent.get(gate) for gate in stage.gates]
        body += writer.loop(function, _from(function, results) + _leaves_among(gates, results, computed, "DR"))
        start, product = f"dr0 + {first_gate[stage]} * H", products[stage]
        body += [
            f"depth = {len(stage.gates)} * H",
            "meet(team)",
            "if last - first < H_p:",
            f"    fetch_rows(DR, {start}, dr_row, rows, depth)",
            f"product_of_units(T, {product.offset}, t_row, DR, {start}, dr_row, U, u_{index}, zeros, zero, rows, "
            "one, H_p, first, last, depth)",
            f"u_{index + 1} = u_{index} + padded(H_p, panel) * depth",
        ]
    last = program.backward[-1]
    early = {gate for stage in program.backward_stages for gate in stage.gates}
    late = [(node, place) for node, place in results if place not in [d_recurrent[gate] for gate in early]]
    body += writer.loop(last, _from(last, results) + _leaves_among([node for node, _ in late], late, computed))
    return _define("backward_step", arguments, body, scratch)


@dataclass(frozen=True)
class _Writer:
    program: Program
    places: dict[Node, _Place]

    def loop(self, function: Function, results: Results) -> list[str]:
        """Lines of the loop over rows and units that runs `function` and stores `results`."""
        names = self.program.traced.graph.names
        body: list[str] = []
        wanted: list[str] = []
        if function.steps:
            arguments = ", ".join(self.places[node].load for node in function.inputs)
            values = ", ".join(f"v_{names[node]}" for node in function.outputs)
            body.append(f"{values} = {function.name}({arguments})")
        for node, place in results:
            if node is None or node.op == "constant":
                value = f"real({0.0 if node is None else node.value!r})"
            else:
                value = f"v_{names[node]}" if node in function.outputs else self.places[node].load
            assert place.wanted in ("", "keep")
            if place.wanted:
                wanted += [f"if {place.wanted}:"] if not wanted else []
                wanted.append(f"    {place.store(value)}")
            else:
                body.append(place.store(value))
        if not body and not wanted:
            return []
        return [
            "for row in range(rows):",
            "    for unit in range(first, last, lanes):",
            *(f"        {s}" for s in body + wanted),
        ]


def _slot(array: str, slot: int) -> _Place:
    """Slot `slot` of an array laid out [slot, row, unit]; of S and N, whose slots and rows may lie otherwise."""
    if array in ("S", "N"):
        name = array.lower()
        return _Place(array, f"{name}0 + {slot} * {name}_slot", f"{name}_row")
    return _Place(array, f"{slot} * c_slot", "H_p")


def _field(array: str, start: str, field: int, row: str, wanted: str = "") -> _Place:
    """Field `field` of an array laid out [row, field, unit]."""
    return _Place(array, f"{start} + {field} * H_p", row, wanted)


def _gate(array: str, start: str, gate: int, row: str) -> _Place:
    """Gate `gate` of an array laid out [row, gate, H], without padding."""
    return _Place(array, f"{start} + {gate} * H", row, padded=False)


def _scratch(nodes: Iterable[Node]) -> dict[Node, _Place]:
    return {node: _slot("C", k) for k, node in enumerate(dict.fromkeys(nodes))}


def _leaf_places(program: Program) -> dict[Node, _Place]:
    graph = program.traced.graph
    states = {graph.leaf("state", label): _slot("S", k) for k, label in enumerate(program.traced.states)}
    return states | {
        graph.leaf("vector", label): _Place("V", f"{k} * H_p", "") for k, label in enumerate(program.traced.vectors)
    }


def _early_places(program: Program, results: Results) -> set[_Place]:
    """Where a step writes before its team meets for the first time."""
    if not program.stages:
        return set()
    operands = _leaves_among([program.stages[0].operand], results, _computed(program.forward))
    return {place for _, place in _from(program.forward[0], results) + operands}


def _computed(functions: Sequence[Function]) -> set[Node]:
    return {node for function in functions for node in function.outputs}


def _handed_on(functions: Sequence[Function]) -> list[Node]:
    """What one function computes and a later one reads."""
    last_read = {node: index for index, function in enumerate(functions) for node in function.inputs}
    made = [(node, index) for index, function in enumerate(functions) for node in function.outputs]
    return [node for node, index in made if last_read.get(node, -1) > index]


def _from(function: Function, results: Results) -> list[tuple[Node | None, _Place]]:
    """The results that `function` computes."""
    return [(node, place) for node, place in results if node in function.outputs]


def _leaves_among(
    nodes: Sequence[Node | None], results: Results, computed: set[Node], array: str = ""
) -> list[tuple[Node | None, _Place]]:
    """The results that no function computes, and that so are copies of a leaf or zero."""
    return [
        (node, place)
        for node, place in results
        if node in nodes and node not in computed and place.array.startswith(array)
    ]


def _define(name: str, arguments: str, body: Sequence[str], scratch: dict[Node, _Place]) -> Step:
    text = "\n".join([f"def {name}(cell, {arguments}):", *(f"    {line}" for line in body)]) + "\n"
    return Step(text, len(scratch))
