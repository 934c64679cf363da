"""Times benchmarks of the suite in this interpreter's package, as it is asked to, a sample at a time.

Requests and answers are JSON, a line each, on standard input and output; see `compare`.
"""

from __future__ import annotations

import gc
import itertools
import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
WARM_UP_S = 0.05


class Entry(NamedTuple):
    """One benchmark at one combination of its parameters."""

    name: str
    instance: Any
    method: Callable[..., object]
    combination: tuple[Any, ...]


def entries() -> Iterator[Entry]:
    """All that is timed by calls in one process."""
    from asv_runner.benchmarks.time import TimeBenchmark  # noqa: PLC0415  (after the package under test is known)
    from asv_runner.discovery import disc_benchmarks  # noqa: PLC0415

    for benchmark in disc_benchmarks("benchmarks"):
        if type(benchmark) is TimeBenchmark:
            instance = benchmark.func.__self__
            for combination in itertools.product(*instance.params):
                words = (f"{key}={value}" for key, value in zip(instance.param_names, combination, strict=True))
                yield Entry(f"{benchmark.name}({', '.join(words)})", instance, benchmark.func, combination)


class Worker:
    def __init__(self) -> None:
        self._entries = {entry.name: entry for entry in entries()}
        self._run: Callable[[], object] | None = None

    def names(self) -> list[str]:
        """Of all entries."""
        return list(self._entries)

    def prepare(self, name: str) -> dict[str, float | str]:
        """Make ready to time the entry: how long a run takes, or why it cannot run, or how it failed."""
        _, instance, method, combination = self._entries[name]
        self._run = None
        gc.collect()
        try:
            instance.setup(*combination)
            self._run = lambda: method(*combination)
            return {"seconds": self._warm_up()}
        except NotImplementedError as reason:
            return {"skipped": str(reason)}
        except Exception:  # whatever the package under test raises is the answer
            return {"failed": traceback.format_exc()}

    def time(self, number: int) -> float:
        """Seconds of so many runs."""
        run = self._run
        if run is None:
            raise RuntimeError("nothing is prepared")
        begin = time.perf_counter()
        for _ in itertools.repeat(None, number):
            run()
        return time.perf_counter() - begin

    def _warm_up(self) -> float:
        times: list[float] = []
        end = time.perf_counter() + WARM_UP_S
        while not times or time.perf_counter() < end:
            times.append(self.time(1))
        return min(times)


def main() -> None:
    """Answer until there are no more requests."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a benchmark prints is no answer
    os.chdir(HERE)
    sys.path.insert(0, str(HERE))
    worker = Worker()
    gc.disable()
    for line in sys.stdin:
        method, *arguments = json.loads(line)
        answers.write(json.dumps(getattr(worker, method)(*arguments)) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
