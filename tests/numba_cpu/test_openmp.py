"""Work for torch is done by torch's own threads, where there are enough; otherwise by the crew, with the same bits."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from rnn_gpu.kernels.numba_cpu import crew, openmp
from rnn_gpu.kernels.numba_cpu.board import PARALLEL
from rnn_gpu.threads import get_threads, set_threads, torch_threads
from tests.support.team_task import task

torch = pytest.importorskip("torch", reason="the package torch is not installed")


def run(members, failing=-1):
    marks = np.zeros(members, np.int64)
    with torch_threads:
        crew.run(members, lambda most: task(most, marks, failing=failing))
    return marks


@pytest.fixture
def lending(monkeypatch):
    """How many teams were made of torch's threads, of which there are 4, and how many were too small."""
    made = {True: 0, False: 0}
    run_by_others = crew._run_by_others

    def counted(*task):
        answer = run_by_others(*task)
        made[answer] += 1
        return answer

    monkeypatch.setattr(crew, "_run_by_others", counted)
    monkeypatch.setattr(openmp, "_refused", False)
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    with torch_threads:
        if openmp.lent(4) is None:
            pytest.skip("torch has loaded no OpenMP library with the function GOMP_parallel")
    yield made
    torch.set_num_threads(before)


@pytest.mark.parametrize("members", [2, 3, 4])
def test_each_member_is_a_thread_of_torch(lending, members):
    for _ in range(50):
        assert run(members).tolist() == [members] * members
    assert lending == {True: 50, False: 0}
    assert crew._board[PARALLEL] == 0


def test_a_team_larger_than_that_is_the_crew(lending):
    assert run(5).tolist() == [5] * 5
    assert lending == {True: 0, False: 0}


def test_what_does_not_work_for_torch_is_done_by_the_crew(lending):
    marks = np.zeros(2, np.int64)
    crew.run(2, lambda most: task(most, marks))
    assert marks.tolist() == [2, 2]
    assert lending == {True: 0, False: 0}


@pytest.mark.parametrize("failing", [0, 1, 3])
def test_a_failure_is_raised_whoever_fails(lending, failing):
    with pytest.raises(ValueError, match=r"^planted$"):
        run(4, failing)
    assert crew._board[PARALLEL] == 0
    assert run(4).tolist() == [4] * 4


def test_modules_give_the_same_bits_with_either_threads(lending, monkeypatch):
    import rnn_gpu.torch  # noqa: PLC0415

    torch.manual_seed(0)
    module, x = rnn_gpu.torch.LSTM(40, 96, num_layers=2, bidirectional=True), torch.randn(20, 24, 40)

    def results():
        module.zero_grad()
        y, _ = module(x)
        y.square().sum().backward()
        return [y.detach().clone(), *[p.grad.clone() for p in module.parameters()]]

    set_threads(3)
    try:
        theirs = results()
        assert lending[True] >= 8
        monkeypatch.setattr(openmp, "_refused", True)
        ours = results()
    finally:
        set_threads(None)
    assert all(torch.equal(a, b) for a, b in zip(theirs, ours, strict=True))


def test_the_default_number_is_torchs_where_that_is_less(lending):
    set_threads(None)
    ours = get_threads()
    torch.set_num_threads(1)
    with torch_threads:
        assert get_threads() == 1
        set_threads(3)
        assert get_threads() == 3
        set_threads(None)
        assert get_threads() == 1
    assert get_threads() == ours


def test_several_python_threads_at_once(lending):
    import rnn_gpu.torch  # noqa: PLC0415

    torch.manual_seed(0)
    module, x = rnn_gpu.torch.GRU(32, 128), torch.randn(30, 24, 32)

    def results():
        y, _ = module(x)
        return [y.detach(), *torch.autograd.grad(y.square().sum(), list(module.parameters()))]

    set_threads(2)
    try:
        expected = results()
        with ThreadPoolExecutor(6) as pool:
            found = list(pool.map(lambda _: results(), range(60)))
    finally:
        set_threads(None)
    assert lending[True] >= 2
    assert all(torch.equal(a, b) for each in found for a, b in zip(each, expected, strict=True))


SCRIPT = """
import json
import torch
import rnn_gpu, rnn_gpu.torch
from rnn_gpu.kernels.numba_cpu import crew, openmp
torch.set_num_threads(2)
rnn_gpu.set_threads(2)
module = rnn_gpu.torch.GRU(64, 128)
y, _ = module(torch.zeros(30, 16, 64))
print(json.dumps([bool(y.isfinite().all()), openmp._refused, len(crew._helpers)]))
"""


@pytest.mark.parametrize(("limit", "expected"), [("", [True, False, 0]), ("1", [True, True, 1])])
def test_where_openmp_gives_too_few_threads_the_crew_works(lending, limit, expected):
    environment = os.environ | ({"OMP_THREAD_LIMIT": limit} if limit else {})
    ran = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=True)
    assert json.loads(ran.stdout) == expected


def _in_child(queue):
    queue.put([*run(2).tolist(), openmp._refused])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_forked_child_has_threads_of_its_own(lending):
    run(2)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_in_child, args=(queue,))
    child.start()
    try:
        assert queue.get(timeout=60) == [2, 2, True]
        child.join(60)
        assert child.exitcode == 0
    finally:
        child.kill()
