"""Threads that run a function together: all of them, again and again, awake or asleep."""

from __future__ import annotations

import time

import numpy as np
import pytest

from rnn_gpu.kernels.numba_cpu import crew
from tests.support.team_task import run_share, task


def run(members, value):
    allowed = []

    def prepare(most):
        allowed.append(most)
        marks = np.zeros(most, np.int64)
        allowed.append(marks)
        return task(most, marks, value)

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
            crew.run(3, lambda members: (run_share, (1, np.zeros(members, np.int64)), members))
        assert (run(3, 7)[1] == 21).all()
    deadline = time.monotonic() + 60
    while not all(helper.asleep for helper in crew._helpers):
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_a_thread_that_finds_the_crew_at_work_does_all_itself():
    with crew._busy:
        allowed, marks = run(2, 5)
    assert (allowed, marks.tolist()) == (1, [5])
