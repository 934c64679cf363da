"""Whether one commit is slower than another: both timed in turns, sample by sample, in processes of their own.

Noise of a machine lasts for longer than a sample, so that two samples taken one after the other share it, and their
ratio does not have it. What remains is that two processes differ although they run the same code, as their memory lies
elsewhere. So a benchmark that seems slower by more than the factor is timed again in new processes, round after round,
and is slower only if it is so in every round. The status is 1 if one is, or fails where the base did not, and 2 if
nothing was measured.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Protocol

import checkout

ENVIRONMENTS = checkout.ROOT / "asv_bench" / "env"
ONE_THREAD = {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}

FACTOR = 1.2
ROUNDS = 5
SAMPLE_S = 0.005
"""A sample is so many runs that it takes at least this long."""

PAIRS = (5, 21)
"""Pairs of samples at the least and at the most,"""
SPENT_S = 0.2
"""and between the two, as many as fit into this time."""


class Side(Protocol):
    """What is asked of each of the two: see `worker.Worker`."""

    def ask(self, *request: object) -> None: ...
    def answer(self) -> Any: ...


@dataclass
class Result:
    """One benchmark. ratios: of the head's time to the base's, one a round; base_s, head_s: of the first round.

    remark: why it was not measured. failed: whether that is an error of the head's.
    """

    name: str
    ratios: list[float] = field(default_factory=list)
    base_s: float = 0.0
    head_s: float = 0.0
    remark: str | None = None
    failed: bool = False

    def is_slower(self, factor: float) -> bool:
        """Whether every round says so."""
        return bool(self.ratios) and min(self.ratios) > factor

    def is_faster(self, factor: float) -> bool:
        """Whether every round says so."""
        return bool(self.ratios) and max(self.ratios) < 1 / factor


class Worker:
    """A process with one side's package. A request is the name of a method of `worker.Worker`, and its arguments."""

    def __init__(self, environment: Path) -> None:
        variables = os.environ | ONE_THREAD | {"NUMBA_CACHE_DIR": checkout.compiled(environment)}
        variables.pop("PYTHONPATH", None)
        command = [str(checkout.python(environment)), str(Path(__file__).with_name("worker.py"))]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=variables
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._writer, self._reader = self._process.stdin, self._process.stdout

    def ask(self, *request: object) -> None:
        """Send a request."""
        self._writer.write(json.dumps(request) + "\n")
        self._writer.flush()

    def answer(self) -> Any:
        """Wait for its answer."""
        line = self._reader.readline()
        if not line:
            raise RuntimeError(f"a process that timed benchmarks ended with status {self._process.wait()}")
        return json.loads(line)

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


def measure(result: Result, base: Side, head: Side) -> None:
    """One round of a benchmark."""
    for side in (base, head):  # at the same time, as they may have to compile
        side.ask("prepare", result.name)
    answers = [side.answer() for side in (base, head)]
    for where, answer in zip(("base", "head"), answers, strict=True):
        if "seconds" not in answer:
            ((how, reason),) = answer.items()
            result.remark = f"{how} on the {where}: {reason.strip().splitlines()[-1]}"
            result.failed = where == "head" and how == "failed"
            return
    number = math.ceil(SAMPLE_S / min(answer["seconds"] for answer in answers))
    _pair(base, head, number, 0)
    pairs: list[tuple[float, float]] = []
    least, most = PAIRS
    while len(pairs) < least or (len(pairs) < most and number * sum(map(sum, pairs)) < SPENT_S):
        pairs.append(_pair(base, head, number, len(pairs)))
    if not result.ratios:
        result.base_s, result.head_s = (median(times) for times in zip(*pairs, strict=True))
    result.ratios.append(median(later / first for first, later in pairs))


def _pair(base: Side, head: Side, number: int, turn: int) -> tuple[float, float]:
    """Seconds of a run on the base and on the head, of a sample each; who comes first takes turns."""
    seconds = {}
    for side in (base, head)[:: -1 if turn % 2 else 1]:
        side.ask("time", number)
        seconds[side] = side.answer() / number
    return seconds[base], seconds[head]


def compare(
    names: Iterable[str],
    sides: Callable[[], Any],
    factor: float,
    rounds: int,
    progress: Callable[[str], None] = lambda text: None,
) -> list[Result]:
    """Measure each benchmark once, and those that differ by more than the factor in further rounds, while they do.

    sides: a context manager that starts the two sides anew, (base, head).
    """
    results = [Result(name) for name in names]
    for number in range(rounds):
        left = [result for result in results if result.remark is None]
        if number:
            left = [result for result in left if result.is_slower(factor) or result.is_faster(factor)]
        if not left:
            break
        progress(f"round {number + 1}: {len(left)} benchmarks")
        with sides() as (base, head):
            for result in left:
                measure(result, base, head)
    return results


def report(results: list[Result], factor: float) -> tuple[list[str], int]:
    """What came of it, in lines, and the exit status."""
    timed = [result for result in results if result.ratios]
    lines = [
        f"{_verdict(result, factor):8}{result.ratios[0]:6.2f}x  {_seconds(result.base_s)} -> {_seconds(result.head_s)}"
        f"  {result.name}{_rounds(result)}"
        for result in timed
    ]
    reasons: dict[str, int] = {}
    for result in results:
        if result.remark is not None and not result.failed:
            reasons[result.remark] = reasons.get(result.remark, 0) + 1
    lines += [f"not measured ({count}): {reason}" for reason, count in reasons.items()]
    failed = [result for result in results if result.failed]
    lines += [f"FAILED  {result.name}: {result.remark}" for result in failed]
    slower = [result for result in timed if result.is_slower(factor)]
    faster = [result for result in timed if result.is_faster(factor)]
    if not timed and not failed:
        return [*lines, "Nothing was measured."], 2
    lines.append(
        f"{len(timed)} benchmarks: {len(slower)} slower and {len(faster)} faster by more than {factor:g} times, "
        f"{len(failed)} failed."
    )
    return lines, int(bool(slower or failed))


def main(arguments: list[str]) -> int:
    """Compare as the command line says. Returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("base", help="a commit")
    parser.add_argument("head", nargs="?", default=checkout.WORKING_TREE, help="another (default: the working tree)")
    parser.add_argument("--bench", default="", metavar="REGEX", help="only benchmarks whose names have this in them")
    parser.add_argument("--factor", type=float, default=FACTOR, help=f"how much slower is slower (default: {FACTOR})")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"to be sure of it (default: {ROUNDS})")
    options = parser.parse_args(arguments)
    if options.factor <= 1 or options.rounds < 1:
        parser.error("--factor is a number above 1, --rounds at least 1")
    try:
        environments = [_environment(commit) for commit in (options.base, options.head)]
        wanted = re.compile(options.bench)
    except (ValueError, re.error) as error:
        parser.error(str(error))

    @contextmanager
    def sides() -> Iterator[tuple[Worker, Worker]]:
        with ExitStack() as stack:
            base, head = (Worker(environment) for environment in environments)
            stack.callback(base.close)
            stack.callback(head.close)
            yield base, head

    with sides() as (_, head):
        head.ask("names")
        names = [name for name in head.answer() if wanted.search(name)]
    results = compare(names, sides, options.factor, options.rounds, progress=lambda text: print(text, flush=True))
    lines, status = report(results, options.factor)
    print("\n".join(lines))
    return status


def _environment(commit: str) -> Path:
    """One with the commit's package in it."""
    if commit != checkout.WORKING_TREE:
        commit = checkout.resolve(commit)
    folder = ENVIRONMENTS / commit.replace(" ", "-")
    if not checkout.python(folder).exists():
        checkout.make_environment(folder)
    checkout.install(commit, folder)
    return folder


def _verdict(result: Result, factor: float) -> str:
    return "SLOWER" if result.is_slower(factor) else "faster" if result.is_faster(factor) else ""


def _rounds(result: Result) -> str:
    """The ratios of further rounds."""
    return f"  [{', '.join(f'{ratio:.2f}' for ratio in result.ratios)}]" if len(result.ratios) > 1 else ""


def _seconds(value: float) -> str:
    return f"{value * 1e3:9.3f} ms"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
