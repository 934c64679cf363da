"""The flat functions are the generic ones under other names."""

from __future__ import annotations

import pytest
from support.calls import draw, named_gradients
from support.cases import CASES
from support.cells import CELLS
from support.errors import assert_same_bits

import rnn_gpu

CHOSEN = [case for case in CASES if case.name in {"plain", "no_biases", "only_b_hh", "projected", "everything"}]

FUNCTIONS = {
    "rnn": (rnn_gpu.rnn_forward, {}, rnn_gpu.rnn_backward),
    "rnn_relu": (rnn_gpu.rnn_forward, {"activation": "relu"}, rnn_gpu.rnn_backward),
    "lstm": (rnn_gpu.lstm_forward, {}, rnn_gpu.lstm_backward),
    "gru": (rnn_gpu.gru_forward, {}, rnn_gpu.gru_backward),
    "gru_2014": (rnn_gpu.gru_forward, {"reset_after": False}, rnn_gpu.gru_backward),
}
FIELDS = {"dx": "d_x", "dh0": "d_h", "dc0": "d_c"}
FIELDS |= {f"d{name}": f"d_{name}" for name in ("w_ih", "w_hh", "b_ih", "b_hh")}


@pytest.mark.parametrize("case", CHOSEN, ids=str)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_they_are_forward_and_backward(name, case):
    forward, option, backward = FUNCTIONS[name]
    call = draw(CELLS[name], case, "float32")
    w = call.weights
    options = {"lengths": call.lengths, "resets": call.resets, "reverse": call.reverse, "backend": "numpy_cpu"}

    initial = call.initial or (None,) * len(call.cell.states)
    y, last, tape = forward(call.x, *initial, w.w_ih, w.w_hh, w.b_ih, w.b_hh, **option, **options)
    gradients = backward(tape, call.dy, *call.dlast)

    expected_y, expected_last, expected_tape = rnn_gpu.forward(call.cell, call.x, w, call.initial, **options)
    expected = named_gradients(call.cell, rnn_gpu.backward(expected_tape, call.dy, call.dlast))
    last = last if isinstance(last, tuple) else (last,)
    assert_same_bits(dict(enumerate((y, *last))), dict(enumerate((expected_y, *expected_last))))
    found = {FIELDS[field]: array for field, array in gradients._asdict().items()}
    missing = {f"d_{key}" for key in ("w_ih", "b_ih", "b_hh") if getattr(w, key) is None}
    assert {key for key, array in found.items() if array is None} == missing
    assert_same_bits({key: found[key] for key in expected}, expected)


def test_gradients_of_last_states_alone():
    call = draw(CELLS["lstm"], CHOSEN[0])
    w = call.weights
    _, _, tape = rnn_gpu.lstm_forward(call.x, None, None, w.w_ih, w.w_hh, backend="numpy_cpu")
    found = rnn_gpu.lstm_backward(tape, dc_n=call.dlast[1])
    expected = rnn_gpu.backward(tape, None, (None, call.dlast[1]))
    assert_same_bits({"x": found.dx, "c": found.dc0}, {"x": expected.x, "c": expected.initial[1]})
