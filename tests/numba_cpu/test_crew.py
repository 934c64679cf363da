"""Threads that run a function together: all of them, again and again, and no hang where one of them fails."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from rnn_gpu.kernels.numba_cpu import crew
from rnn_gpu.kernels.numba_cpu.jit import jit
from rnn_gpu.kernels.numba_cpu.team import meet, ring


@jit
def meet_twice(marks, value, team, bell, member):
    ring(bell, member)
    marks[member] = value
    meet(team)
    total = marks.sum()
    meet(team)
    marks[member] = total
    meet(team)


def run(members, value):
    marks = np.zeros(members, np.int64)
    took_part = []

    def prepare(allowed):
        took_part.append(allowed)
        return meet_twice, (marks, value)

    crew.run(members, prepare)
    return marks, took_part[0]


def test_every_member_runs_and_sees_what_the_others_did():
    for call in range(200):
        members = 1 + call % 4
        marks, allowed = run(members, call)
        assert allowed == members
        assert (marks == members * call).all()


def test_a_crew_that_fell_asleep_wakes_up():
    for _ in range(3):
        run(3, 1)
        deadline = time.monotonic() + 60
        while not all(helper._asleep for helper in crew._helpers):
            assert time.monotonic() < deadline
            time.sleep(0.001)


@pytest.mark.parametrize("failing", [0, 1, 2])
@pytest.mark.parametrize("rings", [False, True], ids=["before the bell", "after the bell"])
def test_where_a_member_fails_the_others_do_not_wait_and_the_call_fails(failing, rings):
    @jit
    def only_ring(bell, member):
        ring(bell, member)

    def function(marks, value, team, bell, member):
        if member == failing:
            if rings:
                only_ring(bell, member)
            raise MemoryError(f"planted in {member}")
        meet_twice(marks, value, team, bell, member)

    for _ in range(5):
        with pytest.raises(MemoryError, match=f"planted in {failing}"):
            crew.run(3, lambda members: (function, (np.zeros(members, np.int64), 1)))
        assert (run(3, 7)[0] == 21).all()


def test_a_thread_that_finds_the_crew_at_work_does_all_itself():
    inside, leave = threading.Event(), threading.Event()

    def function(marks, value, team, bell, member):
        if member == 0:
            inside.set()
            assert leave.wait(60)
        meet_twice(marks, value, team, bell, member)

    marks = np.zeros(2, np.int64)
    other = threading.Thread(target=crew.run, args=(2, lambda members: (function, (marks, 4))))
    other.start()
    assert inside.wait(60)
    alone, allowed = run(2, 5)
    assert (allowed, alone.tolist()) == (1, [5, 0])
    leave.set()
    other.join(60)
    assert marks.tolist() == [8, 8]
