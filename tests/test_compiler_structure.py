"""What the compiler finds out about a cell: its stages, what is saved for the backward pass, and what is shared."""

from __future__ import annotations

import pytest
from support.cells import CELLS
from support.unusual import UNUSUAL

from rnn_gpu import cells
from rnn_gpu.compiler.language import cell, sigmoid, tanh

ALL = CELLS | UNUSUAL

STAGES = {
    "rnn": ["h"],
    "rnn_relu": ["h"],
    "rnn_sigmoid": ["h"],
    "lstm": ["ifgo"],
    "lstm_1997": ["igo"],
    "lstm_peephole": ["ifgo"],
    "lstm_cifg": ["fgo"],
    "gru": ["rzn"],
    "gru_2014": ["rz", "n"],
    "mgu": ["f", "n"],
    "indrnn": [],
    "ligru": ["zn"],
    "janet": ["fg"],
}

SAVED = {
    "rnn": "",
    "rnn_relu": "",
    "rnn_sigmoid": "",
    "lstm": "i f g o tanh_c",
    "lstm_1997": "i g o tanh_c",
    "lstm_peephole": "i f g o tanh_c",
    "lstm_cifg": "f g o tanh_c",
    "gru": "r z U_n n",
    "gru_2014": "r z n",
    "mgu": "f n",
    "indrnn": "",
    "ligru": "z n",
    "janet": "f k g",
}


@pytest.mark.parametrize("name", cells.ALL)
def test_stages(name):
    assert ["".join(gates) for gates in cells.ALL[name].stages] == STAGES[name]


@pytest.mark.parametrize("name", cells.ALL)
def test_saved_set(name):
    assert cells.ALL[name].saved == tuple(SAVED[name].split())


@pytest.mark.parametrize("cell", ALL.values(), ids=ALL)
def test_nothing_that_is_at_hand_is_saved(cell):
    traced, saved = cell.traced, cell.program.derived.saved
    assert not set(saved) & set(traced.outputs)
    assert not {node.op for node in saved} & {"state", "vector", "constant"}
    assert set(saved) <= set(traced.nodes)


@pytest.mark.parametrize("name", cells.ALL)
def test_input_and_product_share_their_gradient(name):
    """dWx and dU of a gate are one value, computed once; but the gru's r stands between its Wx.n and its U.n(h)."""
    derived = cells.ALL[name].program.derived
    for gate in cells.ALL[name].recurrent_gates:
        shared = derived.d_input[gate] is derived.d_recurrent[gate]
        assert shared == ((name, gate) != ("gru", "n")), gate


@pytest.mark.parametrize("name", cells.ALL)
def test_backward_has_the_stages_in_reverse(name):
    program = cells.ALL[name].program
    assert program.backward_stages == program.stages[::-1]


@pytest.mark.parametrize("cell", ALL.values(), ids=ALL)
def test_a_function_reads_only_what_is_there(cell):
    """Forward: leaves, the products of stages done, earlier results. Backward: what is saved, and the states too."""
    program, traced = cell.program, cell.traced
    leaves = {node for node in traced.nodes if node.op in ("state", "vector", "input")}
    known = set(leaves)
    for function, stage in zip(program.forward, (*program.stages, None), strict=True):
        assert set(function.inputs) <= known
        known |= set(function.outputs)
        if stage is not None:
            assert stage.operand in known
            known |= {traced.leaves("recurrent")[gate] for gate in stage.gates}
    assert set(traced.outputs) | set(program.derived.saved) <= known

    kept = {node for node in leaves if node.op != "input"} | set(traced.outputs) | set(program.derived.saved)
    known = kept | {node for node in program.traced.graph.nodes.values() if node.op == "gradient"}
    for function, stage in zip(program.backward, (*program.backward_stages, None), strict=True):
        assert set(function.inputs) <= known
        known |= set(function.outputs)
        if stage is not None:
            gradients = {program.derived.d_recurrent.get(gate) for gate in stage.gates} - {None}
            assert gradients
            assert gradients <= known
            known.add(program.derived.transposed[stage])
    assert set(program.derived.d_states.values()) | set(program.derived.d_input.values()) <= known
    assert set(program.operands.inputs) <= kept


@pytest.mark.parametrize("cell", ALL.values(), ids=ALL)
def test_only_numbers_are_handed_on(cell):
    """A comparison is made anew where it is read: a backend stores nothing but numbers."""
    program = cell.program
    between = {node for function in program.functions for node in (*function.inputs, *function.outputs)}
    assert not {node.op for node in between | set(program.derived.saved)} & {"gt", "ge"}


def test_products_without_a_gradient():
    unreached = UNUSUAL["unreached"]
    assert unreached.stages == (("h", "k"), ("g",))
    assert [stage.gates for stage in unreached.program.backward_stages] == [("h", "k")]
    assert set(unreached.program.derived.d_recurrent) == {"k"}
    assert set(unreached.program.derived.d_input) == {"g"}


def test_stages_whose_gates_spell_the_same_word():
    program = UNUSUAL["stage_names"].program
    assert [stage.name for stage in program.stages] == ["a_b", "ab"]
    names = [function.name for function in program.functions]
    assert len(set(names)) == len(names)


def test_gates_with_one_product_only():
    one_sided = UNUSUAL["one_sided"]
    assert (one_sided.input_gates, one_sided.recurrent_gates) == (("x",), ("u",))


def test_equal_expressions_are_computed_once():
    @cell(gates="a", states="h")
    def repeated(Wx, U, h):
        return sigmoid(Wx.a + U.a(h)) * tanh(h) + sigmoid(Wx.a + U.a(h)) / tanh(h)

    text = repeated.source("python").split("def repeated_backward")[0]
    assert text.count("sigmoid(") == 1
    assert text.count("tanh(") == 1


def test_forward_and_backward_share_expressions():
    """1 - z is in the cell's text and in its derivative: one node, so it can be the same variable."""
    one_minus_z = [
        n for n in cells.gru.traced.graph.nodes.values() if cells.gru.traced.graph.names.get(n) == "one_minus_z"
    ]
    assert len(one_minus_z) == 1
    assert cells.gru.source("python").count("real(1) - z") == 2


def test_what_a_cell_says_of_itself():
    lstm, words = cells.lstm, UNUSUAL["words"]
    assert repr(lstm) == "<cell lstm: gates i f g o, states h c>"
    assert lstm.doc.startswith("Long short-term memory")
    assert (lstm.gates, lstm.states, lstm.vectors, lstm.forget) == (tuple("ifgo"), tuple("hc"), (), "f")
    assert (words.gates, words.states) == (("forget_gate", "candidate"), ("hidden", "memory"))
    assert words.vector_ranges == {"leak_rate": None}
    assert UNUSUAL["no_products"].vector_ranges == {"decay": (0.5, 1.0)}


def test_a_helper_function_is_part_of_the_text():
    def gated(x, gate):
        return sigmoid(gate) * x

    @cell(gates="ab", states="h")
    def with_helper(Wx, U, h):
        n = tanh(Wx.b + U.b(h))
        return gated(n, Wx.a + U.a(h)) + gated(h, -Wx.a)

    assert with_helper.stages == (("a", "b"),)
    assert [node.op for node in with_helper.program.derived.saved] == ["tanh", "sigmoid", "sigmoid"]


def test_python_may_choose_what_does_not_depend_on_symbols():
    def make(depth):
        @cell(gates="a", states="h")
        def deep(Wx, U, h):
            for _ in range(depth):
                h = tanh(h)
            return h * Wx.a if depth else Wx.a + U.a(h)

        return deep

    assert make(0).stages == (("a",),)
    assert make(3).stages == ()
    assert make(3).source("python").split("_backward")[0].count("tanh") == 3
