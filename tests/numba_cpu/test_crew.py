"""Threads that run a function together: all of them, again and again, awake or asleep."""

from __future__ import annotations

import time

import numpy as np
import pytest

from rnn_gpu.kernels.numba_cpu import crew
from rnn_gpu.kernels.numba_cpu.board import together
from rnn_gpu.kernels.numba_cpu.jit import BUILD, jit
from rnn_gpu.kernels.numba_cpu.marshal import ROOM, address_of, reader, write
from rnn_gpu.kernels.numba_cpu.simd import room_for
from rnn_gpu.kernels.numba_cpu.team import meet


@jit
def _share(cell, like, numbers, member):
    marks, value, team = _read(numbers, like)
    marks[member] = value
    meet(team)
    total = marks.sum()
    meet(team)
    marks[member] = total


_read, _address = reader("nin"), address_of(_share)


@jit
def address(build, like):
    return _address(build, like)


@jit
def meet_twice(code, marks, value, team, board):
    numbers = room_for(team, ROOM)
    write(numbers, (marks, value, team))
    together(board, code, numbers, team)


def run(members, value):
    allowed = []

    def prepare(most):
        allowed.append(most)
        marks = np.zeros(most, np.int64)
        allowed.append(marks)
        return meet_twice, (address(BUILD, marks), marks, value), most

    crew.run(members, prepare)
    return allowed


def test_every_member_runs_and_sees_what_the_others_did():
    for call in range(200):
        members = 1 + call % 4
        allowed, marks = run(members, call)
        assert allowed == members
        assert (marks == members * call).all()


def test_a_crew_that_fell_asleep_wakes_up():
    for _ in range(3):
        run(3, 1)
        deadline = time.monotonic() + 60
        while not all(helper.asleep for helper in crew._helpers):
            assert time.monotonic() < deadline
            time.sleep(0.001)


def test_a_call_that_cannot_begin_leaves_the_crew_as_it_was():
    run(3, 1)
    for _ in range(3):
        with pytest.raises(TypeError):
            crew.run(3, lambda members: (meet_twice, (1, np.zeros(members, np.int64)), members))
        assert (run(3, 7)[1] == 21).all()
    deadline = time.monotonic() + 60
    while not all(helper.asleep for helper in crew._helpers):
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_a_thread_that_finds_the_crew_at_work_does_all_itself():
    with crew._busy:
        allowed, marks = run(2, 5)
    assert (allowed, marks.tolist()) == (1, [5])
