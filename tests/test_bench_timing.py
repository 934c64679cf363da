"""How runs are timed: in turns, warmed up, medians, and stopped when asked."""

from __future__ import annotations

import gc

import pytest

from rnn_gpu.bench import timing
from rnn_gpu.bench.timing import Plan, Stopped, Timing, alternate, geometric_mean


class Clock:
    """A clock that stands still but for what the runs take."""

    def __init__(self):
        self.now = 0.0
        self.log = []

    def __call__(self):
        return self.now

    def run(self, name, *seconds):
        """A run that takes these seconds, one after the other, the last from then on."""
        left = list(seconds)

        def run():
            self.log.append(name)
            self.now += left.pop(0) if len(left) > 1 else left[0]

        return run

    def rest(self):
        self.log.append("rest")

    def alternate(self, plan, stop=lambda: False, **runs):
        return alternate(runs, plan, stop, clock=self, rest=self.rest)


def test_contenders_take_turns_after_all_are_warm():
    clock = Clock()
    clock.alternate(Plan(seconds=0, least=3, turn=0.5), ours=clock.run("ours", 1.0), theirs=clock.run("theirs", 2.0))
    warm = timing.WARM_UP_RUNS
    assert clock.log == ["ours"] * warm + ["theirs"] * warm + ["rest", "ours", "rest", "theirs"] * 3


def test_the_first_runs_are_not_timed_and_the_median_counts():
    clock = Clock()
    found = clock.alternate(Plan(0, 5, 0.5), ours=clock.run("ours", 100.0, 1.0, 2.0, 9.0, 2.5, 3.0))
    assert found["ours"] == Timing(2.5, pytest.approx((6.0 - 1.5) / 2.5), 5)


def test_measuring_goes_on_until_the_time_is_used():
    clock = Clock()
    found = clock.alternate(Plan(seconds=20, least=1, turn=1), ours=clock.run("ours", 1.0), theirs=clock.run("t", 3.0))
    assert found["ours"].samples == found["theirs"].samples == 10


def test_the_least_number_of_rounds_is_kept_however_long_they_take():
    clock = Clock()
    assert clock.alternate(Plan(1, 4, 0.1), ours=clock.run("ours", 60.0))["ours"].samples == 4


def test_short_runs_are_timed_several_at_a_time_and_given_one_by_one():
    clock = Clock()
    found = clock.alternate(Plan(0, 1, 1e-3), ours=clock.run("ours", 2e-5))
    assert found["ours"].seconds == pytest.approx(2e-5)
    assert found["ours"].samples == 5  # of ten runs each, in a turn of a millisecond


def test_a_short_run_is_made_once_untimed_after_the_rest():
    clock = Clock()
    found = clock.alternate(Plan(0, 1, 1.0), ours=clock.run("ours", 0.01, 0.01, 0.4, 0.6))
    assert clock.log == ["ours"] * 2 + ["rest"] + ["ours"] * 3
    assert (found["ours"].seconds, found["ours"].samples) == (pytest.approx(0.6), 2)


def test_stop_is_asked_between_runs():
    clock = Clock()
    with pytest.raises(Stopped):
        clock.alternate(Plan(0, 9, 1.0), lambda: clock.now >= 5.0, ours=clock.run("ours", 1.0))
    assert clock.log.count("ours") == 5


def test_garbage_is_not_collected_meanwhile_and_is_afterwards():
    seen = []
    alternate({"ours": lambda: seen.append(gc.isenabled())}, Plan(0, 1, 1e-4))
    assert seen
    assert not any(seen)
    assert gc.isenabled()


def test_rest_ends_when_nothing_runs_and_at_its_limit():
    start = timing.time.perf_counter()
    timing.rest()
    timing.rest(limit=0.0)
    assert timing.time.perf_counter() - start < 0.3


def test_a_run_of_several_calls():
    assert Timing(1.0, 0.1, 7).per_call(16) == Timing(1 / 16, 0.1, 7)


def test_geometric_mean():
    assert geometric_mean([0.5, 2.0, 8.0]) == pytest.approx(2.0)
    with pytest.raises(ValueError, match="no values"):
        geometric_mean([])
