"""A task for a team of threads, whose result shows that all members ran and saw what the others did, or that fails."""

from __future__ import annotations

from rnn_gpu.kernels.numba_cpu.board import together
from rnn_gpu.kernels.numba_cpu.jit import BUILD, kernel
from rnn_gpu.kernels.numba_cpu.kernel import address_of
from rnn_gpu.kernels.numba_cpu.marshal import ROOM, reader, write
from rnn_gpu.kernels.numba_cpu.simd import room_for
from rnn_gpu.kernels.numba_cpu.team import meet
from tests.support.numba_entry import entry

__all__ = ["run_share", "task"]


@kernel
def _share(cell, real, numbers, member):
    marks, value, failing, divisor, team = _read(numbers, real)
    marks[member] = value
    meet(team)
    if member == failing:
        if divisor == 0:
            marks[member] = 1 // divisor
        raise ValueError("planted")
    total = marks.sum()
    for _ in range(3):
        meet(team)
    marks[member] = total


_read = reader("niiin")


@entry
def run_share(code, marks, value, failing, divisor, team, board):
    """The compiled function of the task."""
    numbers = room_for(team, ROOM)
    write(numbers, (marks, value, failing, divisor, team))
    together(board, code, numbers, team)


def task(members, marks, value=1, failing=-1, divisor=1):
    """The task for `crew.run`: afterwards each of `marks`, an int64 array of as many as members, is members * value.

    failing: the member that raises ValueError, or ZeroDivisionError if divisor is 0; nobody if -1.
    """
    return run_share, (address_of(_share, BUILD, marks.dtype), marks, value, failing, divisor), members
