"""Calls on addresses give the bits that calls on arrays give, for every cell they take; others they leave alone."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest

import rnn_gpu
from rnn_gpu import cells, functional
from rnn_gpu.dispatch import BACKENDS, Ends
from rnn_gpu.kernels.numba_cpu import direct as direct_module
from rnn_gpu.kernels.numba_cpu.direct import MOST_TABLES, _ragged
from rnn_gpu.kernels.numba_cpu.host import TRAITS
from rnn_gpu.kernels.numba_cpu.packing import no_states
from rnn_gpu.problem import describe
from rnn_gpu.threads import set_threads

pytestmark = pytest.mark.usefixtures("even_small_calls_are_shared")

BACKEND = BACKENDS["numba_cpu"]
T, B, I, H = 11, 5, 3, 21

TAKEN = [cell for cell in cells.ALL.values() if not cell.vectors and cell.recurrent_gates]


def address(array):
    return 0 if array is None else array.ctypes.data


def drawn(cell, dtype, *, biases=True, initial=False, batch=B, T=T, I=I, H=H):
    rng = np.random.default_rng(5)

    def array(*shape):
        return rng.standard_normal(shape).astype(dtype)

    weights = rnn_gpu.init_weights(cell, I, H, seed=1).map(lambda weight: weight.astype(dtype))
    weights = rnn_gpu.Weights(weights.w_ih, weights.w_hh, *((weights.b_ih, weights.b_hh) if biases else ()))
    states = tuple(array(batch, H) for _ in cell.states) if initial else None
    return array(T, batch, I), weights, states, array(T, batch, H), tuple(array(batch, H) for _ in cell.states)


def by_arrays(cell, x, weights, states, dy, dlast, **options):
    y, last, tape = rnn_gpu.forward(cell, x, weights, states, backend="numba_cpu", **options)
    gradients = functional.backward(tape, dy, dlast)
    return [y, *last, gradients.x, *dict(gradients.weights.items()).values(), *(gradients.initial if states else ())]


def by_addresses(cell, x, weights, states, dy, dlast, with_dx=True, batch_sizes=None, **options):
    shaped = x if batch_sizes is None else np.zeros((1, batch_sizes[0], x.shape[1]), x.dtype)
    problem, _ = describe(cell, shaped, weights, initial=states, **options)
    direct = BACKEND.direct(problem)
    nothing = (None,) * len(cell.states)
    four = [weights.w_ih, weights.w_hh, weights.b_ih, weights.b_hh]

    def like(arrays):
        return [None if array is None else np.full_like(array, np.nan) for array in arrays]

    y = np.full((*x.shape[:-1], problem.H), np.nan, x.dtype)
    lengths = options.get("lengths")
    ends = None if batch_sizes is None else Ends(True, batch_sizes)
    ends = ends if lengths is None else Ends(False, lengths)
    kept = np.full(direct.kept_bytes(ends) // x.itemsize, np.nan, x.dtype)
    last = [np.full((problem.B, problem.H), np.nan, x.dtype) for _ in cell.states]
    dx, *d_weights = like([x if with_dx else None, *four])
    d_initial = like(states or nothing)

    def addresses(arrays):
        return tuple(map(address, arrays))

    of_rows = ends, address(options.get("resets"))
    direct.forward(
        addresses(four), address(x), address(y), addresses(states or nothing), addresses(last), address(kept),
        *of_rows,
    )  # fmt: skip
    if not options.get("save", True):
        return [y, *last]
    direct.backward(
        addresses(four), address(x), address(dy), addresses(dlast or nothing), addresses([dx, *d_weights]),
        addresses(d_initial), address(kept), *of_rows,
    )  # fmt: skip
    return [array for array in (y, *last, dx, *d_weights, *d_initial) if array is not None]


def assert_same_bits(found, expected):
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("cell", TAKEN, ids=lambda cell: cell.name)
def test_every_cell_gives_the_same_bits(cell, dtype):
    for initial in (False, True):
        for threads in (1, 2):
            set_threads(threads)
            given = drawn(cell, dtype, initial=initial)
            assert_same_bits(by_addresses(cell, *given), by_arrays(cell, *given))


@pytest.mark.parametrize("options", [{"reverse": True}, {"recompute": True}], ids=str)
@pytest.mark.parametrize("cell", [cells.lstm, cells.gru, cells.gru_2014, cells.rnn], ids=lambda cell: cell.name)
def test_options_give_the_same_bits(cell, options):
    for batch in (1, B):
        given = drawn(cell, np.float32, initial=True, batch=batch)
        assert_same_bits(by_addresses(cell, *given, **options), by_arrays(cell, *given, **options))


@pytest.mark.parametrize("options", [{}, {"reverse": True}, {"recompute": True}, {"save": False}], ids=str)
@pytest.mark.parametrize("cell", [cells.lstm, cells.gru, cells.gru_2014, cells.rnn], ids=lambda cell: cell.name)
def test_resets_give_the_same_bits(cell, options):
    for seed, (batch, H) in enumerate([(1, 21), (B, 21), (3, 2 * PANEL)]):
        resets = np.random.default_rng(seed).random((T, batch)) < 0.3
        for initial in (False, True):
            given = drawn(cell, np.float32, initial=initial, batch=batch, H=H)
            for threads in (1, 2):
                set_threads(threads)
                found = by_addresses(cell, *given, resets=resets, **options)
                if options.get("save", True):
                    assert_same_bits(found, by_arrays(cell, *given, resets=resets, **options))
                else:
                    y, last, _ = rnn_gpu.forward(cell, *given[:3], resets=resets, save=False, backend="numba_cpu")
                    assert_same_bits(found, [y, *last])


def test_tables_hold_what_they_point_to():
    """Though two threads at once each made what tables have in common, and the one's was let go."""
    x, weights, *_ = drawn(cells.gru, np.float32)
    problem, _ = describe(cells.gru, x, weights)
    direct = BACKEND.direct(problem)
    table = direct._table_of(direct._full, False, 1)
    base = direct.__dict__.pop("_forward")
    held = weakref.ref(base.held["initial"])
    no_states.cache_clear()
    del base
    gc.collect()
    assert held() is not None
    assert address(held()) == table.written[direct_module._FORWARD["initial"]]


@pytest.mark.parametrize("options", [{}, {"reverse": True}, {"recompute": True}, {"save": False}], ids=str)
@pytest.mark.parametrize("cell", [cells.lstm, cells.gru, cells.gru_2014, cells.rnn], ids=lambda cell: cell.name)
def test_lengths_give_the_same_bits(cell, options):
    """In any order, with resets and without, where x and dy hold anything behind the ends."""
    for seed, (lengths, H) in enumerate([([3, 11, 1, 7, 7], 21), ([11] * 5, 21), ([4, 9], 2 * PANEL), ([5], 21)]):
        lengths, batch = np.array(lengths), len(lengths)
        there = np.arange(T)[:, None] < lengths
        for resets in (None, (np.random.default_rng(seed).random((T, batch)) < 0.3) & there):
            for initial in (False, True):
                x, weights, states, dy, dlast = drawn(cell, np.float32, initial=initial, batch=batch, H=H)
                x[~there] = dy[~there] = np.nan
                chosen = {"lengths": lengths} | ({} if resets is None else {"resets": resets}) | options
                for threads in (1, 2):
                    set_threads(threads)
                    found = by_addresses(cell, x, weights, states, dy, dlast, **chosen)
                    if options.get("save", True):
                        assert_same_bits(found, by_arrays(cell, x, weights, states, dy, dlast, **chosen))
                    else:
                        y, last, _ = rnn_gpu.forward(cell, x, weights, states, backend="numba_cpu", **chosen)
                        assert_same_bits(found, [y, *last])


PANEL = TRAITS.panel(4)


@pytest.mark.parametrize(
    "sizes", [(1, 1, 1, 1), (1, 3, 2, PANEL), (4, 2, PANEL, 2 * PANEL), (3, 9, 1, TRAITS.lanes(4))], ids=str
)
@pytest.mark.parametrize("cell", [cells.lstm, cells.gru, cells.gru_2014, cells.rnn], ids=lambda cell: cell.name)
def test_sizes_give_the_same_bits(cell, sizes):
    """Small ones, gradients that need no copy, and units that a team shares."""
    T, batch, I, H = sizes
    for initial in (False, True):
        given = drawn(cell, np.float32, initial=initial, batch=batch, T=T, I=I, H=H)
        for threads in (1, 2):
            set_threads(threads)
            expected = by_arrays(cell, *given)
            assert_same_bits(by_addresses(cell, *given), expected)
            assert_same_bits(by_addresses(cell, *given, save=False), expected[: 1 + len(cell.states)])


@pytest.mark.parametrize("cell", [cells.lstm, cells.gru, cells.rnn], ids=lambda cell: cell.name)
def test_what_is_not_given_or_not_wanted(cell):
    x, weights, states, dy, dlast = drawn(cell, np.float32, biases=False, initial=True)
    for d_y, d_last in ((dy, None), (None, dlast), (None, (dlast[0], *[None] * (len(dlast) - 1)))):
        given = x, weights, states, d_y, d_last
        assert_same_bits(by_addresses(cell, *given), by_arrays(cell, *given))
    expected = by_arrays(cell, x, weights, states, dy, dlast)
    del expected[1 + len(cell.states)]  # the gradient of x
    for threads in (1, 2, 3):
        set_threads(threads)
        for options in ({}, {"recompute": True}):
            found = by_addresses(cell, x, weights, states, dy, dlast, with_dx=False, **options)
            assert_same_bits(found, expected)


def packed(array, lengths):
    """(T, B, ...) as (n_rows, ...): of rows of falling length, those that run at each step."""
    return np.concatenate([array[t, : np.count_nonzero(lengths > t)] for t in range(len(array))])


@pytest.mark.parametrize("lengths", [[11, 7, 7, 3, 1], [4, 4, 4, 4, 4], [11, 1, 1, 1, 1], [9]], ids=str)
@pytest.mark.parametrize("options", [{}, {"reverse": True}, {"recompute": True}], ids=str)
@pytest.mark.parametrize("cell", [cells.lstm, cells.gru, cells.gru_2014, cells.rnn], ids=lambda cell: cell.name)
def test_packed_batches_give_the_bits_of_padded_ones(cell, options, lengths):
    lengths = np.array(lengths)
    batch_sizes = np.array([np.count_nonzero(lengths > t) for t in range(lengths[0])])
    for sizes in ({}, {"I": PANEL, "H": 2 * PANEL}):
        x, weights, states, dy, dlast = drawn(cell, np.float32, initial=True, batch=lengths.size, T=lengths[0], **sizes)
        for threads in (1, 2):
            set_threads(threads)
            given = packed(x, lengths), weights, states, packed(dy, lengths), dlast
            y, *rest = by_arrays(cell, x, weights, states, dy, dlast, lengths=lengths, **options)
            n_states = len(cell.states)
            expected = [packed(y, lengths), *rest[:n_states], packed(rest[n_states], lengths), *rest[n_states + 1 :]]
            assert_same_bits(by_addresses(cell, *given, batch_sizes=batch_sizes, **options), expected)


def test_many_packed_batches_are_not_all_kept():
    x, weights, *_ = drawn(cells.gru, np.float32, batch=1, T=200)
    problem, _ = describe(cells.gru, x[:1], weights)
    direct = BACKEND.direct(problem)
    state, out = np.zeros((1, H), np.float32), np.zeros((1, H), np.float32)
    for n_steps in range(1, 200):
        sizes = Ends(True, np.ones(n_steps, np.int64))
        kept, y = np.empty(direct.kept_bytes(sizes), np.uint8), np.empty((n_steps, H), np.float32)
        four = tuple(map(address, (weights.w_ih, weights.w_hh, weights.b_ih, weights.b_hh)))
        direct.forward(four, address(x), address(y), (address(state),), (address(out),), address(kept), sizes)
        np.testing.assert_array_equal(y[-1], out[0])
    assert not direct._tables
    assert len(_ragged) == MOST_TABLES


def test_who_has_calls_on_addresses():
    x, weights, states, *_ = drawn(cells.lstm, np.float32, initial=True)
    problem, _ = describe(cells.lstm, x, weights, initial=states)
    assert [name for name in BACKENDS if BACKENDS[name].direct(problem) is not None] == ["numba_cpu"]
    peephole = rnn_gpu.init_weights(cells.lstm_peephole, I, H)
    half = weights.map(lambda weight: weight.astype(np.float16))
    for cell, x_given, given in (
        (cells.lstm, x.astype(np.float16), half),
        (cells.lstm_peephole, x, peephole),
        (cells.lstm, np.zeros((T, B, 4 * H), np.float32), rnn_gpu.Weights(None, weights.w_hh)),
        (cells.lstm, x[:0], weights),
    ):
        problem, _ = describe(cell, x_given, given)
        assert BACKEND.direct(problem) is None
