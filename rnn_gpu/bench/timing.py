"""How a run is timed: contenders take turns, and the median of all their runs counts.

Every library has a pool of threads that go on spinning for a while after their work (OpenBLAS' for 100 ms), and would
slow down whoever comes next on the same cores. So a turn begins when the process has come to rest.
"""

from __future__ import annotations

import contextlib
import gc
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import repeat
from statistics import median, quantiles
from typing import NamedTuple

__all__ = ["Plan", "Stopped", "Timing", "alternate", "geometric_mean", "rest"]

SAMPLE_S = 2e-4
"""A sample is so many runs that it takes at least this long."""

WARM_UP_S = 0.02
WARM_UP_RUNS = 1

Run = Callable[[], object]


class Stopped(Exception):
    """The user asked to stop."""


@dataclass(frozen=True)
class Plan:
    """How long to measure.

    seconds: for each contender, on average. least: rounds at the least, however long they take.
    turn: seconds of one contender's turn; a longer run is a turn by itself.
    """

    seconds: float
    least: int
    turn: float


class Timing(NamedTuple):
    """seconds: the median; spread: interquartile range over median; samples: how many were timed."""

    seconds: float
    spread: float
    samples: int

    def per_call(self, calls: int) -> Timing:
        """The timing of one of the calls of which a run is made."""
        return self._replace(seconds=self.seconds / calls)


def alternate(
    runs: Mapping[str, Run],
    plan: Plan,
    stop: Callable[[], bool] = lambda: False,
    *,
    clock: Callable[[], float] = time.perf_counter,
    rest: Callable[[], None] | None = None,
) -> dict[str, Timing]:
    """Time each of `runs`, turn and turn about, after all have been warmed up.

    stop: asked between runs. Raises Stopped when it says so.
    """
    contenders = {name: _Contender(run, clock, stop) for name, run in runs.items()}
    with _no_garbage_collection():
        for contender in contenders.values():
            contender.warm_up()
        rounds = 0
        while rounds < plan.least or sum(c.spent for c in contenders.values()) < plan.seconds * len(contenders):
            for contender in contenders.values():
                (rest or _rest)()
                contender.take_turn(plan.turn)
            rounds += 1
    return {name: contender.timing() for name, contender in contenders.items()}


def geometric_mean(values: list[float]) -> float:
    """Raises ValueError for none."""
    if not values:
        raise ValueError("the mean of no values")
    return math.exp(math.fsum(map(math.log, values)) / len(values))


def rest(limit: float = 0.3) -> None:
    """Wait until no thread of this process is at work, or `limit` seconds have passed."""
    end = time.perf_counter() + limit
    while time.perf_counter() < end:
        wall, work = time.perf_counter(), time.process_time()
        time.sleep(0.01)  # longer than the tick at which the system accounts for threads that run
        if time.process_time() - work < 0.2 * (time.perf_counter() - wall):
            return


_rest = rest


class _Contender:
    """One of those timed. spent: seconds in timed runs; number: runs in a sample."""

    def __init__(self, run: Run, clock: Callable[[], float], stop: Callable[[], bool]) -> None:
        self._run = run
        self._clock = clock
        self._stop = stop
        self._samples: list[float] = []
        self._number = 1
        self._typical = 0.0
        self.spent = 0.0

    def warm_up(self) -> None:
        """Run until caches, pools and allocators have what they keep, and find out how long a run takes."""
        start = self._clock()
        done = 0
        times = []
        while done < WARM_UP_RUNS or self._clock() - start < WARM_UP_S:
            times.append(self._sample(1))
            done += 1
        self._typical = min(times)
        self._number = max(1, math.ceil(SAMPLE_S / max(self._typical, 1e-9)))

    def take_turn(self, length: float) -> None:
        """Time samples for `length` seconds, at least one. Short runs are preceded by one that wakes the threads."""
        if self._typical < length / 4:
            self._sample(self._number)
        begin = self.spent
        while self.spent - begin < length:
            seconds = self._sample(self._number)
            self._samples.append(seconds / self._number)
            self.spent += seconds

    def timing(self) -> Timing:
        middle = median(self._samples)
        low, _, high = quantiles(self._samples, n=4) if len(self._samples) > 1 else (middle,) * 3
        return Timing(middle, (high - low) / middle, len(self._samples))

    def _sample(self, number: int) -> float:
        if self._stop():
            raise Stopped
        run = self._run
        start = self._clock()
        for _ in repeat(None, number):
            run()
        return self._clock() - start


@contextlib.contextmanager
def _no_garbage_collection() -> Iterator[None]:
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
