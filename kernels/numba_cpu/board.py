"""How compiled code of one thread has other threads take part in a call, without the interpreter.

The caller writes on a board, an int64 array, which function to run, where its arguments and its team's memory lie, and
then a new call number; the others watch the number. They hold no interpreter lock: to wait for it would take longer
than many a call. A member that fails writes its failure on the board; the caller raises it when all have ended.

Or OpenMP has the threads, and their part in a call is what stands on the board: see `openmp.py`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import typeof, types
from numba.extending import intrinsic

from rnn_gpu.kernels.numba_cpu import kernel
from rnn_gpu.kernels.numba_cpu.failure import OK, raise_again
from rnn_gpu.kernels.numba_cpu.jit import cached_jit, jit
from rnn_gpu.kernels.numba_cpu.marshal import address, c_function
from rnn_gpu.kernels.numba_cpu.simd import array_at
from rnn_gpu.kernels.numba_cpu.team import MEMBERS, abandon, give_way, increment, look

__all__ = [
    "CALL",
    "COUNT",
    "NUMBER",
    "PARALLEL",
    "PART",
    "PLACES",
    "THREADS",
    "TeamTooSmallError",
    "address_of_part",
    "new_board",
    "number_after",
    "serve",
    "together",
]

CALL, FINISHED, FAILURE, FUNCTION, ARGUMENTS, TEAM = 0, 16, 17, 32, 33, 34
"""Places on a board: what changes while others watch is a cache line away from the rest."""

PARALLEL, NUMBER, COUNT, PART, THREADS, PLACES = 35, 36, 37, 38, 39, 40
"""Where OpenMP has the threads, addresses: of its function that runs another on a team, of those that tell a thread its
number and theirs, and of `address_of_part`; and how many threads it has. PARALLEL is 0 where the threads are ours."""

_INTEGER, _INT = ir.IntType(64), ir.IntType(32)

MOST_MEMBERS = 1 << 10
"""A call's number is a count of calls times this, and its members: who is none of them knows it at the first look."""


def new_board() -> np.ndarray[Any, np.dtype[np.int64]]:
    """A board."""
    return np.zeros(PLACES, np.int64)


def number_after(call: int, members: int) -> int:
    """The number of the call after `call`, with so many members."""
    return (call // MOST_MEMBERS + 1) * MOST_MEMBERS + members


_number_after = jit(number_after)


def _array_at(places: int) -> Any:
    """Return compiled `at(where)`: the int64 array of so many elements that lies at an address."""
    kind = types.Array(types.int64, 1, "C")

    @intrinsic
    def at(typing: Any, where: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            data = builder.inttoptr(values[0], _INTEGER.as_pointer())
            return array_at(context, builder, kind, data, ir.Constant(_INTEGER, places))

        return kind(types.int64), generate

    return at


_team_at, _board_at = _array_at(MEMBERS + 1), _array_at(PLACES)


@intrinsic
def _ask(typing: Any, function: Any) -> Any:
    """Call the function at an address, which takes nothing and returns an int."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        kind = ir.FunctionType(_INT, [])
        return builder.sext(builder.call(builder.inttoptr(values[0], kind.as_pointer()), []), _INTEGER)

    return types.int64(types.int64), generate


@intrinsic
def _run_parallel(typing: Any, parallel: Any, part: Any, board: Any, threads: Any) -> Any:
    """Call OpenMP's function at an address: (part, what it takes, threads, flags); all are addresses or numbers."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        kind = ir.FunctionType(ir.VoidType(), [_INTEGER, _INTEGER, _INT, _INT])
        threads = builder.trunc(values[3], _INT)
        builder.call(builder.inttoptr(values[0], kind.as_pointer()), [values[1], values[2], threads, _INT(0)])
        return context.get_dummy_value()

    return types.void(*[types.int64] * 4), generate


class TeamTooSmallError(Exception):
    """OpenMP gave fewer threads than there are members. None of them has done anything."""


@jit
def together(board: Any, function: int, arguments: Any, team: Any) -> None:
    """Run the function at an address for each member of a team, member 0 here, and wait until all have returned.

    arguments: an int64 array that `write` has filled.
    Raises what a member has raised, of several one; TeamTooSmallError.
    """
    where, members = address(arguments), team[MEMBERS]
    if members > 1:
        board[FUNCTION], board[ARGUMENTS], board[TEAM], board[FINISHED] = function, where, address(team), 0
        board[FAILURE] = OK
        if board[PARALLEL] != 0:
            _run_parallel(board[PARALLEL], board[PART], address(board), board[THREADS])
            if look(board, FINISHED) < members:
                raise TeamTooSmallError
            raise_again(look(board, FAILURE))
            return
        increment(board, CALL, _number_after(board[CALL], members) - board[CALL])
    failure = kernel.call(function, where, 0)
    if failure != OK:
        abandon(team)
    looks = 0
    while members > 1 and look(board, FINISHED) < members - 1:
        give_way(looks)
        looks += 1
    if members > 1 and failure == OK:
        failure = look(board, FAILURE)
    raise_again(failure)


@jit
def _take_part(board: Any, member: int) -> None:
    """Run a member's share, and note whether it has failed, and that it has ended."""
    failure = kernel.call(board[FUNCTION], board[ARGUMENTS], member)
    if failure != OK:
        board[FAILURE] = failure
        abandon(_team_at(board[TEAM]))
    increment(board, FINISHED, 1)


@jit
def _part(where: int) -> None:
    """What each thread of OpenMP's team does in the call on the board at an address; its first has the caller."""
    board = _board_at(where)
    members, member = _team_at(board[TEAM])[MEMBERS], _ask(board[NUMBER])
    if member < members <= _ask(board[COUNT]):
        _take_part(board, member)


@intrinsic
def _address_of_part(typing: Any) -> Any:
    typeof(_part).get_call_type(typing, (types.int64,), {})

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return c_function(context, builder, _part, (types.int64,), [_INTEGER], lambda inside, given: list(given))

    return types.int64(), generate


@cached_jit
def address_of_part(build: Any) -> int:
    """Where the code is that OpenMP's threads run; it takes a board's address."""
    where: int = _address_of_part()
    return where


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
            _take_part(board, member)
    return seen
