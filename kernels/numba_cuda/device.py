"""What the plan asks of a device, and why there may be none that can be used."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

__all__ = ["Properties", "devices", "missing_library", "missing_package", "properties", "unavailable"]

_DRIVER = (
    "The driver comes from NVIDIA; all else, pip install 'rnn_gpu[cuda13]' (or [cuda12], for a driver of CUDA 12)."
)
_INSTALL = "pip install 'rnn_gpu[cuda13]' (or [cuda12], for a driver of CUDA 12) installs it"


@dataclass(frozen=True)
class Properties:
    """A device. multiprocessors: each runs at least one block; cooperative: a kernel can wait for its whole grid.

    bandwidth: bytes a second between its memory and its multiprocessors, 0 if unknown; clock: cycles a second.
    shared: bytes of shared memory that a block may have, if its kernel asks for them.
    """

    name: str
    capability: tuple[int, int]
    multiprocessors: int
    cooperative: bool
    bandwidth: float
    clock: float
    shared: int


@cache
def unavailable() -> str | None:
    """Why this machine cannot run the backend, found once; None if it can."""
    if missing := missing_package():
        return missing
    try:
        from numba import cuda  # noqa: PLC0415

        from rnn_gpu.kernels.numba_cuda.jit import SIMULATED  # noqa: PLC0415
    except (ImportError, ValueError) as error:  # such as a variable of its own that Numba cannot read
        return f"numba-cuda cannot be used: {error}"
    if SIMULATED:
        return None
    if "numba_cuda" not in Path(cuda.__file__).parts:
        return (
            "numba.cuda is Numba's own, not numba-cuda's: the .pth file beside that package is not read, as in an "
            "environment that sees it by PYTHONPATH"
        )
    try:
        importlib.import_module("numba.cuda.cudaimpl")  # otherwise imported by the first kernel
    except (ImportError, AttributeError) as error:
        return f"this numba-cuda cannot be used with NumPy {np.__version__}: {error}"
    if not cuda.is_available():
        return f"no CUDA device can be used: {_first_line(cuda.cuda_error())} {_DRIVER}"
    return missing_library()


def missing_package() -> str | None:
    """Which of the packages is not installed, and what installs it."""
    for module, package in (("numba", "numba"), ("numba_cuda", "numba-cuda")):
        if not importlib.util.find_spec(module):
            return f"the package {package} is not installed: {_INSTALL}"
    return None


def missing_library(names: Sequence[str] = ("nvvm", "nvrtc", "nvJitLink")) -> str | None:
    """Which of the libraries that Numba compiles with cannot be loaded."""
    from cuda import pathfinder  # noqa: PLC0415

    for name in names:
        try:
            pathfinder.load_nvidia_dynamic_lib(name)
        except pathfinder.DynamicLibNotFoundError:
            return f"{name.upper()}, a library of the CUDA toolkit, is not installed: {_INSTALL}"
    return None


def _first_line(error: object) -> str:
    lines = [line for line in str(error or "no device was found").splitlines() if line.strip()]
    return lines[min(1, len(lines) - 1)].strip()


@cache
def properties(index: int) -> Properties:
    """The device of that number."""
    from numba import cuda  # noqa: PLC0415

    from rnn_gpu.kernels.numba_cuda.jit import SIMULATED  # noqa: PLC0415

    if SIMULATED:  # its grid barrier waits for one block only
        return Properties("Numba's simulator", (0, 0), 1, True, 0.0, 0.0, 48 * 1024)
    device = cuda.gpus[index]
    name = device.name.decode() if isinstance(device.name, bytes) else str(device.name)
    return Properties(
        name,
        tuple(device.compute_capability),
        device.MULTIPROCESSOR_COUNT,
        bool(device.COOPERATIVE_LAUNCH),
        2e3 * device.MEMORY_CLOCK_RATE * device.GLOBAL_MEMORY_BUS_WIDTH / 8,  # kHz, two transfers a cycle
        1e3 * device.CLOCK_RATE,
        device.MAX_SHARED_MEMORY_PER_BLOCK_OPTIN,
    )


def devices() -> list[str]:
    """The devices, in words."""
    if unavailable():
        return []
    from numba import cuda  # noqa: PLC0415

    found = (properties(index) for index in range(len(cuda.gpus)))
    return [
        p.name
        if p.capability == (0, 0)
        else f"{p.name}, sm_{p.capability[0]}{p.capability[1]}, {p.multiprocessors} SMs"
        for p in found
    ]
