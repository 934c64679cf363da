"""Random cells: derived gradients against central differences, and the C++ source against NumPy."""

from __future__ import annotations

import random
import shutil
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, note, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from support import cpp
from support.backends import REFERENCE
from support.calls import draw
from support.cases import Case
from support.errors import assert_close
from support.random_cells import random_cell, random_text

import rnn_gpu

SMALL = Case("small", T=2, B=2, I=2, H=2, initial=True)

STEP = 1e-5

ROUGH = 1e-7
"""Second differences: a kink or a jump inside the step shows as more, and makes the differences useless."""


def loss(call):
    y, last, _ = rnn_gpu.forward(call.cell, call.x, call.weights, call.initial, save=False, backend="numpy_cpu")
    return np.vdot(y, call.dy) + sum(map(np.vdot, last, call.dlast))


def differences(call, here):
    """Central differences of the loss by every number of the call, and the largest second difference."""
    found, roughness = {}, 0.0
    for name, array in call.parameters():
        found[name] = np.empty_like(array)
        for index in np.ndindex(array.shape):
            kept = array[index]
            array[index] = kept + STEP
            above = loss(call)
            array[index] = kept - STEP
            below = loss(call)
            array[index] = kept
            found[name][index] = (above - below) / (2 * STEP)
            roughness = max(roughness, abs(above - 2 * here + below))
    return found, roughness


@settings(max_examples=30)
@given(st.data(), st.integers(0, 2**32 - 1))
def test_gradients_of_random_cells(data, seed):
    text = random_text(lambda options: data.draw(st.sampled_from(options)))
    note(text)
    call = draw(random_cell(text), SMALL, seed=seed)
    _, _, tape = rnn_gpu.forward(call.cell, call.x, call.weights, call.initial, backend="numpy_cpu")
    gradients = rnn_gpu.backward(tape, call.dy, call.dlast)
    found = {"x": gradients.x, **dict(gradients.weights.items())}
    found |= dict(zip(call.cell.states, gradients.initial, strict=True))
    expected, roughness = differences(call, loss(call))
    assume(roughness < ROUGH)
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert_allclose(found[name], array, rtol=1e-6, atol=1e-7, err_msg=name)


N_CELLS = 24


@pytest.fixture(scope="module")
def texts():
    return [random_text(random.Random(seed).choice, f"random_{seed}") for seed in range(N_CELLS)]


@pytest.fixture(scope="module")
def library(texts, tmp_path_factory):
    if shutil.which("g++") is None:
        pytest.skip("g++ is not installed, and the C++ source needs a compiler")
    return cpp.build([random_cell(text) for text in texts], tmp_path_factory.mktemp("cpp"))


@pytest.mark.parametrize("number", range(N_CELLS))
def test_cpp_source_of_random_cells(library, texts, number):
    case = replace(SMALL, T=3, B=3, H=5)
    call = draw(random_cell(texts[number]), case)
    assert_close(cpp.run(library, call), REFERENCE.run(call), 32)


def test_the_random_cells_differ_as_they_should():
    """Among few of them, each number of gates, of states and of stages, and gates with one product only."""
    made = [random_cell(random_text(random.Random(seed).choice)) for seed in range(60)]
    assert {len(cell.gates) for cell in made} == {1, 2, 3, 4}
    assert {len(cell.states) for cell in made} == {1, 2, 3}
    assert {len(cell.vectors) for cell in made} == {0, 1, 2}
    assert {len(cell.stages) for cell in made} >= {0, 1, 2, 3}
    assert {cell.input_gates == cell.gates for cell in made} == {True, False}
    assert {cell.recurrent_gates == cell.gates for cell in made} == {True, False}
