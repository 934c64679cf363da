"""Whether CuPy can be used here, and if not, what to do about it."""

from __future__ import annotations

import importlib
import importlib.util
import os
from functools import cache
from typing import Any

__all__ = ["INSTALL", "devices", "reason", "unavailable"]

INSTALL = "pip install 'rnn_gpu[cuda13]', or 'rnn_gpu[cuda12]' for a driver older than 580"


@cache
def unavailable() -> str | None:
    """Why this machine cannot run CUDA kernels through CuPy, or None. Found once."""
    return reason()


def reason() -> str | None:
    """As `unavailable`, looked up anew."""
    if importlib.util.find_spec("cupy") is None:
        return f"the package cupy is not installed: {INSTALL}"
    try:
        cupy = importlib.import_module("cupy")
    except ImportError as error:
        return f"cupy cannot be imported: {_first_line(error)}"
    if not hasattr(cupy, "cuda"):
        return f"what is imported as cupy is not CuPy: {list(getattr(cupy, '__path__', []))}"
    runtime = cupy.cuda.runtime
    if runtime.is_hip:
        return "this CuPy is built for ROCm, and the kernels are CUDA's"
    return _device_missing(runtime) or _library_missing()


def devices() -> list[str]:
    """The devices in words, empty where there are none or CuPy is unavailable."""
    if unavailable() is not None:
        return []
    runtime = importlib.import_module("cupy").cuda.runtime
    found = []
    for index in range(runtime.getDeviceCount()):
        told = runtime.getDeviceProperties(index)
        memory = told["totalGlobalMem"] / 2**30
        arch = f"sm_{told['major']}{told['minor']}"
        found.append(f"cuda:{index} {told['name'].decode()}, {arch}, {memory:.0f} GiB")
    return found


def _device_missing(runtime: Any) -> str | None:
    try:
        count = runtime.getDeviceCount()
    except runtime.CUDARuntimeError as error:
        name = str(error).partition(":")[0]
        if name == "cudaErrorInsufficientDriver":
            return _driver_reason(runtime)
        if name != "cudaErrorNoDevice":
            return f"CUDA does not start: {_first_line(error)}"
        count = 0
    if count == 0:
        hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
        return "no CUDA device is visible" + ("" if hidden is None else f" (CUDA_VISIBLE_DEVICES={hidden!r})")
    return None


def _driver_reason(runtime: Any) -> str:
    """CUDA's runtime says the same of no driver as of an old one; the driver's version is 0 where there is none."""
    driver, built = runtime.driverGetVersion(), runtime.runtimeGetVersion()
    if driver == 0:
        return "no NVIDIA driver was found"
    return (
        f"the NVIDIA driver is too old: it supports CUDA {_version(driver)}, and this CuPy needs CUDA "
        f"{_version(built)}: update it, or install CuPy for an older CUDA ({INSTALL})"
    )


def _library_missing() -> str | None:
    libraries = importlib.import_module("cupy_backends.cuda.libs")
    for name, what in (("nvrtc", "NVRTC, which compiles the kernels,"), ("cublas", "cuBLAS, which does the products,")):
        try:
            library = getattr(libraries, name)  # finds it, in NVIDIA's wheels too
            if name == "nvrtc":
                library.getVersion()  # loads it
        except (ImportError, RuntimeError) as error:
            return f"{what} was not found: {INSTALL} ({_first_line(error)})"
    return None


def _version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip(" =")]
    return lines[0] if lines else type(error).__name__
