"""Compiling before the first call: the kernels that a plan takes, many at a time, into the cache on disk."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

from rnn_gpu.compiler.cell import Cell
from rnn_gpu.kernels.cupy_raw import packing, sums
from rnn_gpu.kernels.cupy_raw.compilation import binary, target_for
from rnn_gpu.kernels.cupy_raw.device import Kernel, Properties
from rnn_gpu.kernels.cupy_raw.plan import Plan
from rnn_gpu.kernels.cupy_raw.source import kernel, step_kernels

__all__ = ["compile_ahead", "kernels_of"]


def kernels_of(
    cell: Cell, dtype: str, plan: Plan, *, lengths: bool = False, resets: bool = False, keeps: int = 2
) -> list[Kernel]:
    """The kernels of a plan for calls with or without these, see `Traits`; one a source: those of a step lie in one."""
    choices = [choice for choice in (plan.forward, plan.backward) if choice is not None]
    found = [kernel(each.kernel.of_call(lengths=lengths, resets=resets, keeps=keeps)) for each in choices]
    if plan.forward is None or plan.backward is None:
        found.append(kernel(step_kernels(cell, dtype, plan.kept.name)[0]))
    if "backward" in plan.verdicts:
        found += sums.kernels_of(cell, dtype, plan.kept.name)
    if lengths:
        found += packing.kernels_of(dtype, plan.kept.name)
    return found


def compile_ahead(
    kernels: Iterable[Kernel], properties: Properties, stop: Callable[[], bool] = lambda: False, *, threads: int = 0
) -> int:
    """Compile each source once, unless it lies on disk; returns how many there were.

    threads: at a time, by default as many as there are processors. stop: asked before each; when it says so, the rest
    is left. Raises BackendError where one does not compile.
    """
    target = target_for(properties.capability)
    sources = {each.source: each for each in kernels}

    def compile_one(each: Kernel) -> None:
        if not stop():
            binary(each, target)

    with ThreadPoolExecutor(threads or len(os.sched_getaffinity(0))) as pool:
        for _ in pool.map(compile_one, sources.values()):
            pass
    return len(sources)
