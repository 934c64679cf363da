"""`rnn-gpu info`: what is installed, and what this machine can run."""

from __future__ import annotations

import argparse
import platform
from importlib import metadata

from rich.table import Table

from rnn_gpu import cells
from rnn_gpu.cli.console import Console
from rnn_gpu.dispatch import BACKENDS

__all__ = ["configure", "run"]

_PACKAGES = (
    "rnn_gpu", "numpy", "numba", "numba-cuda", "cupy-cuda12x", "cupy-cuda13x", "ml-dtypes", "safetensors", "rich",
    "matplotlib", "torch", "keras", "jax", "onnxruntime",
)  # fmt: skip


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the command."""
    parser.description = "Show versions, cells, backends and devices, and why each backend is usable or not."
    parser.epilog = "example:\n  rnn-gpu info"


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
    console.print("Cells: " + ", ".join(cells.ALL))
    return 0


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
