"""Layers on top of each other: the same as calling the layers one by one, and its gradients."""

from __future__ import annotations

import numpy as np
import pytest

import rnn_gpu
from rnn_gpu import cells, stack
from rnn_gpu.errors import ArgumentError, ArgumentTypeError
from rnn_gpu.resets import from_behind

T, B, I, H = 5, 3, 4, 6


@pytest.fixture(autouse=True)
def _reference_backend(monkeypatch):
    """What is tested here is the same on every backend; the reference needs no compilation."""
    monkeypatch.setenv("RNN_GPU_BACKEND", "numpy_cpu")


def make(cell, layers=2, seed=0):
    return [
        rnn_gpu.init_weights(cell, input_size=I if n == 0 else H, hidden_size=H, dtype="float64", seed=seed + n)
        for n in range(layers)
    ]


def random_states(cell, rng, layers=2):
    return tuple(tuple(rng.normal(size=(B, H)) for _ in cell.states) for _ in range(layers))


@pytest.mark.parametrize("name", ["lstm", "gru_2014", "indrnn"])
def test_is_one_layer_after_the_other(name):
    cell, rng = cells.ALL[name], np.random.default_rng(0)
    x, layers, start = rng.normal(size=(T, B, I)), make(cell), random_states(cell, rng)
    lengths = np.array([5, 0, 3])
    y, last, *_ = stack.forward(cell, x, layers, start, lengths=lengths)
    y0, last0, _ = rnn_gpu.forward(cell, x, layers[0], start[0], lengths=lengths)
    y1, last1, _ = rnn_gpu.forward(cell, y0, layers[1], start[1], lengths=lengths)
    assert np.array_equal(y, y1)
    for found, expected in zip((*last[0], *last[1]), (*last0, *last1), strict=True):
        assert np.array_equal(found, expected)


def test_gradients_match_finite_differences_through_dropout():
    cell, rng = cells.lstm, np.random.default_rng(1)
    x, layers, start = rng.normal(size=(T, B, I)), make(cell), random_states(cell, rng)
    dy, dlast = rng.normal(size=(T, B, H)), random_states(cell, rng)

    def run(save):
        return stack.forward(cell, x, layers, start, dropout=0.4, rng=np.random.default_rng(7), save=save)

    def objective():
        y, last, *_ = run(save=False)
        pairs = zip(last, dlast, strict=True)
        return np.sum(y * dy) + sum(np.sum(a * b) for p, q in pairs for a, b in zip(p, q, strict=True))

    grads = stack.backward(run(save=True)[2], dy, dlast)
    checked = [(x, grads.x)]
    for n, layer in enumerate(layers):
        found = dict(grads.layers[n].items())
        checked += [(array, found[key]) for key, array in layer.items()]
        checked += list(zip(start[n], grads.initial[n], strict=True))
    for array, gradient in checked:
        assert gradient.shape == array.shape
        for index in map(tuple, rng.integers(0, array.shape, size=(6, array.ndim))):
            kept = array[index]
            array[index] = kept + 1e-5
            above = objective()
            array[index] = kept - 1e-5
            below = objective()
            array[index] = kept
            np.testing.assert_allclose(gradient[index], (above - below) / 2e-5, rtol=1e-6, atol=1e-8)


def test_dropout_is_only_between_layers():
    cell, rng = cells.gru, np.random.default_rng(2)
    x, layers = rng.normal(size=(T, B, I)), make(cell)
    plain, dropped = (stack.forward(cell, x, layers, dropout=p, rng=np.random.default_rng(0))[1] for p in (0.0, 0.5))
    assert np.array_equal(plain[0][0], dropped[0][0])
    assert not np.array_equal(plain[1][0], dropped[1][0])
    y, *_ = stack.forward(cell, x, layers[:1], dropout=0.5, rng=np.random.default_rng(0))
    assert np.array_equal(y, stack.forward(cell, x, layers[:1])[0])


def test_the_mask_drops_its_share_and_keeps_the_mean():
    mask = stack.dropout_mask((200, 500), np.float32, 0.25, np.random.default_rng(0))
    assert mask.dtype == np.float32
    assert set(np.unique(mask)) == {np.float32(0), np.float32(1 / 0.75)}
    assert abs(np.mean(mask == 0) - 0.25) < 0.01


def test_steps_are_the_forward_pass():
    cell, rng = cells.lstm, np.random.default_rng(3)
    x, layers = rng.normal(size=(T, B, I)), make(cell, layers=3)
    y, last, *_ = stack.forward(cell, x, layers, save=False)
    states = None
    for t in range(T):
        states = stack.step(cell, x[t], layers, states)
        np.testing.assert_allclose(states[-1][0], y[t], rtol=1e-12, atol=1e-14)
    for found, expected in zip(states, last, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)


def test_steps_with_resets_are_the_forward_pass():
    cell, rng = cells.lstm, np.random.default_rng(3)
    x, layers, resets = rng.normal(size=(T, B, I)), make(cell, layers=2), rng.random((T, B)) < 0.4
    y, *_ = stack.forward(cell, x, layers, resets=resets, save=False)
    states = None
    for t in range(T):
        states = stack.step(cell, x[t], layers, states, resets=list(resets[t]))
        np.testing.assert_allclose(states[-1][0], y[t], rtol=1e-12, atol=1e-14)


def test_bad_calls_name_the_argument():
    cell, rng = cells.rnn, np.random.default_rng(4)
    x, layers = rng.normal(size=(T, B, I)), make(cell)
    with pytest.raises(ArgumentError, match="initial: expected a value for each of the 2 layers, got 1"):
        stack.forward(cell, x, layers, [None])
    with pytest.raises(ArgumentError, match="layers: expected at least one"):
        stack.forward(cell, x, [])
    with pytest.raises(ArgumentError, match="dropout: expected a probability"):
        stack.forward(cell, x, layers, dropout=1.0, rng=rng)
    with pytest.raises(ArgumentTypeError, match="rng: expected a random generator"):
        stack.forward(cell, x, layers, dropout=0.5)
    tape = stack.forward(cell, x, layers)[2]
    with pytest.raises(ArgumentError, match="dlast: expected a value for each of the 2 layers, got 3"):
        stack.backward(tape, None, [None] * 3)


def test_weights_that_do_not_fit_the_layer_below_are_to_blame():
    def weights(inputs, dtype="float64"):
        return rnn_gpu.init_weights(cells.lstm, inputs, 6, dtype=dtype)

    x = np.zeros((5, 3, 4))
    for layers, options, message in (
        ([weights(4), weights(7)], {}, r"^layers\[1\].w_ih: expected shape \(24, 6\), got shape \(24, 7\)$"),
        (
            [weights(4), weights(4), weights(6), weights(6)],
            {"bidirectional": True},
            r"^layers\[2\].w_ih: expected shape \(24, 12\)",
        ),
        ([weights(4), weights(6, "float32")], {}, r"^layers\[1\].w_hh: expected dtype float64 as x is, got float32$"),
        ([weights(5), weights(6)], {}, r"^x: expected shape \(T, B, 5\) as w_ih has shape \(24, 5\)"),
    ):
        with pytest.raises(ArgumentError, match=message):
            stack.forward(cells.lstm, x, layers, **options)
    with pytest.raises(ArgumentError, match=r"^layers\[1\].w_ih: expected shape \(24, 6\), got shape \(24, 7\)$"):
        stack.step(cells.lstm, x[0], [weights(4), weights(7)])
    with pytest.raises(ArgumentError, match=r"^x: expected shape \(B, 5\) as w_ih has shape \(24, 5\)"):
        stack.step(cells.lstm, x[0], [weights(5), weights(6)])
    with pytest.raises(ArgumentError, match=r"^states\[1\]\[0\] \(h\): expected shape \(3, 6\), got shape \(3, 7\)$"):
        stack.step(cells.lstm, x[0], [weights(4), weights(6)], [None, (np.zeros((3, 7)),) * 2])
    with pytest.raises(ArgumentError, match=r"^initial\[0\]\[1\] \(c\): expected shape \(3, 6\), got shape \(2, 6\)$"):
        stack.forward(cells.lstm, x, [weights(4)], [(np.zeros((3, 6)), np.zeros((2, 6)))])
    with pytest.raises(ArgumentTypeError, match=r"^layers\[1\]: expected rnn_gpu.Weights, got tuple$"):
        stack.forward(cells.lstm, x, [weights(4), ()])


def test_steps_of_16_bit_layers():
    layers = [rnn_gpu.init_weights(cells.lstm, 4, 4, dtype="float16", seed=k) for k in range(2)]
    x = np.random.default_rng(0).standard_normal((3, 2, 4)).astype(np.float16)
    y, last, *_ = stack.forward(cells.lstm, x, layers, backend="numpy_cpu")
    states = None
    for x_t in x:
        states = stack.step(cells.lstm, x_t, layers, states, backend="numpy_cpu")
    np.testing.assert_allclose(states[-1][0], y[-1], rtol=2e-3, atol=1e-3)
    np.testing.assert_allclose(states[0][1], last[0][1], rtol=2e-3, atol=1e-3)


def test_no_gradient_for_the_top_layer_is_one_of_zeros():
    layers = [rnn_gpu.init_weights(cells.rnn, 3, 3, dtype="float64", seed=k) for k in range(2)]
    x = np.random.default_rng(0).standard_normal((4, 2, 3))
    _, last, tape, _ = stack.forward(cells.rnn, x, layers, backend="numpy_cpu")
    dlast = [tuple(map(np.ones_like, last[0])), None]
    gradients = stack.backward(tape, None, dlast)
    alone = rnn_gpu.backward(rnn_gpu.forward(cells.rnn, x, layers[0], backend="numpy_cpu").tape, None, dlast[0])
    np.testing.assert_array_equal(gradients.x, alone.x)
    assert not any(array.any() for _, array in gradients.layers[1].items())


def both_ways(cell, layers=2, seed=0):
    return [
        rnn_gpu.init_weights(cell, I if place < 2 else 2 * H, H, dtype="float64", seed=seed + place)
        for place in range(2 * layers)
    ]


@pytest.mark.parametrize("name", ["lstm", "gru_2014", "lstm_peephole"])
def test_both_directions_and_all_states_have_right_gradients(name):
    cell, rng = cells.ALL[name], np.random.default_rng(5)
    x, layers, start = rng.normal(size=(T, B, I)), both_ways(cell), random_states(cell, rng, 4)
    lengths, resets = np.array([5, 0, 3]), rng.random((T, B)) < 0.3
    masks = [(rng.random((T, B, 2 * H)) < 0.5) * 2.0]

    def run():
        return stack.forward(cell, x, layers, start, lengths, resets, bidirectional=True, masks=masks, all_states=True)

    found = run()
    assert np.array_equal(found.states[1][0], found.y)
    dy, dlast = rng.normal(size=found.y.shape), random_states(cell, rng, 4)
    dstates = [[rng.normal(size=state.shape) for state in layer] for layer in found.states]

    def objective():
        now = run()
        pairs = [(now.y, dy)]
        pairs += [pair for a, b in zip(now.last, dlast, strict=True) for pair in zip(a, b, strict=True)]
        pairs += [pair for a, b in zip(now.states, dstates, strict=True) for pair in zip(a, b, strict=True)]
        return sum(np.sum(a * b) for a, b in pairs)

    grads = stack.backward(found.tape, dy, dlast, dstates)
    checked = [(x, grads.x)]
    for place, layer in enumerate(layers):
        of_layer = dict(grads.layers[place].items())
        checked += [(array, of_layer[key]) for key, array in layer.items()]
        checked += list(zip(start[place], grads.initial[place], strict=True))
    for array, gradient in checked:
        for index in map(tuple, rng.integers(0, array.shape, size=(3, array.ndim))):
            kept = array[index]
            array[index] = kept + 1e-5
            above = objective()
            array[index] = kept - 1e-5
            below = objective()
            array[index] = kept
            np.testing.assert_allclose(gradient[index], (above - below) / 2e-5, rtol=1e-6, atol=1e-8)


def test_resets_cut_both_directions_at_one_place():
    cell, rng = cells.gru, np.random.default_rng(6)
    x, layers = rng.normal(size=(T, 1, I)), both_ways(cell)
    resets = np.zeros((T, 1), bool)
    resets[[2, 3]] = True
    whole = stack.forward(cell, x, layers, resets=resets, bidirectional=True).y
    pieces = [stack.forward(cell, part, layers, bidirectional=True).y for part in np.split(x, [2, 3])]
    np.testing.assert_allclose(whole, np.concatenate(pieces), rtol=1e-12, atol=1e-14)


def test_bad_calls_of_both_directions():
    cell, rng = cells.rnn, np.random.default_rng(7)
    x, layers = rng.normal(size=(T, B, I)), both_ways(cell)
    with pytest.raises(ArgumentError, match="layers: expected two Weights for each bidirectional layer, got 3"):
        stack.forward(cell, x, layers[:3], bidirectional=True)
    with pytest.raises(ArgumentError, match="reverse: expected False, as a bidirectional stack runs both ways"):
        stack.forward(cell, x, layers, reverse=True, bidirectional=True)
    with pytest.raises(ArgumentError, match="masks: expected 1 arrays, one between two layers, got 2"):
        stack.forward(cell, x, layers, bidirectional=True, masks=[x, x])


def test_resets_behind_a_rows_end_do_not_reach_the_way_back():
    """As they come from a device, where they are not looked at: on the host they have been left out before."""
    resets = np.zeros((T, B), bool)
    resets[3, 0] = resets[2, 1] = True
    shifted = from_behind(resets, np.array([3, 5, 0]))
    assert not shifted[:, 0].any()
    assert list(np.flatnonzero(shifted[:, 1])) == [1]
    assert np.array_equal(from_behind(resets, None)[:-1], resets[1:])


def test_what_is_infinite_goes_between_layers_without_a_warning():
    x, layers, mask = np.full((T, B, I), np.inf), make(cells.rnn_relu), np.zeros((T, B, H))
    layers = [weights.map(np.abs) for weights in layers]
    y, _, tape, _ = stack.forward(cells.rnn_relu, x, layers, masks=[mask])
    assert np.isnan(y).all()
    assert np.isnan(stack.backward(tape, np.full_like(y, np.inf)).x).all()
