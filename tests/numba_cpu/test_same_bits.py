"""What must not change a bit of the compiled CPU backend's results: threads, batch, recomputing, freezing, chunks."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

import rnn_gpu
from rnn_gpu import cells
from rnn_gpu.compiler.language import cell, tanh
from rnn_gpu.kernels.numba_cpu import shares
from rnn_gpu.kernels.numba_cpu.host import AHEAD_BLOCKS, AHEAD_ROWS, TRAITS
from rnn_gpu.kernels.numba_cpu.layout import full_layout
from rnn_gpu.kernels.numba_cpu.plan import plan_of
from rnn_gpu.problem import describe
from rnn_gpu.threads import get_threads, set_threads
from tests.support.unusual import early_operand

pytestmark = pytest.mark.usefixtures("even_small_calls_are_shared")

BACKEND = "numba_cpu"
CELLS = [cells.lstm, cells.gru, cells.gru_2014, cells.lstm_peephole]


def drawn(cell, *, T=9, B=7, I=5, H=19, seed=0):
    rng = np.random.default_rng(seed)
    weights = rnn_gpu.init_weights(cell, I, H, seed=seed)
    x, dy = (rng.standard_normal((T, B, n)).astype(np.float32) for n in (I, H))
    options = {"lengths": rng.integers(0, T + 1, B), "resets": rng.random((T, B)) < 0.2}
    return x, weights, dy, options


def results(cell, x, weights, dy, **options):
    y, last, tape = rnn_gpu.forward(cell, x, weights, backend=BACKEND, **options)
    gradients = rnn_gpu.backward(tape, dy)
    return [y, *last, gradients.x, *gradients.initial, *(array for _, array in gradients.weights.items())]


def assert_same_bits(a, b):
    for first, second in zip(a, b, strict=True):
        np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("inputs", [1, 3, 5])
@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.name)
def test_threads_do_not_change_a_bit(cell, inputs):
    x, weights, dy, options = drawn(cell, I=inputs)
    for chosen in ({}, options):
        set_threads(1)
        alone = results(cell, x, weights, dy, **chosen)
        for threads in (2, 3, 7):
            set_threads(threads)
            assert_same_bits(alone, results(cell, x, weights, dy, **chosen))


@pytest.mark.parametrize("cell", [*CELLS, cells.indrnn], ids=lambda cell: cell.name)
@pytest.mark.parametrize("recompute", [False, True])
def test_a_team_over_the_hidden_units_does_not_change_a_bit(cell, recompute):
    for panels, rows in ((2, 1), (2, 3), (3, 2)):  # of three panels, a member of a team of two has one, the other two
        x, weights, dy, options = drawn(cell, T=70, B=rows, H=panels * TRAITS.panel(4) - 3)
        for chosen in ({}, options, {"reverse": True, **options}):
            set_threads(1)
            alone = results(cell, x, weights, dy, recompute=recompute, **chosen)
            for threads in (2, 3):
                set_threads(threads)
                assert_same_bits(alone, results(cell, x, weights, dy, recompute=recompute, **chosen))


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.name)
def test_a_thread_that_is_ahead_of_the_only_row_does_not_change_a_bit(cell):
    x, weights, dy, _ = drawn(cell, T=3 * AHEAD_BLOCKS * AHEAD_ROWS + 5, B=1)
    T = len(x)
    share = shares.forward_shares(plan_of(describe(cell, x, weights)[0]), full_layout(T, 1), 3)
    assert share.ahead
    assert len(share.offsets) == 2
    resets = np.random.default_rng(1).random((T, 1)) < 0.1
    for chosen in ({}, {"reverse": True}, {"lengths": np.array([T - 30]), "resets": resets, "reverse": True}):
        set_threads(1)
        alone = results(cell, x, weights, dy, **chosen)
        for threads in (2, 3):
            set_threads(threads)
            assert_same_bits(alone, results(cell, x, weights, dy, **chosen))


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.name)
@pytest.mark.parametrize("recompute", [False, True])
def test_a_team_over_the_hidden_units_takes_its_units_of_a_projected_input(cell, recompute):
    H = 2 * TRAITS.panel(4) - 3
    x, weights, dy, options = drawn(cell, T=70, B=2, I=len(cell.input_gates) * H, H=H)
    weights = replace(weights, w_ih=None)
    for chosen in ({}, options, {"reverse": True, **options}):
        set_threads(1)
        alone = results(cell, x, weights, dy, recompute=recompute, **chosen)
        set_threads(3)
        assert_same_bits(alone, results(cell, x, weights, dy, recompute=recompute, **chosen))


@cell(gates="a", states="h", vectors=("p",))
def operand_of_its_own(Wx, U, h, v):
    return tanh(Wx.a + U.a(v.p * h))


@cell(gates="h", states="hb")
def early_state(Wx, U, h, b):
    """The second state waits for no product, and is read by one."""
    return tanh(Wx.h + U.h(b)), 0.9 * b + 0.1 * h


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize(
    "cell", [operand_of_its_own, early_operand, early_state, cells.lstm, cells.gru_2014], ids=lambda cell: cell.name
)
def test_a_team_does_not_overtake_itself(cell, recompute):
    """What a member still reads, another must not write: an operand that is no state lies where the next step's does,
    which may not wait for a product; the states of two steps lie in turn in the same places; so does what is rebuilt.
    """
    x, weights, dy, _ = drawn(cell, T=400, B=1, H=512)
    set_threads(1)
    alone = results(cell, x, weights, dy, recompute=recompute)
    set_threads(2)
    for _ in range(10):
        assert_same_bits(alone, results(cell, x, weights, dy, recompute=recompute))


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.name)
def test_recomputing_does_not_change_a_bit_and_keeps_a_third(cell):
    x, weights, dy, options = drawn(cell)
    for chosen in ({}, options, {"reverse": True, **options}):
        assert_same_bits(
            results(cell, x, weights, dy, **chosen), results(cell, x, weights, dy, recompute=True, **chosen)
        )
    kept = [rnn_gpu.forward(cell, x, weights, backend=BACKEND, recompute=flag)[2].saved for flag in (False, True)]
    n_bytes = [saved.after.nbytes + saved.values.nbytes for saved in kept]
    n_states, n_saved = len(cell.states), len(cell.saved)
    assert n_bytes[1] / n_bytes[0] == n_states / (n_states + n_saved)
    assert n_bytes[1] <= n_bytes[0] / 3


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.name)
def test_a_row_does_not_depend_on_the_others(cell):
    x, weights, dy, options = drawn(cell, B=8)
    whole = results(cell, x, weights, dy, **options)
    for row in range(8):
        rows = slice(row, row + 1)
        alone = {"lengths": options["lengths"][rows], "resets": options["resets"][:, rows]}
        single = results(cell, x[:, rows], weights, dy[:, rows], **alone)
        np.testing.assert_array_equal(single[0], whole[0][:, rows])
        n_states = len(cell.states)
        for one, all_rows in zip(single[1 : 1 + n_states], whole[1 : 1 + n_states], strict=True):
            np.testing.assert_array_equal(one, all_rows[rows])
        np.testing.assert_array_equal(single[1 + n_states], whole[1 + n_states][:, rows])


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.name)
def test_frozen_weights_and_single_steps_do_not_change_a_bit(cell):
    x, weights, _, _ = drawn(cell)
    y, last, _ = rnn_gpu.forward(cell, x, weights, backend=BACKEND)
    for chosen in (weights, weights.frozen()):
        state = None
        for t in range(x.shape[0]):
            state = rnn_gpu.step(cell, x[t], chosen, state, backend=BACKEND)
            np.testing.assert_array_equal(state[0], y[t])
        assert_same_bits(state, last)


def test_frozen_weights_are_a_copy_that_cannot_change():
    _, weights, _, _ = drawn(cells.lstm)
    frozen = weights.frozen()
    before = frozen.w_hh.copy()
    weights.w_hh[:] = 0
    np.testing.assert_array_equal(frozen.w_hh, before)
    with pytest.raises(ValueError, match="read-only"):
        frozen.w_hh[0, 0] = 1


def test_frozen_weights_are_still_checked_against_each_call():
    x, weights, _, _ = drawn(cells.lstm)
    frozen = weights.frozen()
    rnn_gpu.step(cells.lstm, x[0], frozen, backend=BACKEND)
    with pytest.raises(rnn_gpu.errors.ArgumentError, match="w_ih"):
        rnn_gpu.step(cells.lstm, x[0][:, :3], frozen, backend=BACKEND)
    with pytest.raises(rnn_gpu.errors.ArgumentError, match="w_hh"):
        rnn_gpu.step(cells.gru, x[0], frozen, backend=BACKEND)
    with pytest.raises(rnn_gpu.errors.ArgumentError, match="float64"):
        rnn_gpu.step(cells.lstm, x[0].astype(np.float64), frozen, backend=BACKEND)


def test_number_of_threads(monkeypatch):
    set_threads(3)
    assert get_threads() == 3
    set_threads(None)
    monkeypatch.setenv("NUMBA_NUM_THREADS", "5")
    assert get_threads() == 5
    monkeypatch.setenv("NUMBA_NUM_THREADS", "7")
    assert get_threads() == 5, "the default is found once"
    for wrong, error in ((0, ValueError), (2.5, TypeError), ("2", TypeError), (True, TypeError)):
        with pytest.raises(error, match="threads: expected a whole number"):
            set_threads(wrong)
    set_threads(None)
    assert get_threads() == 7
    set_threads(None)
    monkeypatch.setenv("NUMBA_NUM_THREADS", " 2")
    assert get_threads() == 2, "Numba takes it, too"
    set_threads(None)
    monkeypatch.setenv("NUMBA_NUM_THREADS", "many")
    with pytest.raises(TypeError, match="NUMBA_NUM_THREADS: expected a whole number, got 'many'"):
        get_threads()


FORK = """
import os, sys
import numpy as np
import rnn_gpu
from rnn_gpu import cells
from rnn_gpu.kernels.numba_cpu import shares
shares.WORTH_A_THREAD = 1.0
rnn_gpu.set_threads(2)
weights, x = rnn_gpu.init_weights(cells.rnn, 3, 4), np.ones((5, 6, 3), np.float32)
y = rnn_gpu.forward(cells.rnn, x, weights, backend="numba_cpu").y
child = os.fork()
if child == 0:
    same = np.array_equal(y, rnn_gpu.forward(cells.rnn, x, weights, backend="numba_cpu").y)
    os._exit(0 if same else 1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_has_threads_of_its_own():
    assert subprocess.run([sys.executable, "-c", FORK], timeout=120, check=False).returncode == 0


@pytest.mark.parametrize("cell", [cells.rnn, cells.lstm], ids=lambda cell: cell.name)
def test_a_narrow_panel_gives_a_row_the_same_bits_in_every_batch(cell):
    """A panel of two vectors is multiplied otherwise for few rows than for many."""
    x, weights, dy, _ = drawn(cell, B=9, H=2 * TRAITS.lanes(4))
    y, *last, dx = results(cell, x, weights, dy)[: 2 + len(cell.states)]
    for rows in range(1, 9):
        found = results(cell, x[:, :rows], weights, dy[:, :rows])[: 2 + len(cell.states)]
        assert_same_bits(found, [y[:, :rows], *[state[:rows] for state in last], dx[:, :rows]])
