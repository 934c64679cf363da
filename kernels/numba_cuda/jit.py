"""Numba's CUDA decorators as this backend uses them, on a device and in Numba's simulator.

The simulator (NUMBA_ENABLE_CUDASIM=1) runs a kernel's threads as threads of Python, on NumPy scalars.
"""

from __future__ import annotations

import linecache
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import config, cuda, types

__all__ = [
    "INDEX", "SCALAR", "SIMULATED", "Kernel", "device", "device_with_barriers", "executed", "kernel", "simulate",
]  # fmt: skip

SIMULATED = bool(config.ENABLE_CUDASIM)

SCALAR = {np.dtype(np.float32): types.float32, np.dtype(np.float64): types.float64}
"""Numba's type of a working type, as shared memory is declared with."""


INDEX: Any = (lambda i: i) if SIMULATED else np.uint64
"""Makes an index unsigned. Numba checks a signed one for being negative, at the cost of instructions and registers."""


def device(function: Callable[..., Any]) -> Any:
    """A function that kernels call. In the simulator a plain one, which is quicker: it may not name `cuda`."""
    return function if SIMULATED else cuda.jit(device=True, forceinline=True)(function)


def device_with_barriers(function: Callable[..., Any]) -> Any:
    """A function that kernels call, and that calls `cuda.syncthreads` itself."""
    return cuda.jit(device=True)(function) if SIMULATED else device(function)


@dataclass(frozen=True, eq=False)
class Kernel:
    """A kernel for a device, see `kernel`. It is compiled when it is first launched: see `compilation`."""

    function: Callable[..., None]
    threads: int | None
    cooperative: bool


def kernel(function: Callable[..., Any], *, threads: int | None = None, cooperative: bool = False) -> Any:
    """What `launching` or `simulate` launches.

    threads: the most that a block has; registers are allotted by it. cooperative: whether it waits for its whole grid.
    """
    return cuda.jit(function) if SIMULATED else Kernel(function, threads, cooperative)


def executed(text: str, name: str, namespace: Mapping[str, Any]) -> dict[str, Any]:
    """The functions that emitted text defines, ready for kernels to call."""
    filename = f"<rnn_gpu {name}>"
    made: dict[str, Any] = dict(namespace)
    exec(compile(text, filename, "exec"), made)
    linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)
    functions = {key: value for key, value in made.items() if key not in namespace and key != "__builtins__"}
    for key, function in functions.items():
        made[key] = functions[key] = device(function)
    return functions


def simulate(kernel: Any, grid: tuple[int, ...], block: tuple[int, ...], shared: int, *arguments: Any) -> None:
    """Run a kernel in the simulator."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(2e-5)  # the simulator waits for its threads in a loop, which would keep them from running
    try:
        with warnings.catch_warnings():  # NumPy's scalars warn where a device gives inf or NaN
            warnings.simplefilter("ignore", RuntimeWarning)
            kernel[grid, block, 0, shared](*arguments)
    finally:
        sys.setswitchinterval(interval)
