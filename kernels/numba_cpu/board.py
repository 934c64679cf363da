"""How compiled code of one thread has other threads take part in a call, without the interpreter.

The caller writes on a board, an int64 array, which function to run, where its arguments and its team's memory lie, and
then a new call number; the others watch the number. They hold no interpreter lock: to wait for it would take longer
than many a call. A member that fails writes its failure on the board; the caller raises it when all have ended.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from rnn_gpu.kernels.numba_cpu.failure import OK, raise_again
from rnn_gpu.kernels.numba_cpu.jit import cached_jit, jit
from rnn_gpu.kernels.numba_cpu.marshal import address
from rnn_gpu.kernels.numba_cpu.simd import array_at
from rnn_gpu.kernels.numba_cpu.team import MEMBERS, abandon, give_way, increment, look

__all__ = ["CALL", "new_board", "number_after", "serve", "together"]

CALL, FINISHED, FAILURE, FUNCTION, ARGUMENTS, TEAM, PLACES = 0, 16, 17, 32, 33, 34, 35
"""Places on a board: what changes while others watch is a cache line away from the rest."""

_INTEGER = ir.IntType(64)
_SHARE = ir.FunctionType(_INTEGER, [_INTEGER.as_pointer(), _INTEGER])

MOST_MEMBERS = 1 << 10
"""A call's number is a count of calls times this, and its members: who is none of them knows it at the first look."""


def new_board() -> np.ndarray[Any, np.dtype[np.int64]]:
    """A board."""
    return np.zeros(PLACES, np.int64)


def number_after(call: int, members: int) -> int:
    """The number of the call after `call`, with so many members."""
    return (call // MOST_MEMBERS + 1) * MOST_MEMBERS + members


_number_after = jit(number_after)


@intrinsic
def _call_share(typing: Any, function: Any, arguments: Any, member: Any) -> Any:
    """Call the function at one address with what lies at another and a member; return its failure, or OK."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        called = builder.inttoptr(values[0], _SHARE.as_pointer())
        return builder.call(called, [builder.inttoptr(values[1], _INTEGER.as_pointer()), values[2]])

    return types.int64(types.int64, types.int64, types.intp), generate


@intrinsic
def _team_at(typing: Any, where: Any) -> Any:
    """The memory of a team that lies at an address."""
    team = types.Array(types.int64, 1, "C")

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        at = builder.inttoptr(values[0], _INTEGER.as_pointer())
        return array_at(context, builder, team, at, ir.Constant(_INTEGER, MEMBERS + 1))

    return team(types.int64), generate


@jit
def together(board: Any, function: int, arguments: Any, team: Any) -> None:
    """Run the function at an address for each member of a team, member 0 here, and wait until all have returned.

    arguments: an int64 array that `write` has filled.
    Raises what a member has raised, of several one.
    """
    where, members = address(arguments), team[MEMBERS]
    if members > 1:
        board[FUNCTION], board[ARGUMENTS], board[TEAM], board[FINISHED] = function, where, address(team), 0
        board[FAILURE] = OK
        increment(board, CALL, _number_after(board[CALL], members) - board[CALL])
    failure = _call_share(function, where, 0)
    if failure != OK:
        abandon(team)
    looks = 0
    while members > 1 and look(board, FINISHED) < members - 1:
        give_way(looks)
        looks += 1
    if members > 1 and failure == OK:
        failure = look(board, FAILURE)
    raise_again(failure)


@cached_jit
def serve(build: Any, board: Any, member: int, seen: int, patience: int) -> int:
    """Take part as `member` in the calls after `seen` that have it; return the last, after `patience` looks in vain."""
    looks = 0
    while looks < patience:
        call = look(board, CALL)
        if call == seen:
            give_way(looks)
            looks += 1
            continue
        seen, looks = call, 0
        if member < call % MOST_MEMBERS:
            failure = _call_share(board[FUNCTION], board[ARGUMENTS], member)
            if failure != OK:
                board[FAILURE] = failure
                abandon(_team_at(board[TEAM]))
            increment(board, FINISHED, 1)
    return seen
