"""`make bench-compare`: what is slower, what is noise, and two commits side by side."""

from __future__ import annotations

import contextlib
import importlib
import itertools
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def compare(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "asv_bench"))
    return importlib.import_module("compare")


class Side:
    """Times as they are given for each benchmark, one after the other, round and round."""

    def __init__(self, times, log):
        self.times, self.log, self.answers, self.name = times, log, [], None

    def ask(self, request, argument):
        if request == "prepare":
            self.name = argument
            given = self.times[argument]
            self.clock = itertools.cycle(given) if isinstance(given, list) else None
            self.answers.append({"seconds": given[0]} if self.clock else given)
        else:
            self.log.append((id(self), self.name))
            self.answers.append(argument * next(self.clock))

    def answer(self):
        return self.answers.pop(0)


class Pair:
    """Two sides; those of each round have the times of that round, the last from then on."""

    def __init__(self, *rounds):
        self.rounds, self.started, self.log = list(rounds), 0, []

    @contextlib.contextmanager
    def __call__(self):
        base, head = self.rounds[min(self.started, len(self.rounds) - 1)]
        self.started += 1
        yield Side(base, self.log), Side(head, self.log)

    def results(self, compare, names, rounds=5):
        return {result.name: result for result in compare.compare(names, self, 1.2, rounds)}


def test_what_is_slower_in_every_round_is_slower(compare):
    pair = Pair(({"a": [1.0], "b": [1.0]}, {"a": [1.5], "b": [1.0]}))
    found = pair.results(compare, "ab")
    assert found["a"].ratios == [pytest.approx(1.5)] * 5
    assert found["b"].ratios == [pytest.approx(1.0)]
    lines, status = compare.report(list(found.values()), 1.2)
    assert status == 1
    assert [line.split()[0] for line in lines[:2]] == ["SLOWER", "1.00x"]
    assert lines[-1] == "2 benchmarks: 1 slower and 0 faster by more than 1.2 times, 0 failed."


def test_what_is_slower_in_some_rounds_is_noise(compare):
    slow, even = ({"a": [1.0]}, {"a": [1.5]}), ({"a": [1.0]}, {"a": [1.1]})
    pair = Pair(slow, slow, even)
    found = pair.results(compare, "a")
    assert found["a"].ratios == [pytest.approx(1.5), pytest.approx(1.5), pytest.approx(1.1)]
    assert pair.started == 3
    assert compare.report(list(found.values()), 1.2)[1] == 0


def test_what_is_faster_is_told_and_no_error(compare):
    found = Pair(({"a": [3.0]}, {"a": [1.0]})).results(compare, "a")
    lines, status = compare.report(list(found.values()), 1.2)
    assert status == 0
    assert lines[0].startswith("faster")
    assert found["a"].ratios == [pytest.approx(1 / 3)] * 5


def test_what_both_share_is_not_in_the_ratio(compare):
    weather = [1.0, 5.0, 2.0, 0.5, 9.0, 1.0]
    pair = Pair(({"a": weather}, {"a": [1.1 * each for each in weather]}))
    assert pair.results(compare, "a")["a"].ratios == [pytest.approx(1.1)]


def test_one_sample_out_of_line_does_not_count(compare):
    pair = Pair(({"a": [1.0]}, {"a": [1.0, 1.0, 50.0, 1.0, 1.0, 1.0]}))
    assert pair.results(compare, "a")["a"].ratios == [pytest.approx(1.0)]


def test_who_comes_first_takes_turns(compare):
    pair = Pair(({"a": [1.0]}, {"a": [1.0]}))
    pair.results(compare, "a")
    first = [who for who, _ in pair.log[::2]]
    assert len(set(first[1:])) == 2
    assert all(one != other for one, other in itertools.pairwise(first[1:]))


def test_short_runs_are_timed_several_at_a_time(compare):
    pair = Pair(({"a": [1e-4]}, {"a": [2e-4]}))
    found = pair.results(compare, "a")["a"]
    assert (found.base_s, found.head_s) == (pytest.approx(1e-4), pytest.approx(2e-4))


def test_what_cannot_run_is_told(compare):
    skipped, failed = {"skipped": "no device"}, {"failed": "Traceback\nZeroDivisionError: x"}
    pair = Pair(({"a": [1.0], "b": skipped, "c": failed}, {"a": [1.0], "b": skipped, "c": [1.0]}))
    lines, status = compare.report(list(pair.results(compare, "abc").values()), 1.2)
    assert status == 0
    assert "not measured (1): skipped on the base: no device" in lines
    assert "not measured (1): failed on the base: ZeroDivisionError: x" in lines


def test_what_fails_on_the_head_alone_is_an_error(compare):
    pair = Pair(({"a": [1.0]}, {"a": {"failed": "Traceback\nZeroDivisionError: x"}}))
    lines, status = compare.report(list(pair.results(compare, "a").values()), 1.2)
    assert status == 1
    assert lines[0] == "FAILED  a: failed on the head: ZeroDivisionError: x"


@pytest.mark.parametrize("names", ["", "b"])
def test_nothing_measured_is_an_error(compare, names):
    pair = Pair(({"b": {"skipped": "no device"}}, {"b": {"skipped": "no device"}}))
    lines, status = compare.report(list(pair.results(compare, names).values()), 1.2)
    assert status == 2
    assert lines[-1] == "Nothing was measured."


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no-such-commit"], "this repository has no commit 'no-such-commit'"),
        (["HEAD", "--factor", "1"], "--factor is a number above 1"),
        (["HEAD", "--rounds", "0"], "--rounds at least 1"),
    ],
)
def test_what_is_asked_for_wrongly_is_said(compare, capsys, arguments, message):
    with pytest.raises(SystemExit) as ended:
        compare.main(arguments)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def plant(environment):
    """Make a step of the NumPy backend take three times as long."""
    (module,) = environment.glob("lib/*/site-packages/rnn_gpu/kernels/numpy_cpu/__init__.py")
    with module.open("a") as file:
        file.write(
            "\n\nimport time as _time\n\n_step = type(BACKEND).step\n\n\n"
            "def _slow(self, problem, inputs):\n"
            "    begin = _time.perf_counter()\n"
            "    result = _step(self, problem, inputs)\n"
            "    end = begin + 3 * (_time.perf_counter() - begin)\n"
            "    while _time.perf_counter() < end:\n"
            "        pass\n"
            "    return result\n\n\n"
            "type(BACKEND).step = _slow\n"
        )


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="a copy without git's folder has no commits to compare")
def test_a_planted_slow_down_is_found_and_nothing_else(compare, monkeypatch, tmp_path, capsys):
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()
    monkeypatch.setattr(compare, "ENVIRONMENTS", tmp_path)
    only = ["--bench", r"(streaming.*|Forward.*shape=10,32,1,50.*)numpy_cpu|Forward.*numpy_cpu.*shape=10,32,1,50"]
    install = compare.checkout.install

    def planted(what, folder):
        install(what, folder)
        if what == compare.checkout.WORKING_TREE:
            plant(folder)

    monkeypatch.setattr(compare.checkout, "install", planted)
    assert compare.main([commit, "--factor", "1.7", "--rounds", "3", *only]) == 1
    lines = capsys.readouterr().out.splitlines()
    timed = [line for line in lines if " -> " in line]
    assert {line.startswith("SLOWER") for line in timed if "time_steps" in line} == {True}
    assert {line.startswith("SLOWER") for line in timed if "time_forward" in line} == {False}
    assert len(timed) == 9
