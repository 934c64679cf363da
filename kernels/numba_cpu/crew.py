"""Threads that stay between calls, and run a compiled function together, each as one member of a team.

After a call they listen for the next one for a moment without sleeping: to wake a sleeping thread takes longer than
many a call. Numba's own pool is not used: one of its threading layers ends the process when two Python threads call at
once, and none is on every machine.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from rnn_gpu.kernels.numba_cpu.jit import BUILD
from rnn_gpu.kernels.numba_cpu.team import abandon, listen, new_team

__all__ = ["Function", "run"]

Function = Callable[..., None]
"""A compiled function, called with its arguments and then: team, bell, member. It rings the bell as it begins and meets
the team as it ends."""

LOOKS = 20_000
"""Looks at the bell before a thread goes to sleep: about half a millisecond."""

_busy = threading.Lock()
_bell = np.zeros(1, np.int64)
_helpers: list[_Helper] = []


def run(members: int, prepare: Callable[[int], tuple[Function, tuple[Any, ...]]]) -> None:
    """Run `function(*arguments, team, bell, member)` for each member, member 0 in this thread, until all are done.

    members: how many it is to be. It is 1 where another Python thread has the crew.
    prepare: gives the function and its arguments for a number of members.
    Raises what a member raised.
    """
    if members == 1 or not _busy.acquire(blocking=False):
        function, arguments = prepare(1)
        function(*arguments, new_team(1), np.zeros(1, np.int64), 0)
        return
    try:
        _run_together(members, *prepare(members))
    finally:
        _busy.release()


def _run_together(members: int, function: Function, arguments: tuple[Any, ...]) -> None:
    while len(_helpers) < members - 1:
        _helpers.append(_Helper(len(_helpers) + 1))
    team, call = new_team(members), int(_bell[0]) + 1
    mine = _helpers[: members - 1]
    try:
        for helper in mine:
            helper.take(call, function, arguments, team)
        function(*arguments, team, _bell, 0)
    except BaseException:
        abandon(team)
        if _bell[0] != call:  # it failed before it could ring: nobody has begun, and nobody may
            for helper in mine:
                helper.cancel(call)
            _bell[0] = call
        _wait_for(mine, call)
        raise
    if any(helper.failure is not None for helper in mine):
        _wait_for(mine, call)
        raise next(helper.failure for helper in mine if helper.failure is not None)


def _wait_for(helpers: list[_Helper], call: int) -> None:
    """Wait until none of them works on the call any more."""
    while any(helper.done < call for helper in helpers):
        time.sleep(1e-4)


class _Helper:
    """A thread that is member `member` of every team it works in.

    done: the last call it has finished with. failure: what that call raised.
    """

    def __init__(self, member: int) -> None:
        self.member, self.done = member, int(_bell[0])
        self.failure: BaseException | None = None
        self._heard = self.done
        self._task: tuple[int, Function, tuple[Any, ...], Any] | None = None
        self._asleep, self._wake = False, threading.Semaphore(0)
        threading.Thread(target=self._live, name=f"rnn_gpu-{member}", daemon=True).start()

    def take(self, call: int, function: Function, arguments: tuple[Any, ...], team: Any) -> None:
        """Take part in the call once the bell has rung for it."""
        self.failure = None
        self._task = call, function, arguments, team
        if self._asleep:
            self._asleep = False
            self._wake.release()

    def cancel(self, call: int) -> None:
        """Take no part in the call."""
        self._task = None
        self.done = call

    def _live(self) -> None:
        while True:
            if not listen(BUILD, _bell, self._heard, LOOKS):
                self._asleep = True
                if _bell[0] == self._heard and (self._task is None or self._task[0] <= self._heard):
                    self._wake.acquire()
                self._asleep = False
                continue
            call, task = int(_bell[0]), self._task
            self._heard = call
            if task is None or task[0] != call:
                continue  # a call that needs fewer members, or one yet to begin
            self._task = None
            _, function, arguments, team = task
            try:
                function(*arguments, team, _bell, self.member)
            except BaseException as failure:
                self.failure = failure
                abandon(team)
            task = arguments = team = None  # type: ignore[assignment]  # a call's arrays are not kept past its end
            self.done = call


def _forget_crew() -> None:
    """A forked child has none of its parent's threads, and another thread of the parent may have held the crew."""
    global _busy, _bell
    _busy, _bell = threading.Lock(), np.zeros(1, np.int64)
    _helpers.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_crew)
