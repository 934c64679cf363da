"""The command as a whole: help, version, info, and one line for what is wrong."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from rnn_gpu import cells, cli
from rnn_gpu.arrays import _NUMPY, dtype_named
from rnn_gpu.bench.first_call import first_calls
from rnn_gpu.dispatch import BACKENDS
from rnn_gpu.errors import BackendError


def run(capsys, *words):
    """Run the command: its status and what it wrote to stdout and stderr."""
    status = cli.main([str(word) for word in words])
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return status, captured.out, captured.err


def test_version(capsys):
    status, out, _ = run(capsys, "--version")
    assert (status, out.split()[0]) == (0, "rnn-gpu")
    assert out.split()[1].count(".") == 2


@pytest.mark.parametrize("command", ["train", "sample", "bench", "info"])
def test_help_has_an_example_for_each_command(capsys, command):
    status, out, _ = run(capsys, command, "--help")
    assert status == 0
    assert f"rnn-gpu {command}" in out.partition("example")[2]
    assert command in run(capsys, "--help")[1]


@pytest.mark.parametrize("words", [[], ["trane"], ["train", "--hiden", "3"], ["sample"], ["info", "extra"]])
def test_a_wrong_command_line_is_one_line(capsys, words):
    status, out, err = run(capsys, *words)
    assert (status, out) == (2, "")
    assert err.startswith("rnn-gpu")
    assert err.count("\n") == 1
    assert "--help" in err


def test_info_lists_backends_and_cells(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(type(BACKENDS["numpy_cpu"]), "unavailable", lambda self: "it is [out] of order", raising=True)
    status, out, _ = run(capsys, "info")
    assert status == 0
    for expected in ("numpy", "Python", "numpy_cpu", "no: it is [out] of order", *cells.ALL):
        assert expected in out


@pytest.mark.parametrize(
    ("name", "meaning"),
    [("numpy_cpu", "asked for in all calls that name none"), ("nope", "there is no such backend")],
)
def test_info_tells_of_a_backend_named_in_the_environment(capsys, monkeypatch, name, meaning):
    monkeypatch.setenv("RNN_GPU_BACKEND", name)
    _, out, _ = run(capsys, "info")
    assert f"RNN_GPU_BACKEND={name}: {meaning}" in out


def test_info_shows_the_plan_of_a_device(capsys, monkeypatch):
    """On a backend that takes host arrays and says otherwise."""
    monkeypatch.setenv("COLUMNS", "200")
    backend = BACKENDS["numpy_cpu"]
    monkeypatch.setattr(type(backend), "device_kind", "cuda")
    monkeypatch.setattr(type(backend), "plan", lambda self, problem: f"forward: block, {problem.dtype.name}")
    monkeypatch.setattr("rnn_gpu.cli.info.BACKENDS", {"numpy_cpu": backend})
    monkeypatch.setattr("rnn_gpu.cli.info.to_device", lambda shape, dtype: np.zeros(shape, dtype_named(dtype)))
    monkeypatch.setattr("rnn_gpu.arrays.ArrayLibrary.kind", "cuda")
    monkeypatch.delitem(vars(_NUMPY), "kind", raising=False)  # found before, by another test
    status, out, _ = run(capsys, "info")
    assert status == 0
    assert "numpy_cpu would run lstm, T=128 B=16 I=256 H=256, float32" in out
    assert "forward: block, float32" in out
    assert "forward: block, bfloat16" in out


def test_an_unusable_backend_says_why(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(type(BACKENDS["numpy_cpu"]), "unavailable", lambda self: "it is out of order", raising=True)
    status, _, err = run(capsys, "train", "--backend", "numpy_cpu", "--out", tmp_path / "m")
    assert status == 2
    assert err == "rnn-gpu train: error: --backend: numpy_cpu cannot be used here: it is out of order\n"
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (BackendError("no\n  way"), 2, "rnn-gpu info: error: no way\n"),
        (OSError(28, "No space left on device"), 1, "rnn-gpu info: error: No space left on device\n"),
        (OSError(13, "Permission denied", "x"), 1, "rnn-gpu info: error: x: Permission denied\n"),
        (MemoryError("1 TiB"), 1, "rnn-gpu info: error: not enough memory: 1 TiB\n"),
        (KeyboardInterrupt(), 130, "rnn-gpu info: interrupted\n"),
    ],
)
def test_errors_end_in_one_line_and_a_status(capsys, monkeypatch, error, status, line):
    def fail(arguments):
        raise error

    monkeypatch.setattr("rnn_gpu.cli.info.run", fail)
    assert run(capsys, "info") == (status, "", line)


def test_a_mistake_in_the_program_is_not_hidden(monkeypatch):
    def fail(arguments):
        raise ZeroDivisionError

    monkeypatch.setattr("rnn_gpu.cli.info.run", fail)
    with pytest.raises(ZeroDivisionError):
        cli.main(["info"])


def test_starting_does_not_import_what_a_command_does_not_need():
    code = "import sys; from rnn_gpu.cli import main; main(['--version']); print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert {"rich", "safetensors", "numba", "matplotlib"}.isdisjoint(modules)


def test_output_in_an_encoding_without_the_characters():
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        [sys.executable, "-m", "rnn_gpu.cli", "info"], capture_output=True, text=True, env=environment, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.isascii()


def test_info_measures_first_calls(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr("rnn_gpu.cli.info.BACKENDS", {"numpy_cpu": BACKENDS["numpy_cpu"]})
    status, out, _ = run(capsys, "info", "--compile")
    assert status == 0
    table = out[out.index("First call") :]
    seconds = [float(cell) for line in table.splitlines() if "numpy_cpu" in line for cell in line.split("│")[2:6]]
    assert len(seconds) == 4
    assert all(0 <= value < 60 for value in seconds)


def test_a_first_call_that_fails_says_why():
    with pytest.raises(
        BackendError, match=r"no_such: the first call failed: .*ArgumentError: backend: expected one of"
    ):
        first_calls("no_such")
