"""Writes the device functions that a sequence kernel calls for a cell: what a thread does around the products.

A cell's step is a chain of segments with a product between each two (see `rnn_gpu.compiler.program`):

    segment 0, product of stage 0, segment 1, product of stage 1, ..., segment n_stages

and so is its derivative, in the reverse order with transposed products. The emitted text is the bridge between the
cell's functions, which know values by name, and the kernels' arrays, which know places. A thread runs all segments of
its own rows and unit; only what a product sums over, the *operand*, is published to other threads.

Arrays are flat; `sequence.Forward` and `sequence.Backward` say what each holds. Names in the text: `a` the arrays, `s`
the sizes, `now` the values fetched for this step, `own` those of a row and unit that one step hands to the next, or one
segment to another, `fixed` those of a unit that never change, `sums` the products, `out` and `o` where operands are
published, `at` the place of step, row and unit in a [T, B, H] array. What an index adds to it is the same at all steps,
so that the compiler takes it out of the loop. `index` makes an index unsigned: Numba would check a signed one for being
negative.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rnn_gpu.compiler.graph import Node
from rnn_gpu.compiler.program import Function, Program

__all__ = ["Segments", "backward", "forward", "operands"]

Value = Node | None
"""A node; None stands for zero."""


@dataclass(frozen=True)
class Segments:
    """The text for one direction of a cell, and what the drivers must know of it.

    depth: by stage, how many blocks of H terms a product sums over; outputs: by stage, how many products a unit has.
    carried: values of a row and unit that one segment hands to a later one, the last of `own`.
    """

    text: str
    depth: tuple[int, ...]
    outputs: tuple[int, ...]
    carried: int

    @property
    def n_stages(self) -> int:
        return len(self.depth)

    @property
    def area(self) -> int:
        """Over all stages, blocks of H terms times products: a unit's weights are H times as many."""
        return sum(d * o for d, o in zip(self.depth, self.outputs, strict=True))


@dataclass(frozen=True)
class _Direction:
    """One direction of a cell.

    functions: the segments' functions. products: by stage, expressions of its products, {} for the row's first sum.
    depth: by stage, blocks of H terms. fetched: expressions of what is read of the sequence at step t.
    at_hand: expressions of what a segment can read at any time.
    states: the array of the states, or of their gradients; fixed: expressions of what never changes.
    published: (value, block of the operands). stored: (value, statement with {} for it), as soon as there is the value.
    committed: the same, in the last segment.
    """

    functions: Sequence[Function]
    products: Sequence[dict[Node, str]]
    depth: Sequence[int]
    fetched: dict[Node, str]
    at_hand: dict[Node, str]
    states: str
    fixed: Sequence[str]
    published: Sequence[tuple[Value, int]]
    stored: Sequence[tuple[Value, str]]
    committed: Sequence[tuple[Value, str]]


def forward(program: Program, rows: int) -> Segments:
    """The forward step, for threads that own `rows` rows each."""
    traced, stages = program.traced, program.stages
    inputs, gates = traced.leaves("input"), traced.leaves("recurrent")
    place = {gate: k for k, gate in enumerate(gates)}
    biases = [f"a.b_hh[index({k} * s.H + unit)]" for k in range(len(gates))]
    direction = _Direction(
        functions=program.forward,
        products=[
            {gates[gate]: f"sums[{k}] + fixed[{place[gate]}]" for k, gate in enumerate(stage.gates)} for stage in stages
        ],
        depth=[1] * len(stages),
        fetched={node: f"a.P[{_of_gates(len(inputs), k)}]" for k, node in enumerate(inputs.values())},
        at_hand=_fixed_vectors(program, len(biases))
        | {traced.graph.leaf("state", label): f"zero if reset else own[{k}]" for k, label in enumerate(traced.states)},
        states="state",
        fixed=[*biases, *_vectors(program).values()],
        published=[(stage.operand, k) for k, stage in enumerate(stages)],
        stored=[(node, f"if s.save_values: {_SAVED.format(k)} = {{}}") for k, node in enumerate(program.derived.saved)],
        committed=[
            *((node, f"own_{k} = {{}}") for k, node in enumerate(traced.outputs)),
            *((node, f"if s.save: {_AFTER.format(k)} = {{}}") for k, node in enumerate(traced.outputs)),
            (traced.outputs[0], "a.y[index(at)] = {}"),
        ],
    )
    begin = [
        f"a.history[index((({k} * (s.T + 1) + first) * s.B + row) * s.H + unit)] = "
        f"a.state[index(({k} * s.B + row) * s.H + unit)]"
        for k in range(len(traced.states))
    ]
    return _write(program, direction, rows, begin=["first = end if s.reverse else 0", *begin])


def backward(program: Program, rows: int) -> Segments:
    """The step backward, for threads that own `rows` rows each."""
    traced, derived, stages = program.traced, program.derived, program.backward_stages
    first = {stage: sum(len(s.gates) for s in program.stages[:k]) for k, stage in enumerate(program.stages)}
    place = {gate: first[stage] + k for stage in program.stages for k, gate in enumerate(stage.gates)}
    inputs = traced.leaves("input")
    reached = {stage: [gate for gate in stage.gates if gate in derived.d_recurrent] for stage in stages}
    published, block = [], 0
    for stage in stages:
        for gate in reached[stage]:
            published.append((derived.d_recurrent[gate], block))
            block += 1
    output = traced.states[0]
    direction = _Direction(
        functions=program.backward,
        products=[{derived.transposed[stage]: "sums[0]"} for stage in stages],
        depth=[len(reached[stage]) for stage in stages],
        fetched=_kept(program),
        at_hand=_fixed_vectors(program, 0)
        | {
            traced.graph.leaf("gradient", label): f"own[{k}]" + (" + d_y" if label == output else "")
            for k, label in enumerate(traced.states)
        },
        states="d_state",
        fixed=list(_vectors(program).values()),
        published=published,
        stored=[
            *((derived.d_recurrent.get(gate), f"a.dR[{_of_gates(len(place), k)}] = {{}}") for gate, k in place.items()),
            *(
                (derived.d_input.get(gate), f"a.dP[{_of_gates(len(inputs), k)}] = {{}}")
                for k, gate in enumerate({} if program.shares_gradient else inputs)
            ),
            *(
                (derived.d_vectors.get(name), f"a.dV[{_of_gates(len(traced.vectors), k)}] = {{}}")
                for k, name in enumerate(traced.vectors)
            ),
        ],
        committed=[
            (derived.d_states.get(label), f"own_{k} = zero if reset else {{}}") for k, label in enumerate(traced.states)
        ],
    )
    return _write(program, direction, rows, d_y="a.dy[index(at)] if s.has_dy else zero")


def operands(program: Program) -> str:
    """Text of `operands(a, s, t, row, unit)`, which stores all stages' operands, for the weights' gradients."""
    function, stages = program.operands, program.stages
    kept, vectors = _kept(program), _vectors(program)
    needed = dict.fromkeys([*function.inputs, *(stage.operand for stage in stages)])
    names = program.traced.graph.names
    body = [_AT, "reset = s.has_resets != 0 and a.resets[index(t * s.B + row)] != 0"]
    body += [f"v_{names[node]} = {(kept | vectors)[node]}" for node in needed if node in kept or node in vectors]
    body += _call(function, names)
    body += [
        f"a.operands[index(at + {k} * (s.T * s.B * s.H))] = {_text(stage.operand, names)}"
        for k, stage in enumerate(stages)
    ]
    return _define("operands", "a, s, t, row, unit", body)


_AT = "at = (t * s.B + row) * s.H + unit"

_SAVED = "a.saved[index(at + {} * (s.T * s.B * s.H))]"

_BEFORE = "a.history[index(at + ({} * (s.T + 1) + s.reverse) * (s.B * s.H))]"
_AFTER = "a.history[index(at + ({} * (s.T + 1) + 1 - s.reverse) * (s.B * s.H))]"
"""States before and after step t."""


def _of_gates(count: int, k: int) -> str:
    """The index of the k-th of `count` gates in a [T, B, gates, H] array."""
    return f"index((t * s.B + row) * ({count} * s.H) + ({k} * s.H + unit))"


def _vectors(program: Program) -> dict[Node, str]:
    traced = program.traced
    return {
        traced.graph.leaf("vector", label): f"a.vectors[index({k} * s.H + unit)]"
        for k, label in enumerate(traced.vectors)
    }


def _fixed_vectors(program: Program, first: int) -> dict[Node, str]:
    """The vectors among what never changes, from the `first` on."""
    return {node: f"fixed[{first + k}]" for k, node in enumerate(_vectors(program))}


def _kept(program: Program) -> dict[Node, str]:
    """What backward reads of the forward pass: states after the step, states before it, saved values."""
    traced = program.traced
    kept = {node: _AFTER.format(k) for k, node in enumerate(traced.outputs)}
    kept |= {
        traced.graph.leaf("state", label): f"zero if reset else {_BEFORE.format(k)}"
        for k, label in enumerate(traced.states)
    }
    return kept | {node: _SAVED.format(k) for k, node in enumerate(program.derived.saved)}


def _write(
    program: Program, direction: _Direction, rows: int, *, d_y: str = "", begin: Sequence[str] = ("return",)
) -> Segments:
    names, n_states = program.traced.graph.names, len(program.traced.states)
    last = len(direction.products)
    computed = {node: k for k, function in enumerate(direction.functions) for node in function.outputs}
    multiplied = {node: k + 1 for k, products in enumerate(direction.products) for node in products}

    def available(value: Value) -> int:
        """The first segment that has the value."""
        return computed.get(value, multiplied.get(value, 0)) if value is not None else 0

    results: list[list[tuple[Value, str]]] = [[] for _ in range(last + 1)]
    for value, block in direction.published:
        results[available(value)].append((value, f"out[index(o + ({block} * s.H + unit) * stride)] = {{}}"))
    for value, statement in direction.stored:
        results[available(value)].append((value, statement))
    results[last] += direction.committed

    needed: list[dict[Node, None]] = []
    for function, wanted in zip(direction.functions, results, strict=True):
        values = [value for value, _ in wanted if value is not None and value.op != "constant"]
        needed.append(dict.fromkeys([*function.inputs, *values]))
    carried: dict[Node, int] = {}
    for k, nodes in enumerate(needed):
        for node in nodes:
            if (node in computed or node in multiplied) and available(node) < k:
                carried.setdefault(node, len(carried))
    for node, slot in carried.items():
        results[available(node)].append((node, f"own_{n_states + slot} = {{}}"))
        needed[available(node)].setdefault(node)

    fetched = {
        node: text
        for node, text in direction.fetched.items()
        if any(node in nodes for nodes in needed) and node not in computed and node not in multiplied
    }
    first = 2 if d_y else 1  # after the reset, and the gradient of y
    position = {node: first + k for k, node in enumerate(fetched)}

    parts = [_fetch(rows, [*([d_y] if d_y else []), *fetched.values()])]
    widest = max((len(products) for products in direction.products), default=0)
    for k, function in enumerate(direction.functions):
        body = [_AT, "reset = now[0] != zero"] + (["d_y = now[1]"] if d_y else [])
        body += [f"own_{n} = own[{n}]" for n in range(n_states + len(carried))]
        for node in needed[k]:
            if computed.get(node) == k:
                continue
            if multiplied.get(node) == k:
                text = direction.products[k - 1][node]
            elif node in carried:
                text = f"own[{n_states + carried[node]}]"
            elif node in position:
                text = f"now[{position[node]}]"
            else:
                text = direction.at_hand[node]
            body.append(f"v_{names[node]} = {text}")
        body += _call(function, names)
        body += [statement.format(_text(value, names)) for value, statement in results[k]]
        body.append(f"return {_tuple([f'own_{n}' for n in range(n_states + len(carried))])}")
        parts.append(_define(f"segment_{k}", "a, s, now, sums, own, fixed, t, row, unit, out, o, stride", body))
    parts.append(_segment(rows, last, widest))
    parts += _own(rows, direction.states, n_states, len(carried))
    parts.append(_fixed(direction.fixed))
    outputs = tuple(len(products) for products in direction.products)
    parts += [_accumulate(k, rows, count, widest) for k, count in enumerate(outputs)]
    parts += _of_stages(outputs, tuple(direction.depth))
    parts += _exchange(rows, widest)
    parts.append(_begin(rows, begin))
    return Segments("\n\n".join(parts), tuple(direction.depth), outputs, len(carried))


def _call(function: Function, names: dict[Node, str]) -> list[str]:
    if not function.steps:
        return []
    results = ", ".join(f"v_{names[node]}" for node in function.outputs)
    return [f"{results} = {function.name}({', '.join(f'v_{names[node]}' for node in function.inputs)})"]


def _text(value: Value, names: dict[Node, str]) -> str:
    if value is None:
        return "zero"
    return f"real({value.value!r})" if value.op == "constant" else f"v_{names[value]}"


def _fetch(rows: int, values: Sequence[str]) -> str:
    """`fetch`: for each own row a tuple of what it reads of step t, the reset first; zeros where it has ended."""
    zeros = _tuple(["zero"] * (len(values) + 1))
    read = "real(1) if reset else zero"
    one = [
        "if t < 0 or t >= end:",
        f"    return {zeros}",
        _AT,
        "reset = s.has_resets != 0 and a.resets[index(t * s.B + row)] != 0",
        f"return {_tuple([read, *values])}",
    ]
    each = [f"fetch_row(a, s, t, ends[{r}], row + {r}, unit)" for r in range(rows)]
    return (
        _define("fetch_row", "a, s, t, end, row, unit", one)
        + "\n\n"
        + _define("fetch", "a, s, t, ends, row, unit", [f"return {_tuple(each)}"])
    )


def _segment(rows: int, last: int, widest: int) -> str:
    """`segment`: runs segment k of the own rows that have not ended, and returns what they own then."""
    body = [f"own_{r} = own[{r}]" for r in range(rows)]
    for k in range(last + 1):
        body.append(f"if k == {k}:")
        for r in range(rows):
            sums = _tuple([f"sums[{r * widest + g}]" for g in range(widest)]) if widest else "sums"
            given = f"a, s, now[{r}], {sums}, own[{r}], fixed, t, row + {r}, unit, out, o + {r}, stride"
            body += [f"    if t < ends[{r}]:", f"        own_{r} = segment_{k}({given})"]
    body.append(f"return {_tuple([f'own_{r}' for r in range(rows)])}")
    return _define("segment", "k, a, s, now, sums, own, fixed, t, ends, row, unit, out, o, stride", body)


def _own(rows: int, states: str, n_states: int, carried: int) -> list[str]:
    """`load_own` and `store_own`: what the thread's rows own, a tuple a row, from and to memory.

    carries: whether that has what one segment hands to another, too.
    """
    owned = [f"a.{states}[index(({k} * s.B + row) * s.H + unit)]" for k in range(n_states)]
    handed = [f"a.carried[index(({k} * s.B + row) * s.H + unit)]" for k in range(carried)]
    load = [
        f"if end <= 0: return {_tuple(['zero'] * (n_states + carried))}",
        f"return {_tuple([*owned, *(f'{place} if carries else zero' for place in handed)])}",
    ]
    store = ["if end <= 0: return", *(f"{place} = own[{k}]" for k, place in enumerate(owned))]
    store += [f"if carries: {place} = own[{k}]" for k, place in enumerate(handed, n_states)]
    loads = [f"load_row(a, s, ends[{r}], row + {r}, unit, carries)" for r in range(rows)]
    stores = [f"store_row(a, s, own[{r}], ends[{r}], row + {r}, unit, carries)" for r in range(rows)]
    return [
        _define("load_row", "a, s, end, row, unit, carries", load),
        _define("store_row", "a, s, own, end, row, unit, carries", store),
        _define("load_own", "a, s, ends, row, unit, carries", [f"return {_tuple(loads)}"]),
        _define("store_own", "a, s, own, ends, row, unit, carries", stores),
    ]


def _fixed(values: Sequence[str]) -> str:
    """`load_fixed`: what never changes, of the thread's unit; zeros where there is no such unit."""
    zeros = _tuple(["zero"] * max(len(values), 1))
    return _define(
        "load_fixed", "a, s, unit", [f"if unit >= s.H: return {zeros}", f"return {_tuple(values) if values else zeros}"]
    )


_AT_A_TIME = 40
"""Numbers that a product loads before it multiplies them, so that one does not wait for another; at most so many."""


def _accumulate(stage: int, rows: int, outputs: int, widest: int) -> str:
    """`accumulate_<stage>`: adds to the sums every parts-th of `count` terms, from the part-th on, in their order.

    operand [count, width] from the thread's first row on; weights [count, outputs, units] from the thread's unit on.
    """
    own = [(r, g) for r in range(rows) for g in range(outputs)]
    at_a_time = 8
    while at_a_time > 1 and at_a_time * (rows + outputs) > _AT_A_TIME:
        at_a_time //= 2

    def terms(count: int) -> list[str]:
        """The body of a loop that takes so many terms at a time."""
        places = [
            ("at", "u") if j == 0 else (f"at + index({j}) * at_step", f"u + index({j}) * u_step") for j in range(count)
        ]
        body = [f"x_{j}_{r} = operand[{at} + index({r})]" for j, (at, _) in enumerate(places) for r in range(rows)]
        body += [f"w_{j}_{g} = weights[{u} + u_{g}]" for j, (_, u) in enumerate(places) for g in range(outputs)]
        body += [f"s_{r}_{g} += w_{j}_{g} * x_{j}_{r}" for j in range(count) for r, g in own]
        body += [f"k += index({count}) * step", f"at += index({count}) * at_step", f"u += index({count}) * u_step"]
        return [f"    {line}" for line in body]

    body = [f"s_{r}_{g} = sums[{r * widest + g}]" for r, g in own]
    body += [
        "k, end, step = index(part), index(count), index(parts)",
        "at, at_step = index(o + part * width), index(parts * width)",
        f"u, u_step = index(w + part * {outputs} * units), index(parts * {outputs} * units)",
        *(f"u_{g} = index({g} * units)" for g in range(outputs)),
    ]
    if at_a_time > 1:
        body += [f"while k + index({at_a_time - 1}) * step < end:", *terms(at_a_time)]
    body += ["while k < end:", *terms(1)]
    total = [f"s_{r}_{g}" if g < outputs else f"sums[{r * widest + g}]" for r in range(rows) for g in range(widest)]
    body.append(f"return {_tuple(total)}")
    return _define(f"accumulate_{stage}", "sums, operand, o, weights, w, part, parts, count, width, units", body)


def _of_stages(outputs: tuple[int, ...], depth: tuple[int, ...]) -> list[str]:
    """`accumulate` for a stage that is known at run time, and where its operand and weights begin, in blocks."""
    arguments = "sums, operand, o, weights, w, part, parts, count, width, units"
    chain = [f"if stage == {k}: return accumulate_{k}({arguments})" for k in range(len(depth))]

    def chosen(name: str, values: Sequence[int]) -> str:
        return _define(
            name,
            "stage",
            [*(f"if stage == {k}: return {v}" for k, v in enumerate(values[:-1])), f"return {values[-1]}"],
        )

    area = [d * o for d, o in zip(depth, outputs, strict=True)]
    return [
        _define("accumulate", f"stage, {arguments}", [*chain, "return sums"]),
        chosen("depth_of", depth or (0,)),
        chosen("outputs_of", outputs or (0,)),
        chosen("operand_of", [sum(depth[:k]) for k in range(len(depth))] or (0,)),
        chosen("weights_of", [sum(area[:k]) for k in range(len(depth))] or (0,)),
    ]


def _exchange(rows: int, widest: int) -> list[str]:
    """`store_sums` and `load_sums`, through which the threads that share a sum add up their parts, and `no_sums`."""
    place = "index(p + (({} * {} + {}) * width + {}) * units)"
    own = [(r, g) for r in range(rows) for g in range(widest)]
    store = [f"shared[{place.format('part', widest, g, r)}] = sums[{r * widest + g}]" for r, g in own]
    load = [f"s_{r}_{g} = shared[{place.format(0, widest, g, r)}]" for r, g in own]
    load += ["part = 1", "while part < parts:"]
    load += [f"    s_{r}_{g} += shared[{place.format('part', widest, g, r)}]" for r, g in own]
    load += ["    part += 1", f"return {_tuple([f's_{r}_{g}' for r, g in own])}"]
    if not own:
        store, load = ["return"], ["return sums"]
    return [
        _define("store_sums", "sums, shared, p, part, width, units", store),
        _define("load_sums", "sums, shared, p, parts, width, units", load),
        _define("no_sums", "", [f"return {_tuple(['zero'] * max(len(own), 1))}"]),
    ]


def _begin(rows: int, body: Sequence[str]) -> str:
    """`begin`: before the first step, once."""
    each = [f"if s.save and ends[{r}] > 0: begin_row(a, s, ends[{r}], row + {r}, unit)" for r in range(rows)]
    return _define("begin_row", "a, s, end, row, unit", body) + "\n\n" + _define("begin", "a, s, ends, row, unit", each)


def row_ends(rows: int) -> str:
    """Text of `row_ends` and `longest`.

    row_ends: the step at which each of the thread's rows ends; 0 where there is no such row or unit, and for threads
        that only help with products. longest: the steps of the longest of the rows `first` to `first + width`.
    """
    one = ["if row >= s.B or unit >= s.H or part != 0: return 0", "return a.lengths[row] if s.has_lengths else s.T"]
    each = [f"row_end(a, s, row + {r}, unit, part)" for r in range(rows)]
    longest = [
        "if not s.has_lengths: return s.T",
        "steps = a.lengths[first]",
        "row, last = first + 1, min(first + width, s.B)",
        "while row < last:",
        "    steps = max(steps, a.lengths[row])",
        "    row += 1",
        "return steps",
    ]
    return "\n\n".join(
        [
            _define("row_end", "a, s, row, unit, part", one),
            _define("row_ends", "a, s, row, unit, part", [f"return {_tuple(each)}"]),
            _define("longest", "a, s, first, width", longest),
        ]
    )


def _tuple(values: Iterable[str]) -> str:
    return "(" + "".join(f"{value}, " for value in values).rstrip() + ")"


def _define(name: str, arguments: str, body: Sequence[str]) -> str:
    return f"def {name}({arguments}):\n" + "\n".join(f"    {line}" for line in body) + "\n"
