"""Several Python threads at once give what one gives, bit for bit, also where their first call compiles the cell."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from support.backends import TARGETS
from support.calls import draw
from support.cases import Case
from support.cells import CELLS
from support.errors import assert_same_bits

from rnn_gpu.compiler.language import cell, sigmoid, tanh
from rnn_gpu.recent import Recent

N_THREADS = 4
CASE = Case("everything", T=7, B=4, I=3, H=8, lengths=(7, 0, 3, 5), resets=((0, 0), (6, 0), (2, 3)), initial=True)


@pytest.fixture
def _frequent_switches():
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def at_once(function):
    """The results of `function(k)` for each thread k, all begun together."""
    barrier = Barrier(N_THREADS)

    def begin(k):
        barrier.wait()
        return function(k)

    with ThreadPoolExecutor(N_THREADS) as pool:
        return list(pool.map(begin, range(N_THREADS)))


@pytest.mark.usefixtures("_frequent_switches")
def test_what_is_kept_while_others_keep_more():
    recent = Recent(8)

    def keep(thread):
        return [recent.add((thread, number), number) for number in range(3_000)]

    assert at_once(keep) == [list(range(3_000))] * N_THREADS
    assert len(recent) == 8
    for number in range(8):
        recent.add(number, -number)
    assert [recent.get(number) for number in range(9)] == [*(-number for number in range(8)), None]
    recent.clear()
    assert len(recent) == 0


@pytest.mark.usefixtures("_frequent_switches")
@pytest.mark.parametrize("name", ["lstm_peephole", "gru_2014"])
@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_calls_of_one_cell(target, name):
    inputs = [draw(CELLS[name], CASE, "float32", seed=seed) for seed in range(N_THREADS)]
    expected = [target.run(call) for call in inputs]
    for _ in range(5):
        for found, alone in zip(at_once(lambda k: target.run(inputs[k])), expected, strict=True):
            assert_same_bits(found, alone)


@pytest.mark.usefixtures("_frequent_switches")
@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_first_calls_of_a_new_cell(target):
    def text(Wx, U, h, m, v):
        a = sigmoid(Wx.a + U.a(h))
        m = v.p * m + a * tanh(Wx.n + U.n(a * h))
        return tanh(m) * (1 - a) + (a - 1) * (a - 1) * h, m

    new = cell(gates="an", states="hm", vectors=("p",))
    expected = target.run(draw(new(text), CASE))
    for _ in range(20):
        fresh = new(text)
        for found in at_once(lambda _, fresh=fresh: target.run(draw(fresh, CASE))):
            assert_same_bits(found, expected)
