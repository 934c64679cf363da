"""`Weights` as arrays by name, as files have them, and as it is shown."""

from __future__ import annotations

import numpy as np
import pytest

import rnn_gpu
from rnn_gpu import cells
from rnn_gpu.errors import ArgumentError
from rnn_gpu.weights import Weights, init_weights


@pytest.mark.parametrize("cell", [cells.gru, cells.lstm_peephole, cells.indrnn], ids=lambda cell: cell.name)
@pytest.mark.parametrize("named", [False, True])
def test_what_a_file_has_becomes_the_same_weights(cell, named, tmp_path):
    weights = init_weights(cell, 5, 4, dtype="float32")
    np.savez(tmp_path / "w.npz", **dict(weights.items()))
    with np.load(tmp_path / "w.npz") as file:
        again = Weights.of(file, cell.vectors) if named else Weights.of(file)
    x = np.ones((3, 2, 5), np.float32)
    np.testing.assert_array_equal(rnn_gpu.forward(cell, x, again).y, rnn_gpu.forward(cell, x, weights).y)


def test_a_wrong_name_is_refused():
    arrays = dict(init_weights(cells.gru, 5, 4).items())
    arrays["bias_hh"] = arrays.pop("b_hh")
    x = np.ones((3, 2, 5), np.float32)
    with pytest.raises(ArgumentError, match=r"^arrays: expected w_ih, .* nothing else, got .*bias_hh$"):
        Weights.of(arrays, cells.gru.vectors)
    with pytest.raises(ArgumentError, match=r"^vectors: expected those of cell gru \(none\), got bias_hh$"):
        rnn_gpu.forward(cells.gru, x, Weights.of(arrays))


def test_a_vector_that_is_missing_is_refused():
    arrays = dict(init_weights(cells.lstm_peephole, 5, 4).items())
    del arrays["p_f"]
    with pytest.raises(ArgumentError, match=r"^arrays: expected .*, and p_i, p_f, p_o, got "):
        Weights.of(arrays, cells.lstm_peephole.vectors)


def test_it_is_shown_by_dtypes_and_shapes():
    weights = init_weights(cells.indrnn, 5, 4, dtype="float32")
    assert repr(weights) == "Weights(w_ih: float32 (4, 5), b_ih: float32 (4,), u: float32 (4,))"
