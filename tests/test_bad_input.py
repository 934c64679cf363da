"""Bad arguments: an error that names the argument, what was expected and what came, and nothing changed."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from support.calls import draw
from support.cases import Case

import rnn_gpu
from rnn_gpu import cells
from rnn_gpu.compiler.language import cell, sigmoid
from rnn_gpu.errors import ArgumentError, ArgumentTypeError, RnnGpuError

CALL = draw(cells.lstm_peephole, Case("good", T=5, B=3, I=4, H=6, initial=True))
"""A call that is right. Gates i f g o, states h c, vectors p_i p_f p_o."""

BIG = np.zeros((3, 7))
FLOATS = "dtype float64, float32, float16 or bfloat16"
ARRAY = "a NumPy, CuPy, Numba or torch array"


def arguments():
    names = ("cell", "x", "weights", "initial", "lengths", "resets", "reverse")
    return {name: getattr(CALL, name) for name in names} | {"backend": "numpy_cpu"}


def weights(**changed):
    return {"weights": replace(CALL.weights, **changed)}


def refused(function, error, message, **given):
    """Call the function with the arguments given, and check the error and that no array of CALL has changed."""
    arrays = [array for _, array in CALL.parameters()] + [CALL.dy, *CALL.dlast]
    before = [array.tobytes() for array in arrays]
    with pytest.raises(error) as caught:
        function(**given)
    assert str(caught.value) == message
    assert type(caught.value) is error
    assert caught.value.argument == message.partition(":")[0]
    assert [array.tobytes() for array in arrays] == before


def each(*table):
    """The table's rows as parameters, called by their messages."""
    return [pytest.param(*row, id=row[-1]) for row in table]


def test_the_errors_are_those_that_numpy_users_expect():
    assert issubclass(ArgumentError, ValueError)
    assert issubclass(ArgumentTypeError, TypeError)
    assert issubclass(ArgumentError, RnnGpuError)
    assert issubclass(ArgumentTypeError, RnnGpuError)


@pytest.mark.parametrize("kind", [ArgumentError, ArgumentTypeError])
def test_errors_come_through_from_other_processes(kind):
    error = pickle.loads(pickle.dumps(kind("x", "an array", "None")))
    assert type(error) is kind
    assert str(error) == "x: expected an array, got None"
    assert (error.argument, error.expected, error.got) == ("x", "an array", "None")


VALUES = each(
    ({"x": CALL.x[0]}, "x: expected a (T, B, I) array, got shape (3, 4)"),
    ({"x": np.float64(1)}, "x: expected a (T, B, I) array, got shape ()"),
    ({"x": np.zeros((5, 3, 4), int)}, f"x: expected {FLOATS}, got int64"),
    ({"x": np.zeros((5, 3, 4), complex)}, f"x: expected {FLOATS}, got complex128"),
    ({"x": CALL.x.astype(object)}, f"x: expected {FLOATS}, got object"),
    ({"x": CALL.x.astype("float32")}, "x: expected dtype float64 as the weights are, got float32"),
    ({"x": CALL.x[..., :3]}, "x: expected shape (T, B, 4) as w_ih has shape (24, 4), got shape (5, 3, 3)"),
    ({"x": CALL.x[:, :2]}, "initial[0] (h): expected shape (2, 6), got shape (3, 6)"),
    (weights(w_ih=None), "x: expected W x_t of shape (T, B, 24) as w_ih is None, got shape (5, 3, 4)"),
    (weights(w_ih=CALL.weights.w_ih.T), "w_ih: expected shape (24, 4), got shape (4, 24)"),
    (weights(w_ih=CALL.weights.w_ih.astype("float32")), "w_ih: expected dtype float64 as x is, got float32"),
    (weights(w_hh=None), "w_hh: expected an array, as cell lstm_peephole has recurrent products, got None"),
    (weights(w_hh=CALL.weights.w_hh.T), "w_hh: expected shape (4*H, H) = (24, 6), got its transpose, of shape (6, 24)"),
    (
        weights(w_hh=CALL.weights.w_hh[:18]),
        "w_hh: expected shape (24, 6), a block for each gate of cell lstm_peephole (i, f, g, o), got shape (18, 6)",
    ),
    (weights(w_hh=CALL.weights.w_hh[0]), "w_hh: expected shape (4*H, H), H at least 1, got shape (6,)"),
    (weights(w_hh=np.zeros((0, 0))), "w_hh: expected shape (4*H, H), H at least 1, got shape (0, 0)"),
    (weights(b_ih=np.zeros(6)), "b_ih: expected shape (24,), got shape (6,)"),
    (weights(b_hh=np.zeros((1, 24))), "b_hh: expected shape (24,), got shape (1, 24)"),
    (weights(vectors={}), "vectors: expected those of cell lstm_peephole (p_i, p_f, p_o), got none"),
    (
        weights(vectors=dict.fromkeys(["p_i", "p_f", "p_x"], np.zeros(6))),
        "vectors: expected those of cell lstm_peephole (p_i, p_f, p_o), got p_f, p_i, p_x",
    ),
    (
        weights(vectors=dict.fromkeys(["p_i", "p_f", "p_o"], np.zeros(5))),
        "p_i: expected shape (6,), got shape (5,)",
    ),
    (
        {"weights": rnn_gpu.init_weights(cells.lstm, 4, 6, dtype="float64")},
        "vectors: expected those of cell lstm_peephole (p_i, p_f, p_o), got none",
    ),
    ({"cell": cells.gru}, "vectors: expected those of cell gru (none), got p_f, p_i, p_o"),
    (
        {"cell": cells.gru, **weights(vectors={})},
        "w_hh: expected shape (18, 6), a block for each gate of cell gru (r, z, n), got shape (24, 6)",
    ),
    (
        {"cell": cells.indrnn, **weights(vectors={"u": np.zeros(6)})},
        "w_hh: expected None, as cell indrnn has no recurrent products, got an array",
    ),
    (
        {"cell": cells.indrnn, **weights(w_hh=None, vectors={"u": np.zeros(6)})},
        "b_hh: expected None, as cell indrnn has no recurrent products, got an array",
    ),
    (
        {"cell": cells.indrnn, **weights(w_hh=None, b_hh=None, vectors={"u": np.zeros((6, 1, 0)).T})},
        "u: expected shape (H,), H at least 1, got shape (0, 1, 6)",
    ),
    ({"initial": CALL.initial[:1]}, "initial: expected 2 arrays (initial[0] (h), initial[1] (c)), got 1"),
    ({"initial": (None, BIG)}, "initial[1] (c): expected shape (3, 6), got shape (3, 7)"),
    (
        {"initial": (CALL.initial[0].astype("float32"), None)},
        "initial[0] (h): expected dtype float64 as x is, got float32",
    ),
    ({"lengths": [5, 6, 0]}, "lengths: expected values from 0 to T = 5, got 6 in row 1"),
    ({"lengths": [5, 5, -1]}, "lengths: expected values from 0 to T = 5, got -1 in row 2"),
    ({"lengths": np.ones(3)}, "lengths: expected integers, got dtype float64"),
    ({"lengths": np.ones(3, bool)}, "lengths: expected integers, got dtype bool"),
    ({"lengths": ["1", "2", "3"]}, "lengths: expected integers, got dtype str32"),
    ({"lengths": [1, 2]}, "lengths: expected shape (3,), got shape (2,)"),
    ({"lengths": np.ones((3, 1), int)}, "lengths: expected shape (3,), got shape (3, 1)"),
    ({"resets": np.zeros((3, 5), bool)}, "resets: expected shape (T, B) = (5, 3), got shape (3, 5)"),
    ({"resets": np.zeros(3, bool)}, "resets: expected shape (T, B) = (5, 3), got shape (3,)"),
    ({"resets": np.zeros((5, 3), int)}, "resets: expected dtype bool, got dtype int64"),
)

KINDS = each(
    ({"cell": "lstm"}, "cell: expected a cell, such as rnn_gpu.cells.lstm, got str"),
    ({"x": CALL.x.tolist()}, f"x: expected {ARRAY}, got builtins.list"),
    ({"x": None}, f"x: expected {ARRAY}, got builtins.NoneType"),
    ({"x": np.ma.array(CALL.x)}, f"x: expected {ARRAY}, got numpy.ma.MaskedArray"),
    ({"x": torch.tensor(CALL.x)}, "w_hh: expected a torch array on cpu as x is, got a numpy array on cpu"),
    ({"x": torch.tensor(CALL.x).to_sparse()}, "x: expected a dense tensor, got one of layout torch.sparse_coo"),
    ({"weights": tuple(dict(CALL.weights.items()).values())}, "weights: expected rnn_gpu.Weights, got tuple"),
    (
        weights(w_hh=torch.tensor(CALL.weights.w_hh)),
        "w_hh: expected a numpy array on cpu as x is, got a torch array on cpu",
    ),
    (weights(w_hh=CALL.weights.w_hh.tolist()), f"w_hh: expected {ARRAY}, got builtins.list"),
    (weights(b_ih=0.0), f"b_ih: expected {ARRAY}, got builtins.float"),
    (weights(vectors=None), "vectors: expected a mapping of arrays by name, got None"),
    (weights(vectors=[np.zeros(6)] * 3), "vectors: expected a mapping of arrays by name, got list"),
    ({"initial": CALL.initial[0]}, "initial: expected a tuple of 2 (B, H) arrays, got ndarray"),
    ({"initial": (CALL.initial[0], 0)}, f"initial[1] (c): expected {ARRAY}, got builtins.int"),
    (
        {"initial": (torch.tensor(CALL.initial[0]), None)},
        "initial[0] (h): expected a numpy array on cpu as x is, got a torch array on cpu",
    ),
    ({"lengths": 5}, "lengths: expected an array or sequence of (B,) integers, got int"),
    ({"lengths": {1, 2, 3}}, f"lengths: expected {ARRAY}, got builtins.set"),
    ({"lengths": np.ma.array([1, 2, 3])}, f"lengths: expected {ARRAY}, got numpy.ma.MaskedArray"),
    ({"resets": True}, "resets: expected an array or sequence of (T, B) bools, got bool"),
    ({"reverse": 1}, "reverse: expected a bool, got int"),
    ({"save": None}, "save: expected a bool, got None"),
    ({"tf32": "yes"}, "tf32: expected a bool, got str"),
)


@pytest.mark.parametrize(("changed", "message"), VALUES)
@pytest.mark.parametrize("function", [rnn_gpu.forward, rnn_gpu.explain])
def test_wrong_values(function, changed, message):
    refused(function, ArgumentError, message, **arguments() | changed)


@pytest.mark.parametrize(("changed", "message"), KINDS)
@pytest.mark.parametrize("function", [rnn_gpu.forward, rnn_gpu.explain])
def test_wrong_kinds(function, changed, message):
    refused(function, ArgumentTypeError, message, **arguments() | changed)


def test_a_ragged_sequence():
    with pytest.raises(ArgumentError, match=r"^lengths: expected \(B,\) integers, got a sequence that is no array \("):
        rnn_gpu.forward(**arguments() | {"lengths": [[1], [2, 3], 4]})


def test_the_number_of_units_is_told_by_x_alone():
    @cell(gates="zn", states="h")
    def no_products(Wx, U, h):
        return sigmoid(Wx.z) * h + Wx.n

    x, nothing = np.zeros((5, 3, 7)), rnn_gpu.Weights(None, None)
    for function, given, message in (
        (rnn_gpu.forward, {"x": x}, "x: expected W x_t of shape (T, B, 2*H), H at least 1, got shape (5, 3, 7)"),
        (rnn_gpu.step, {"x_t": x[0]}, "x_t: expected W x_t of shape (B, 2*H), H at least 1, got shape (3, 7)"),
    ):
        refused(function, ArgumentError, message, cell=no_products, weights=nothing, **given)
    assert rnn_gpu.step(no_products, x[0, :, :6], nothing, backend="numpy_cpu")[0].shape == (3, 3)


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    each(
        ({"x_t": CALL.x}, ArgumentError, "x_t: expected a (B, I) array, got shape (5, 3, 4)"),
        ({"x_t": [[1.0]]}, ArgumentTypeError, f"x_t: expected {ARRAY}, got builtins.list"),
        (
            {"x_t": CALL.x[0, :, :3]},
            ArgumentError,
            "x_t: expected shape (B, 4) as w_ih has shape (24, 4), got shape (3, 3)",
        ),
        ({"x_t": np.zeros((3, 4), int)}, ArgumentError, f"x_t: expected {FLOATS}, got int64"),
        (
            weights(w_ih=None),
            ArgumentError,
            "x_t: expected W x_t of shape (B, 24) as w_ih is None, got shape (3, 4)",
        ),
        ({"state": (BIG, None)}, ArgumentError, "state[0] (h): expected shape (3, 6), got shape (3, 7)"),
        ({"state": CALL.initial[:1]}, ArgumentError, "state: expected 2 arrays (state[0] (h), state[1] (c)), got 1"),
        ({"state": BIG}, ArgumentTypeError, "state: expected a tuple of 2 (B, H) arrays, got ndarray"),
        ({"resets": np.zeros(2, bool)}, ArgumentError, "resets: expected shape (B,) = (3,), got shape (2,)"),
        ({"resets": [True]}, ArgumentError, "resets: expected shape (B,) = (3,), got shape (1,)"),
        ({"resets": True}, ArgumentTypeError, "resets: expected an array or sequence of (B,) bools, got bool"),
        ({"resets": np.zeros(3)}, ArgumentError, "resets: expected dtype bool, got dtype float64"),
        ({"x_t": np.ma.array(CALL.x[0])}, ArgumentTypeError, f"x_t: expected {ARRAY}, got numpy.ma.MaskedArray"),
    ),
)
def test_step(changed, error, message):
    given = {"cell": CALL.cell, "x_t": CALL.x[0], "weights": CALL.weights, "state": CALL.initial}
    refused(rnn_gpu.step, error, message, **given | changed)


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    each(
        ({"tape": None}, ArgumentTypeError, "tape: expected the tape that forward returned, got NoneType"),
        ({"dy": CALL.dy[:4]}, ArgumentError, "dy: expected shape (5, 3, 6), got shape (4, 3, 6)"),
        ({"dy": CALL.dy.astype("float32")}, ArgumentError, "dy: expected dtype float64 as x is, got float32"),
        ({"dy": CALL.dy.tolist()}, ArgumentTypeError, f"dy: expected {ARRAY}, got builtins.list"),
        (
            {"dy": torch.tensor(CALL.dy)},
            ArgumentTypeError,
            "dy: expected a numpy array on cpu as x is, got a torch array on cpu",
        ),
        ({"dlast": CALL.dlast[:1]}, ArgumentError, "dlast: expected 2 arrays (dlast[0] (h), dlast[1] (c)), got 1"),
        ({"dlast": (None, BIG)}, ArgumentError, "dlast[1] (c): expected shape (3, 6), got shape (3, 7)"),
        ({"dlast": CALL.dlast[0]}, ArgumentTypeError, "dlast: expected a tuple of 2 (B, H) arrays, got ndarray"),
        ({"dy": None}, ArgumentError, "dy: expected the gradient of y, or of a last state, got neither"),
        (
            {"dy": None, "dlast": (None, None)},
            ArgumentError,
            "dy: expected the gradient of y, or of a last state, got neither",
        ),
    ),
)
def test_backward(changed, error, message):
    tape = rnn_gpu.forward(**arguments()).tape
    refused(rnn_gpu.backward, error, message, **{"tape": tape, "dy": CALL.dy} | changed)


def test_backward_of_a_call_that_saved_nothing():
    message = "tape: expected that of a forward call with save=True, got one of a call with save=False"
    tape = rnn_gpu.forward(**arguments(), save=False).tape
    refused(rnn_gpu.backward, ArgumentError, message, tape=tape, dy=CALL.dy)


def test_what_was_right_before_is_judged_anew():
    """A call like another, but for what its lengths and resets hold, and a dy unlike that of another call."""
    lengths, resets = np.array([5, 0, 2]), np.zeros((5, 3), bool)
    good = arguments() | {"lengths": lengths, "resets": resets}
    tape = rnn_gpu.forward(**good).tape
    again = rnn_gpu.forward(**good | {"lengths": [1, 1, 1]}).tape
    assert again.problem is tape.problem
    assert (tape.inputs.lengths.tolist(), again.inputs.lengths.tolist()) == ([5, 0, 2], [1, 1, 1])
    message = "lengths: expected values from 0 to T = 5, got 6 in row 1"
    refused(rnn_gpu.forward, ArgumentError, message, **good | {"lengths": np.array([5, 6, 2])})
    message = "resets: expected dtype bool, got dtype int64"
    refused(rnn_gpu.forward, ArgumentError, message, **good | {"resets": resets.astype(np.int64)})
    for dy in (CALL.dy, CALL.dy):
        rnn_gpu.backward(tape, dy)
    refused(rnn_gpu.backward, ArgumentError, "dy: expected shape (5, 3, 6), got shape (3, 7)", tape=tape, dy=BIG)
    message = "dy: expected dtype float64 as x is, got int64"
    refused(rnn_gpu.backward, ArgumentError, message, tape=tape, dy=CALL.dy.astype(np.int64))
    message = "dy: expected the gradient of y, or of a last state, got neither"
    refused(rnn_gpu.backward, ArgumentError, message, tape=tape)


def test_a_tape_survives_a_bad_call():
    tape = rnn_gpu.forward(**arguments()).tape
    expected = rnn_gpu.backward(tape, CALL.dy).x
    with pytest.raises(ArgumentError):
        rnn_gpu.backward(tape, CALL.dy[:1])
    assert np.array_equal(rnn_gpu.backward(tape, CALL.dy).x, expected)


FLAT = {"backend": "numpy_cpu", "x": CALL.x, "w_ih": CALL.weights.w_ih, "w_hh": CALL.weights.w_hh}
LSTM = {**FLAT, "h0": None, "c0": None}
RNN = {**FLAT, "h0": None, "w_ih": FLAT["w_ih"][:6], "w_hh": FLAT["w_hh"][:6]}


@pytest.mark.parametrize(
    ("function", "given", "error", "message"),
    each(
        (rnn_gpu.lstm_forward, LSTM | {"c0": BIG}, ArgumentError, "c0: expected shape (3, 6), got shape (3, 7)"),
        (rnn_gpu.lstm_forward, LSTM | {"h0": 0.0}, ArgumentTypeError, f"h0: expected {ARRAY}, got builtins.float"),
        (
            rnn_gpu.lstm_forward,
            LSTM | {"w_hh": None},
            ArgumentError,
            "w_hh: expected an array, as cell lstm has recurrent products, got None",
        ),
        (
            rnn_gpu.gru_forward,
            RNN,
            ArgumentError,
            "w_hh: expected shape (18, 6), a block for each gate of cell gru (r, z, n), got shape (6, 6)",
        ),
        (rnn_gpu.gru_forward, RNN | {"reset_after": "yes"}, ArgumentTypeError, "reset_after: expected a bool, got str"),
        (
            rnn_gpu.rnn_forward,
            RNN | {"activation": "selu"},
            ArgumentError,
            "activation: expected 'tanh' or 'relu', got 'selu'",
        ),
        (rnn_gpu.rnn_forward, RNN | {"activation": []}, ArgumentError, "activation: expected 'tanh' or 'relu', got []"),
    ),
)
def test_drop_ins(function, given, error, message):
    refused(function, error, message, **given)


def test_drop_ins_backward():
    of_lstm = rnn_gpu.lstm_forward(**LSTM)[2]
    of_rnn = rnn_gpu.rnn_forward(**RNN)[2]
    message = "tape: expected that of gru_forward, got one of cell lstm"
    refused(rnn_gpu.gru_backward, ArgumentTypeError, message, tape=of_lstm, dy=CALL.dy)
    message = "tape: expected that of lstm_forward, got one of cell rnn"
    refused(rnn_gpu.lstm_backward, ArgumentTypeError, message, tape=of_rnn, dy=CALL.dy)
    message = "tape: expected that of rnn_forward, got tuple"
    refused(rnn_gpu.rnn_backward, ArgumentTypeError, message, tape=(of_rnn,), dy=CALL.dy)
    message = "dc_n: expected shape (3, 6), got shape (3, 7)"
    refused(rnn_gpu.lstm_backward, ArgumentError, message, tape=of_lstm, dc_n=BIG)
    message = "dy: expected the gradient of y, or of a last state, got neither"
    refused(rnn_gpu.rnn_backward, ArgumentError, message, tape=of_rnn)
