"""What several tests of the compiled CPU backend share."""

from __future__ import annotations

import pytest

from rnn_gpu import problem
from rnn_gpu.kernels.numba_cpu import shares
from rnn_gpu.threads import set_threads


@pytest.fixture
def even_small_calls_are_shared(monkeypatch):
    """Let even small calls be shared out among threads, and put the number of threads back."""
    for name in (
        "WORTH_A_THREAD",
        "WORTH_A_THREAD_OF_A_STEP",
        "WORTH_A_THREAD_AHEAD",
        "WORTH_A_TEAM",
        "WORTH_FEWER_THREADS",
    ):
        monkeypatch.setattr(shares, name, 1)
    problem.forget()
    yield
    problem.forget()
    set_threads(None)
