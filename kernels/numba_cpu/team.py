"""Threads that work on one call, and meet where each needs what the others have made.

A team's memory is a small int64 array, which holds how many have arrived, whether the team is abandoned, and how much
one member has made for another, and that one used. A meeting is over when the first has reached the next multiple of
the members: who comes last writes nothing more, as the number's way from one processor to another is what a meeting
costs. The others watch it, and give up their processor now and then. Once a member has failed nobody waits any more:
the others run on to their end, over numbers that nobody will see.
"""

from __future__ import annotations

import os
import platform
from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from rnn_gpu.kernels.numba_cpu.jit import jit
from rnn_gpu.kernels.numba_cpu.simd import element_pointer

__all__ = [
    "ALONE",
    "MADE",
    "MEMBERS",
    "USED",
    "abandon",
    "await_count",
    "give_way",
    "increment",
    "look",
    "meet",
    "new_team",
]

ARRIVED, ABANDONED, USED, MADE, MEMBERS = 0, 1, 2, 8, 16
"""Places in a team's memory: what is written to is a cache line away from what is only read.

USED, MADE: how many blocks of what one member makes for another have been used, and made.
"""

WATCH = 4000
"""Looks at who has arrived before the processor is given up once."""


def new_team(members: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Memory for a team of `members` threads."""
    return _unused_team(members).copy()


@cache
def _unused_team(members: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    team = np.zeros(MEMBERS + 1, np.int64)
    team[MEMBERS] = members
    return team


ALONE = new_team(1)
"""The team of one, who waits for nobody."""


@intrinsic
def increment(typing: Any, array: Any, place: Any, by: Any) -> Any:
    """Add to an element at once, and return what it was; what was written before is seen by who sees the sum."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = element_pointer(context, builder, signature.args[0], arguments[0], arguments[1])
        return builder.atomic_rmw("add", pointer, arguments[2], "acq_rel")

    return types.int64(array, types.intp, types.int64), generate


@intrinsic
def look(typing: Any, array: Any, place: Any) -> Any:
    """An element as it is now."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = element_pointer(context, builder, signature.args[0], *arguments)
        return builder.load_atomic(pointer, "acquire", 8)

    return types.int64(array, types.intp), generate


@intrinsic
def _yield(typing: Any) -> Any:
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
def give_way(looks: int) -> None:
    """What to do between one look at a number and the next, after `looks` looks in vain."""
    _pause()
    if looks % WATCH == WATCH - 1:
        _yield()


@jit
def await_count(team: Any, place: int, count: int) -> None:
    """Wait until a number in the team's memory, to which other members add, has reached `count`."""
    looks = 0
    while look(team, place) < count and not look(team, ABANDONED):
        give_way(looks)
        looks += 1


@jit
def meet(team: Any) -> None:
    """Wait until every member of the team has come here."""
    members = team[MEMBERS]
    if members == 1 or look(team, ABANDONED):
        return
    arrived = increment(team, ARRIVED, 1)
    await_count(team, ARRIVED, (arrived // members + 1) * members)


@jit
def abandon(team: Any) -> None:
    """Let nobody wait for a member that has failed."""
    increment(team, ABANDONED, 1)
