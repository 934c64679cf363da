"""An error in compiled code reaches the caller, whichever thread it is in; nobody waits for who has failed."""

from __future__ import annotations

import numpy as np
import pytest

import rnn_gpu
from rnn_gpu import cells, problem
from rnn_gpu.kernels.numba_cpu import crew, external, plan, shares
from rnn_gpu.kernels.numba_cpu.forward_kernel import ARGUMENTS
from rnn_gpu.kernels.numba_cpu.jit import BUILD, kernel
from rnn_gpu.kernels.numba_cpu.kernel import address_of
from rnn_gpu.kernels.numba_cpu.marshal import reader
from rnn_gpu.kernels.numba_cpu.team import MADE, await_count, meet
from rnn_gpu.threads import set_threads
from tests.support.numba_entry import entry
from tests.support.team_task import task

REAL = np.dtype(np.float32)


def run(members, failing, divisor=1):
    marks = np.zeros(members, np.int64)
    crew.run(members, lambda most: task(most, marks, failing=failing, divisor=divisor))
    return marks


@pytest.mark.parametrize("members", [1, 2, 4])
def test_a_failure_is_raised_whoever_fails_and_the_crew_works_on(members):
    for failing in range(members):
        with pytest.raises(ValueError, match=r"^planted$"):
            run(members, failing)
        with pytest.raises(ZeroDivisionError):
            run(members, failing, divisor=0)
        assert run(members, failing=-1).tolist() == [members] * members


@kernel
def _no_kernel(cell, real, numbers, member):
    if member == 1:
        raise OverflowError("planted in a kernel")
    meet(_read_team(numbers, real)[-1])


@kernel
def _no_maker(cell, real, numbers, member):
    if member == 1:
        raise OverflowError("planted in a kernel")
    await_count(_read_team(numbers, real)[-1], MADE, 1)


_read_team = reader("".join(ARGUMENTS.values()))


@pytest.mark.parametrize("wrong", [_no_kernel, _no_maker], ids=["meets", "waits for one"])
def test_forward_raises_what_its_kernel_raises_in_another_thread(wrong, monkeypatch):
    weights, x = rnn_gpu.init_weights(cells.lstm, 4, 16), np.ones((5, 6, 4), np.float32)
    expected = rnn_gpu.forward(cells.lstm, x, weights, backend="numba_cpu").y
    monkeypatch.setattr(shares, "WORTH_A_THREAD", 1.0)
    problem.forget()
    try:
        set_threads(2)
        with monkeypatch.context() as planted:
            planted.setattr(plan.Plan, "forward_code", address_of(wrong, BUILD, REAL))
            with pytest.raises(OverflowError, match="planted in a kernel"):
                rnn_gpu.forward(cells.lstm, x, weights, backend="numba_cpu")
        np.testing.assert_array_equal(rnn_gpu.forward(cells.lstm, x, weights, backend="numba_cpu").y, expected)
    finally:
        set_threads(None)
        problem.forget()


@pytest.fixture
def fails_if_told(monkeypatch):
    """A function that kernels call by name, and that fails if it is told to."""
    monkeypatch.setattr(external, "_made", [])

    @external.external("ai")
    def planted(array, wrong):
        if wrong:
            raise ArithmeticError("planted in a product")
        array[0] = 1

    external.provide.__wrapped__(REAL, backward=False)
    return planted


def test_what_fails_by_name_fails_in_its_caller(fails_if_told):
    @entry
    def call(array, wrong):
        fails_if_told(array, wrong)
        array[1] = 1

    array = np.zeros(2, np.float32)
    with pytest.raises(ArithmeticError, match="planted in a product"):
        call(array, 1)
    assert not array.any()
    call(array, 0)
    assert array.all()
