"""What is compiled is kept on disk, for a user's own cell as for the package's, and not mistaken for another cell's."""

from __future__ import annotations

import json
import os
import subprocess
import sys

TWO_CELLS = """
import json, sys, time
import numpy as np
import rnn_gpu
from rnn_gpu.compiler.language import cell, sigmoid, tanh
from rnn_gpu.kernels.numba_cpu import backward_kernel, forward_kernel

def own(scale):
    @cell(gates="h", states="h")
    def mine(Wx, U, h):
        return tanh(Wx.h + scale * U.h(h))
    return mine

values, seconds = [], []
for chosen in (own(1.0), own(0.5), rnn_gpu.cells.rnn):
    weights, x = rnn_gpu.init_weights(chosen, 3, 4), np.ones((5, 2, 3), np.float32)
    begin = time.thread_time()
    y, last, tape = rnn_gpu.forward(chosen, x, weights, backend="numba_cpu")
    seconds.append(time.thread_time() - begin)
    values.append(float(y.sum()))
    rnn_gpu.backward(tape, y)
stats = [f.stats for f in (forward_kernel.forward_share, backward_kernel.backward_share)]
json.dump({"values": values, "seconds": seconds,
           "hits": sum(sum(s.cache_hits.values()) for s in stats),
           "misses": sum(sum(s.cache_misses.values()) for s in stats)}, sys.stdout)
"""


def run(folder) -> dict:
    ran = subprocess.run(
        [sys.executable, "-c", TWO_CELLS],
        env=os.environ | {"NUMBA_CACHE_DIR": str(folder)},
        timeout=300,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(ran.stdout)


def test_a_second_process_compiles_nothing(tmp_path):
    first, second = run(tmp_path), run(tmp_path)
    assert first["hits"] == 0
    assert first["misses"] == 6  # forward and backward for each of three cells
    assert second["hits"] == 6
    assert second["misses"] == 0
    assert second["values"] == first["values"]
    assert first["values"][0] == first["values"][2] != first["values"][1]
    assert max(second["seconds"]) < min(1.0, max(first["seconds"]) / 3)
