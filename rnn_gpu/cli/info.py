"""`rnn-gpu info`: what is installed, and what this machine can run."""

from __future__ import annotations

import argparse
import importlib
import os
import platform
from importlib import metadata
from typing import Any

from rich.table import Table

from rnn_gpu import cells
from rnn_gpu.arrays import dtype_named
from rnn_gpu.bench.first_call import first_calls
from rnn_gpu.cli.console import Console
from rnn_gpu.dispatch import BACKENDS, ENVIRONMENT_VARIABLE, Explanation
from rnn_gpu.functional import explain
from rnn_gpu.weights import init_weights

__all__ = ["configure", "run"]

_PACKAGES = (
    "rnn_gpu", "numpy", "numba", "numba-cuda", "cupy-cuda12x", "cupy-cuda13x", "ml-dtypes", "safetensors", "rich",
    "matplotlib", "torch", "keras", "jax", "onnxruntime",
)  # fmt: skip


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the command."""
    parser.description = "Show versions, cells, backends and devices, and why each backend is usable or not."
    parser.epilog = (
        "examples:\n  rnn-gpu info\n  rnn-gpu info --compile     also time the first call, compiled and from disk"
    )
    parser.add_argument(
        "--compile", action="store_true", help="also measure how long each backend's first call takes in a new process"
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the tables."""
    console = Console()
    versions = Table("package", "version", title="Versions", title_justify="left")
    versions.add_row("Python", platform.python_version())
    for name in _PACKAGES:
        versions.add_row(name, _version(name))
    backends = Table("backend", "usable", "what it is", "devices", title="Backends, as preferred", title_justify="left")
    for name, backend in BACKENDS.items():
        reason = backend.unavailable()
        devices = "\n".join(backend.devices()) if reason is None else "-"
        backends.add_row(name, "yes" if reason is None else f"no: {reason}", backend.description, devices)
    console.print(versions)
    console.print(backends)
    named = os.environ.get(ENVIRONMENT_VARIABLE)
    if named:
        meaning = "asked for in all calls that name none" if named in BACKENDS else "there is no such backend"
        console.print(f"{ENVIRONMENT_VARIABLE}={named}: {meaning}")
    for name, backend in BACKENDS.items():
        if backend.device_kind == "cuda" and backend.unavailable() is None:
            for dtype in ("float32", "bfloat16"):
                console.print(f"{name} would run {_example(dtype, name)}")
    if arguments.compile:
        console.print(_first_calls())
    console.print("Cells: " + ", ".join(cells.ALL))
    return 0


def _first_calls() -> Table:
    title = "First call of a float32 lstm in a new process, seconds"
    table = Table("backend", "forward", "backward", "forward, from disk", "backward, from disk", title=title)
    table.title_justify = "left"
    for name, backend in BACKENDS.items():
        if backend.unavailable() is None:
            seconds = [f"{value:.2f}" for call in first_calls(name) for value in call]
            table.add_row(name, *seconds)
    return table


def _example(dtype: str, backend: str) -> Explanation:
    """How a GPU backend runs a call of a common size."""
    zeros = to_device((128, 16, 256), dtype)
    weights = init_weights(cells.lstm, 256, 256, dtype=dtype).map(lambda array: to_device(array.shape, dtype))
    return explain(cells.lstm, zeros, weights, backend=backend)


def to_device(shape: tuple[int, ...], dtype: str) -> Any:
    """Zeros on the current CUDA device."""
    return importlib.import_module("cupy").zeros(shape, dtype_named(dtype))


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
