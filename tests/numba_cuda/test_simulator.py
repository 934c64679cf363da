"""The kernels in Numba's simulator, which a process has from its start or not at all: pytest in processes of its own.

They are the files `simulated_*.py` beside this one. By hand:
NUMBA_ENABLE_CUDASIM=1 pytest tests/numba_cuda/simulated_grid.py
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

FILES = sorted(Path(__file__).parent.glob("simulated_*.py"))
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def processes(tmp_path_factory):
    """One for each file, all at once."""
    environment = os.environ | {"NUMBA_ENABLE_CUDASIM": "1", "OMP_NUM_THREADS": "1"}
    environment.pop("RNN_GPU_BACKEND", None)
    running = {}
    for path in FILES:
        log = tmp_path_factory.mktemp("simulator") / f"{path.stem}.log"
        with log.open("w") as output:
            command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-rf", str(path)]
            process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT)
        running[path] = process, log
    yield running
    for process, _ in running.values():
        process.kill()
        process.wait()


def test_there_are_files():
    assert len(FILES) == 2


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_in_the_simulator(processes, path):
    process, log = processes[path]
    status = process.wait(timeout=1500)
    text = log.read_text()
    assert status == 0, text[-20000:]
    assert " passed" in text
    assert "skipped" not in text
