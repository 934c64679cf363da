"""The derived gradients of every cell against central differences of the float64 forward pass."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose
from support.backends import REFERENCE
from support.calls import draw, named_gradients
from support.cases import Case
from support.cells import CELLS

import rnn_gpu
from rnn_gpu.compiler.language import cell, exp, maximum, minimum, sin, softplus, sqrt, tanh

STEP = 1e-5

ROUGH = 1e-8
"""The most that a loss's second difference may be. It is STEP^2 f'', some 1e-10, where the loss is smooth; a kink or a
jump within STEP shows as 1e-5 or more. So a seed that lies near a kink of relu is refused, not taken for an error."""

PLAIN = Case("plain", T=4, B=3, I=2, H=3)
LENGTHS, RESETS = (4, 0, 2), ((0, 0), (3, 0), (1, 2), (3, 1))
CASES = (
    PLAIN,
    replace(PLAIN, name="lengths", lengths=LENGTHS),
    replace(PLAIN, name="resets", resets=RESETS),
    replace(PLAIN, name="reverse", reverse=True),
    replace(PLAIN, name="initial", initial=True),
    replace(PLAIN, name="everything", lengths=LENGTHS, resets=RESETS, reverse=True, initial=True),
    replace(PLAIN, name="projected", projected=True, biases=("b_ih",), initial=True),
)


@cell(gates="g", states="ab")
def swapped(Wx, U, a, b):
    """A state that only moves on, and one that is another's old value."""
    return tanh(Wx.g + U.g(b)), a


@cell(gates="gk", states="h", vectors=("a",))
def constant_operand(Wx, U, h, v):
    """A product whose operand is the same for every row."""
    return tanh(Wx.g + U.g(exp(v.a)) + U.k(h))


@cell(gates="g", states="h")
def autonomous(Wx, U, h):
    """No input at all."""
    return sin(U.g(h))


@cell(gates="ab", states="hc")
def chained(Wx, U, h, c):
    """A product of a product; both states are one value."""
    new = softplus(U.b(U.a(h))) / (1 + minimum(sqrt(1 + c * c), maximum(Wx.a, 0.1)))
    return new, new


ODD = {odd.name: odd for odd in (swapped, constant_operand, autonomous, chained)}


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("cell", (CELLS | ODD).values(), ids=CELLS | ODD)
def test_gradients_are_central_differences(cell, case):
    call = draw(cell, case, padding=0.0)
    if not case.initial:  # their gradients are asked for all the same
        zeros = tuple(np.zeros((case.B, case.H)) for _ in cell.states)
        call = replace(call, initial=zeros)

    def forward(save=False):
        return rnn_gpu.forward(*call.arguments(), REFERENCE.name, save=save)

    def losses():
        y, last, _ = forward()
        return np.array([np.vdot(y, call.dy), sum(map(np.vdot, last, call.dlast))])

    tape = forward(save=True).tape
    of_y, of_last = rnn_gpu.backward(tape, call.dy), rnn_gpu.backward(tape, None, call.dlast)
    of_both = rnn_gpu.backward(tape, call.dy, call.dlast)
    here = losses()
    for name, array in call.parameters():
        differences = np.empty((2, *array.shape))
        for index in np.ndindex(array.shape):
            kept = array[index]
            array[index] = kept + STEP
            above = losses()
            array[index] = kept - STEP
            below = losses()
            array[index] = kept
            assert abs(above - 2 * here + below).max() < ROUGH, f"a kink near {name}{index}: draw another seed"
            differences[(slice(None), *index)] = (above - below) / (2 * STEP)
        # Rounding of the losses, of order 1, divided by STEP: 1e-10 or less.
        for gradients, expected in ((of_y, differences[0]), (of_last, differences[1]), (of_both, sum(differences))):
            found = named_gradients(cell, gradients)[f"d_{name}"]
            assert_allclose(found, expected, rtol=1e-6, atol=1e-9, err_msg=name)


def test_a_kink_inside_the_step_is_seen():
    call = draw(CELLS["rnn_relu"], replace(PLAIN, T=1, B=1, H=1, I=1))
    call = replace(call, dy=np.ones((1, 1, 1)))
    offset = call.x[0, 0, 0] * call.weights.w_ih[0, 0] + call.weights.b_hh[0]
    losses = []
    for bias in (-STEP, 0.0, STEP):
        call.weights.b_ih[0] = bias - offset
        losses.append(REFERENCE.run(call)["y"].sum())
    assert abs(losses[0] - 2 * losses[1] + losses[2]) > 100 * ROUGH
