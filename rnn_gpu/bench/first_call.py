"""How long the first call takes in a new process, before and after its code has been kept on disk."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from typing import NamedTuple

from rnn_gpu.errors import BackendError

__all__ = ["FirstCall", "first_calls"]

_MEASURE = """
import json, sys, time
import numpy as np
import rnn_gpu
from rnn_gpu.dispatch import BACKENDS
cell = rnn_gpu.cells.lstm
weights, x = rnn_gpu.init_weights(cell, 32, 32), np.zeros((4, 2, 32), np.float32)
if sys.argv[1] in BACKENDS and BACKENDS[sys.argv[1]].device_kind == "cuda":
    import cupy
    weights, x = weights.map(cupy.asarray), cupy.asarray(x)
begin = time.perf_counter()
y, last, tape = rnn_gpu.forward(cell, x, weights, backend=sys.argv[1])
middle = time.perf_counter()
rnn_gpu.backward(tape, y)
json.dump([middle - begin, time.perf_counter() - middle], sys.stdout)
"""


class FirstCall(NamedTuple):
    """Seconds that the first forward and the first backward pass of a float32 lstm take."""

    forward: float
    backward: float


def first_calls(backend: str) -> tuple[FirstCall, FirstCall]:
    """Measure in two new processes: the first has nothing on disk, the second what the first has left there.

    Raises BackendError, with what Python said last, if a process fails.
    """
    with tempfile.TemporaryDirectory(prefix="rnn_gpu-") as folder:
        cold, warm = (_measure(backend, folder) for _ in range(2))
    return cold, warm


def _measure(backend: str, folder: str) -> FirstCall:
    ran = subprocess.run(
        [sys.executable, "-c", _MEASURE, backend],
        env=os.environ | {"NUMBA_CACHE_DIR": folder, "RNN_GPU_CACHE_DIR": folder},
        capture_output=True,
        text=True,
        check=False,
    )
    if ran.returncode != 0:
        lines = ran.stderr.strip().splitlines() or [f"exit status {ran.returncode}"]
        raise BackendError(f"{backend}: the first call failed: {lines[-1]}")
    return FirstCall(*json.loads(ran.stdout))
