"""Threads that work on one call, and meet where each needs what the others have made.

A team's memory is a small int64 array, which holds who has arrived, the count of meetings, and whether the team is
abandoned. Whoever arrives last opens the next meeting; the others watch the count, and give up their processor now and
then. A call begins by ringing a bell, an int64 array too, which `crew.py`'s threads listen to.
"""

from __future__ import annotations

import os
import platform
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from rnn_gpu.kernels.numba_cpu.jit import cached_jit, jit
from rnn_gpu.kernels.numba_cpu.simd import element_pointer

__all__ = ["ALONE", "abandon", "listen", "meet", "new_team", "ring"]

ARRIVED, MEETINGS, ABANDONED, MEMBERS = 0, 1, 2, 16
"""Places in a team's memory: what is written to is a cache line away from what is only read."""

WATCH = 4000
"""Looks at the count of meetings before the processor is given up once."""


def new_team(members: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Memory for a team of `members` threads."""
    team = np.zeros(MEMBERS + 1, np.int64)
    team[MEMBERS] = members
    return team


ALONE = new_team(1)
"""The team of one, who waits for nobody."""


def abandon(team: np.ndarray[Any, np.dtype[np.int64]]) -> None:
    """Let the members go on without waiting for one another: one has failed, and what they compute is of no use."""
    team[ABANDONED] = 1


@intrinsic
def _increment(typing: Any, array: Any, place: Any) -> Any:
    """Add 1 to an element at once, and return what it was; what was written before is seen by who sees the sum."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = element_pointer(context, builder, signature.args[0], *arguments)
        return builder.atomic_rmw("add", pointer, ir.Constant(ir.IntType(64), 1), "acq_rel")

    return types.int64(array, types.intp), generate


@intrinsic
def _look(typing: Any, array: Any, place: Any) -> Any:
    """An element as it is now."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = element_pointer(context, builder, signature.args[0], *arguments)
        return builder.load_atomic(pointer, "acquire", 8)

    return types.int64(array, types.intp), generate


@intrinsic
def _give_way(typing: Any) -> Any:
    """Let another thread have the processor, where the system has a call for it."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        if os.name == "posix":
            yields = cgutils.get_or_insert_function(builder.module, ir.FunctionType(ir.IntType(32), []), "sched_yield")
            builder.call(yields, [])
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def _pause(typing: Any) -> Any:
    """Tell the processor, where it can be told, that this thread only watches."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        if platform.machine().lower() in ("x86_64", "amd64"):
            pause = cgutils.get_or_insert_function(
                builder.module, ir.FunctionType(ir.VoidType(), []), "llvm.x86.sse2.pause"
            )
            builder.call(pause, [])
        return context.get_dummy_value()

    return types.void(), generate


@jit
def ring(bell: Any, member: int) -> None:
    """Member 0 lets the others begin: in compiled code, as they need the interpreter's lock to take their part."""
    if member == 0:
        _increment(bell, 0)


@cached_jit
def listen(build: Any, bell: Any, heard: int, looks: int) -> bool:
    """Watch until the bell has rung more than `heard` times, or for `looks` looks; whether it has rung."""
    for look in range(looks):
        if _look(bell, 0) != heard:
            return True
        _pause()
        if look % WATCH == WATCH - 1:
            _give_way()
    return False


@jit
def meet(team: Any) -> None:
    """Wait until every member of the team has come here."""
    if team[MEMBERS] == 1 or _look(team, ABANDONED):
        return
    meeting = _look(team, MEETINGS)
    if _increment(team, ARRIVED) + 1 == team[MEMBERS]:
        team[ARRIVED] = 0
        _increment(team, MEETINGS)
        return
    looks = 0
    while _look(team, MEETINGS) == meeting and not _look(team, ABANDONED):
        looks += 1
        _pause()
        if looks == WATCH:
            looks = 0
            _give_way()
