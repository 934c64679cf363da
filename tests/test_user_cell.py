"""A user's own cell trains. The grid, the finite differences and the properties run it like any other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support.backends import TARGETS
from support.cells import USERS

import rnn_gpu

T, B, H = 6, 32, 12
RATE = 0.1


def adding(rng):
    """Hochreiter & Schmidhuber's (1997) adding problem: numbers, two of them marked, and the sum of those two."""
    numbers = rng.uniform(-1, 1, (T, B))
    marks = np.zeros((T, B))
    for row in range(B):
        marks[rng.choice(T, 2, replace=False), row] = 1
    return np.stack([numbers, marks], axis=2), (numbers * marks).sum(axis=0)


@pytest.mark.parametrize("cell", USERS.values(), ids=USERS)
@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_it_trains(target, cell):
    x, sums = adding(np.random.default_rng(0))
    weights = rnn_gpu.init_weights(cell, 2, H, dtype="float64", seed=0)
    readout = np.full(H, 1 / H)
    losses = []
    for _ in range(200):
        _, (h, *others), tape = rnn_gpu.forward(cell, target.put(x), weights.map(target.put), backend=target.name)
        h = target.get(h)
        missed = h @ readout - sums
        losses.append(np.mean(missed**2))
        dh = 2 / B * missed[:, None] * readout
        gradients = rnn_gpu.backward(tape, None, (target.put(dh), *(None for _ in others))).weights.map(target.get)
        slopes = dict(gradients.items())
        new = {name: array - RATE * slopes[name] for name, array in weights.items()}
        vectors = {name: new.pop(name) for name in cell.vectors}
        weights = replace(weights, **new, vectors=vectors)
        readout -= RATE * 2 / B * missed @ h
    assert losses[-1] < 0.5 * losses[0]
