"""Threads that work on the same rows, each on some of the hidden units, and meet between a cell's stages.

For batches with fewer rows than threads. A team's memory is a small int64 array, which holds who has arrived, the
count of meetings, and whether the team is abandoned. Whoever arrives last opens the next meeting; the others watch the
count, and give up their processor now and then.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from rnn_gpu.kernels.numba_cpu.jit import jit
from rnn_gpu.kernels.numba_cpu.simd import element_pointer

__all__ = ["abandon", "meet", "new_team", "team_size"]

ARRIVED, MEETINGS, ABANDONED, MEMBERS = 0, 1, 2, 16
"""Places in a team's memory: what is written to is a cache line away from what is only read."""

WATCH = 4000
"""Looks at the count of meetings before the processor is given up once."""


def new_team(members: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Memory for a team of `members` threads."""
    team = np.zeros(MEMBERS + 1, np.int64)
    team[MEMBERS] = members
    return team


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


@jit
def team_size(team: Any) -> int:
    """Members of the team."""
    members: int = team[MEMBERS]
    return members


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
        if looks == WATCH:
            looks = 0
            _give_way()
