"""What a measurement was made on and with."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

__all__ = ["describe", "describe_gpu"]

_PACKAGES = ("rnn_gpu", "numpy", "numba", "torch", "onnxruntime")
_GPU_PACKAGES = (
    "cupy-cuda12x",
    "cupy-cuda13x",
    "numba-cuda",
    "nvidia-cuda-nvrtc",
    "nvidia-cudnn-cu12",
    "nvidia-cudnn-cu13",
)


def describe() -> dict[str, str | int | None]:
    """Processor, cores, versions, date and commit, for a report. None for what is not installed or not known."""
    return {
        "processor": _processor(),
        "architecture": platform.machine(),
        "cores": os.cpu_count(),
        "usable_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        **{package: _version(package) for package in _PACKAGES},
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
    }


def describe_gpu() -> dict[str, str | int | None]:
    """The versions that matter on a GPU besides."""
    return {"driver": _driver(), **{package: _version(package) for package in _GPU_PACKAGES}}


def _driver() -> str | None:
    """The version of NVIDIA's driver; None where it does not tell."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return next(iter(done.stdout.split()), None)


def _processor() -> str:
    """The processor's name as the system gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The commit of the checkout that this package is run from, "+" after it if files were changed.

    Where it is run from a copy without git's folder, what RNN_GPU_COMMIT says; else None.
    """
    here = Path(__file__).resolve()
    if _git(here.parent, "ls-files", "--", here.name) != here.name:
        return os.environ.get("RNN_GPU_COMMIT")
    commit = _git(here.parent, "rev-parse", "HEAD")
    return f"{commit}+" if commit and _git(here.parent, "status", "--porcelain", "--untracked-files=no") else commit


def _git(folder: Path, *arguments: str) -> str | None:
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
