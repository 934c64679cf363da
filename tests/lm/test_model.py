"""The whole model: gradients, steps, generation, and that it learns."""

from __future__ import annotations

import numpy as np
import pytest

from rnn_gpu import cells
from rnn_gpu.lm import corpus
from rnn_gpu.lm.corpus import Chunk
from rnn_gpu.lm.generate import draw, generate
from rnn_gpu.lm.model import LanguageModel
from rnn_gpu.lm.optimizers import Adam

V, H, T, B = 7, 5, 6, 3


def make_chunk(rng):
    ids = rng.integers(0, V, (T + 1, B)).astype(np.int32)
    return Chunk(ids[:-1], ids[1:])


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("name", ["lstm", "gru", "gru_2014", "lstm_peephole", "indrnn"])
def test_gradients_of_the_whole_loss_match_finite_differences(name, dropout):
    cell, rng = cells.ALL[name], np.random.default_rng(0)
    model, chunk = LanguageModel(cell, V, H, layers=2, seed=1, dtype="float64"), make_chunk(rng)
    states = tuple(tuple(rng.normal(size=(B, H)) for _ in cell.states) for _ in range(2))

    def run():
        return model.gradients(chunk, states, dropout, np.random.default_rng(5))

    found = run()
    assert list(found.parameters) == list(model.parameters)
    for key, array in model.parameters.items():
        gradient = found.parameters[key]
        assert gradient.shape == array.shape
        for index in {tuple(i) for i in rng.integers(0, array.shape, size=(8, array.ndim))}:
            kept = array[index]
            array[index] = kept + 1e-5
            above = run().loss
            array[index] = kept - 1e-5
            below = run().loss
            array[index] = kept
            expected = (above - below) / 2e-5 / (T * B)
            np.testing.assert_allclose(gradient[index], expected, rtol=1e-6, atol=1e-9, err_msg=f"{key}{index}")


def test_loss_without_gradients_is_the_same_loss_and_states_carry_over():
    cell, rng = cells.lstm, np.random.default_rng(1)
    model, chunk = LanguageModel(cell, V, H, layers=2, seed=1, dtype="float64"), make_chunk(rng)
    whole, last = model.loss(chunk)
    found = model.gradients(chunk)
    assert found.loss == pytest.approx(whole, rel=1e-14)
    first, states = model.loss(Chunk(chunk.inputs[:2], chunk.targets[:2]))
    second, states = model.loss(Chunk(chunk.inputs[2:], chunk.targets[2:]), states)
    assert first + second == pytest.approx(whole, rel=1e-13)
    for a, b in zip((s for layer in states for s in layer), (s for layer in last for s in layer), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-13, atol=1e-15)


def test_a_new_model_predicts_nothing_in_particular():
    model, chunk = LanguageModel(cells.lstm, 1000, 16, layers=1, seed=0), make_chunk(np.random.default_rng(2))
    loss, _ = model.loss(chunk)
    assert loss / chunk.targets.size == pytest.approx(np.log(1000), rel=0.02)
    assert {array.dtype for array in model.parameters.values()} == {np.dtype(np.float32)}


def test_seeds_give_the_same_and_different_parameters():
    one, same, other = (LanguageModel(cells.gru, V, H, layers=2, seed=s).parameters for s in (3, 3, 4))
    assert all(np.array_equal(one[key], same[key]) for key in one)
    assert not np.array_equal(one["embedding"], other["embedding"])
    assert not np.array_equal(one["layers.0.w_hh"], one["layers.1.w_hh"])


def test_steps_give_the_logits_of_the_loss():
    cell, rng = cells.lstm, np.random.default_rng(3)
    model, chunk = LanguageModel(cell, V, H, layers=2, seed=1, dtype="float64"), make_chunk(rng)
    total, states = 0.0, None
    for inputs, targets in zip(chunk.inputs, chunk.targets, strict=True):
        logits, states = model.step(inputs, states)
        total += (np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(B), targets]).sum()
    assert total == pytest.approx(model.loss(chunk)[0], rel=1e-12)


@pytest.mark.parametrize("name", sorted(cells.ALL))
def test_every_cell_learns_a_repeating_text(name):
    model = LanguageModel(cells.ALL[name], 4, 64, layers=1, seed=0)
    optimizer = Adam(model.parameters)
    laid_out = corpus.streams(np.tile(np.array([0, 1, 2, 0, 3], np.int32), 40), 4)
    losses: list[float] = []
    while not losses or (losses[-1] > 0.1 and len(losses) < 400):
        states = None
        for chunk in corpus.chunks(laid_out, 10):
            result = model.gradients(chunk, states)
            optimizer.step(model.parameters, result.parameters, 0.01)
            states = result.states
            losses.append(result.loss / chunk.targets.size)
    assert losses[0] > 1.2
    assert losses[-1] < 0.1, "less than 0.277, with which the last token alone could be predicted from"


def test_drawing_follows_the_probabilities_and_the_temperature():
    rng, p = np.random.default_rng(0), np.array([0.5, 0.3, 0.2])
    for temperature in (1.0, 0.5):
        drawn = np.bincount([draw(np.log(p), temperature, rng) for _ in range(20_000)], minlength=3) / 20_000
        expected = p ** (1 / temperature) / (p ** (1 / temperature)).sum()
        np.testing.assert_allclose(drawn, expected, atol=0.015)


@pytest.mark.parametrize("temperature", [0.0, 1e-300, 1e-3])
def test_low_temperatures_take_the_likeliest(temperature):
    logits = np.array([1.0, 1e4, -1e4], np.float32)
    assert {draw(logits, temperature, np.random.default_rng(seed)) for seed in range(50)} == {1}


def test_generation_is_repeatable_and_leaves_out_what_it_should():
    model = LanguageModel(cells.lstm, V, H, layers=2, seed=1)
    one, same, other = (list(generate(model, [1, 2], 200, 1.0, np.random.default_rng(s))) for s in (0, 0, 1))
    assert len(one) == 200
    assert one == same != other
    assert 3 in one
    assert 3 not in list(generate(model, [1, 2], 200, 1.0, np.random.default_rng(0), never=3))


def test_the_greedy_continuation_is_the_argmax_of_the_model():
    model = LanguageModel(cells.gru, V, H, layers=1, seed=1)
    tokens = [2, 4, *generate(model, [2, 4], 10, 0.0, np.random.default_rng(0))]
    states = None
    for position, token in enumerate(tokens[:-1]):
        logits, states = model.step(np.array([token], np.int32), states)
        assert position == 0 or int(logits.argmax()) == tokens[position + 1]
