"""Threads that stay between calls, and run a compiled function together, each as one member of a team.

After a call they watch for the next one for a moment, in compiled code, without sleeping: to wake a sleeping thread
takes longer than many a call. Numba's own pool is not used: one of its threading layers ends the process when two
Python threads call at once, and none is on every machine. Work for torch is done by torch's threads: see `openmp.py`.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

from rnn_gpu.kernels.numba_cpu import openmp
from rnn_gpu.kernels.numba_cpu.board import CALL, PARALLEL, TeamTooSmallError, new_board, number_after, serve
from rnn_gpu.kernels.numba_cpu.jit import BUILD
from rnn_gpu.kernels.numba_cpu.team import ALONE, new_team
from rnn_gpu.problem import Array

__all__ = ["Task", "run"]

Task = tuple[Callable[..., None], tuple[Any, ...], int]
"""A compiled function that runs `together`; its arguments less the last, team and board; the members of the team."""

PATIENCE = 20_000
"""Looks at the board before a thread goes to sleep: about half a millisecond."""

_busy = threading.Lock()
_board = new_board()
_helpers: list[_Helper] = []


def run(members: int, prepare: Callable[[int], Task], brief: bool = False) -> None:
    """Run `function(*arguments, team, board)` with the threads that its team needs.

    members: of the team at most. It is 1 where another Python thread has the crew.
    prepare: gives the task for at most so many members.
    brief: the task takes less time than a thread takes to wake up: where one sleeps, it is woken for the calls to
        come, and this one does without.
    """
    if members == 1 or not _busy.acquire(blocking=False):
        _run_together(*prepare(1))
        return
    try:
        lent = openmp.lent(members)
        if lent is None and brief and _woken(members):
            members = 1
        task = prepare(members)
        if lent is None or not _run_by_others(*task, lent):
            _run_together(*task)
    finally:
        _busy.release()


def _woken(members: int) -> bool:
    """Wake the helpers of a team; whether one slept."""
    slept = False
    for helper in _helpers[: members - 1]:
        if helper.asleep:
            helper.wake()
            slept = True
    return slept


def _run_by_others(function: Callable[..., None], arguments: tuple[Any, ...], members: int, lent: Array) -> bool:
    """Run it by threads that are lent, as `openmp.lent` says; whether there were enough of them."""
    _board[PARALLEL:] = lent
    try:
        function(*arguments, new_team(members), _board)
    except TeamTooSmallError:
        openmp.refuse()
        return False
    finally:
        _board[PARALLEL] = 0
    return True


def _run_together(function: Callable[..., None], arguments: tuple[Any, ...], members: int) -> None:
    if members == 1:
        function(*arguments, ALONE, _board)
        return
    while len(_helpers) < members - 1:
        _helpers.append(_Helper(len(_helpers) + 1))
    team, call = new_team(members), number_after(_board.item(CALL), members)
    mine = _helpers[: members - 1]
    try:
        for helper in mine:
            helper.expect(call)
        function(*arguments, team, _board)
    except BaseException:
        if _board.item(CALL) != call:  # it failed before it began: the others need wait for it no longer
            for helper in mine:
                helper.expect(_board.item(CALL))
        raise


class _Helper:
    """A thread that is member `member` of every team that has one."""

    def __init__(self, member: int) -> None:
        self._member = member
        self._expected = self._seen = _board.item(CALL)
        self.asleep, self._wake = False, threading.Semaphore(0)
        threading.Thread(target=self._live, args=(_board,), name=f"rnn_gpu-{member}", daemon=True).start()

    def expect(self, call: int) -> None:
        """Do not sleep before this call has come."""
        self._expected = call
        self.wake()

    def wake(self) -> None:
        """Watch the board again for a while."""
        if self.asleep:
            self.asleep = False
            self._wake.release()

    def _live(self, board: Any) -> None:
        while True:
            self._seen = serve(BUILD, board, self._member, self._seen, PATIENCE)
            self.asleep = True
            if self._expected <= self._seen:
                self._wake.acquire()
            self.asleep = False


def _forget_crew() -> None:
    """A forked child has none of its parent's threads, and another thread of the parent may have held the crew."""
    global _busy, _board
    _busy, _board = threading.Lock(), new_board()
    _helpers.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_crew)
