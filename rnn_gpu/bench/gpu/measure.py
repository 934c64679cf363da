"""Measuring a part on a device: ours and torch in turns, results checked first, until it is done or time is up."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import cycle
from statistics import median, quantiles
from typing import Any, Protocol

import numpy as np

from rnn_gpu.bench import ours
from rnn_gpu.bench.accuracy import FACTOR, FLOOR
from rnn_gpu.bench.calls import Call
from rnn_gpu.bench.gpu.numbers import rotated
from rnn_gpu.bench.gpu.platform import Platform
from rnn_gpu.bench.gpu.results import Results, Row
from rnn_gpu.bench.runner import Runner
from rnn_gpu.bench.shapes import Case
from rnn_gpu.bench.timing import Stopped, Timing
from rnn_gpu.errors import BackendError
from rnn_gpu.functional import explain

__all__ = ["Effort", "Peer", "measure"]

ROTATED = 2
"""Sets of numbers that a contender takes in turns."""

PREPARED = 32
"""Groups whose kernels are compiled at a time: enough to keep all processors busy, few enough to be measured soon."""

SPACING = {"float64": 2.0**-52, "float32": 2.0**-23, "tf32": 2.0**-10, "float16": 2.0**-10, "bfloat16": 2.0**-7}
"""Of the numbers of a type at 1."""


class Peer(Protocol):
    """torch, see `torch_peer`; or nothing."""

    def unavailable(self) -> str | None: ...
    def refuses(self, case: Case) -> str | None: ...
    def layer(self, call: Call) -> Runner: ...
    def unrolled(self, call: Call) -> Runner: ...


@dataclass(frozen=True)
class Effort:
    """seconds: on the device, for each contender of a case, on average; least, most: samples."""

    seconds: float = 0.05
    least: int = 7
    most: int = 200


def measure(
    groups: Sequence[Sequence[Case]],
    platform: Platform,
    backend: str | None,
    peer: Peer | None,
    results: Results,
    *,
    effort: Effort | None = None,
    save: Callable[[], None] = lambda: None,
    progress: Callable[[str, int, int], None] = lambda what, done, total: None,
    stop: Callable[[], bool] = lambda: False,
) -> bool:
    """Measure the cases that `results` lacks, into it. Returns whether all of them are there now.

    backend: ours; None measures torch alone. peer: None, where there is no torch.
    stop: asked between cases; when it says so, the results are left as they are, to be gone on with.
    """
    has = results.has()
    lacking = [missing for group in groups if (missing := [case for case in group if not has(case)])]
    total = sum(map(len, groups))
    done = total - sum(map(len, lacking))
    for number, missing in enumerate(lacking):
        if backend is not None and number % PREPARED == 0:
            progress("compiling", done, total)
            platform.prepare(backend, [case for group in lacking[number : number + PREPARED] for case in group], stop)
        measured = _Group(missing[0], platform, backend, peer, effort or Effort())
        for case in missing:
            if stop():
                save()
                return False
            progress(str(case), done, total)
            try:
                results.add(measured.row(case))
            except Stopped:
                save()
                return False
            done += 1
        save()
    save()
    return True


class _Group:
    """Cases that differ in the mode alone."""

    def __init__(self, case: Case, platform: Platform, backend: str | None, peer: Peer | None, effort: Effort) -> None:
        self._platform, self._backend, self._effort = platform, backend, effort
        self._peer = peer if peer is not None and peer.refuses(replace(case, resets=0.0)) is None else None
        self._is_peer = peer is not None and peer.refuses(case) is None
        self._calls: list[Call] = []
        self._right: dict[str, Any] | None = None

    def row(self, case: Case) -> Row:
        fields: dict[str, Any] = Row.of(case)
        try:
            if not self._calls:
                self._calls = rotated(self._platform, case, ROTATED)
            return self._row([call.of(case) for call in self._calls], fields)
        except MemoryError as error:
            return Row(**fields, status="out of memory", remark=str(error))
        except BackendError as error:
            return Row(**fields, status="refused", remark=str(error))
        except RuntimeError as error:  # torch's
            if "out of memory" not in str(error):
                raise
            return Row(**fields, status="out of memory", remark=str(error))

    def _row(self, calls: list[Call], fields: dict[str, Any]) -> Row:
        case, first = calls[0].case, calls[0]
        runs: dict[str, list[Callable[[], Any]]] = {}
        if self._is_peer and self._peer is not None:
            runs["torch"] = [self._peer.layer(call).run for call in calls]
        if self._backend is None:
            return Row(**fields, **self._speeds(runs, case), status="ok")
        plan = explain(
            case.cell, first.x, first.weights, lengths=first.lengths, resets=first.resets, backend=self._backend,
            save=case.mode != "forward", tf32=case.tf32,
        ).plan  # fmt: skip
        fields["plan"] = None if plan is None else plan.splitlines()[0]
        mine = [ours.runner(call, self._backend) for call in calls]
        begin = time.perf_counter()
        ran = mine[0].run()
        self._platform.synchronize()
        fields["first_call_s"] = time.perf_counter() - begin
        fields |= self._checked(case, first, mine[0].results(ran))
        del ran
        if fields["error"] is not None and not fields["error"] <= fields["bound"]:
            return Row(**fields, status="wrong")
        fields["peak_bytes"] = self._platform.peak_bytes(mine[0].run)
        runs["ours"] = [runner.run for runner in mine]
        return Row(**fields, **self._speeds(runs, case), status="ok" if fields["error"] is not None else "unchecked")

    def _checked(self, case: Case, call: Call, found: Mapping[str, Any]) -> dict[str, Any]:
        """Errors of ours and of torch in the same type, relative to torch in float64."""
        none = {"error": None, "error_in": None, "torch_error": None, "bound": None}
        if self._peer is None:
            return none
        compute = self._peer.unrolled if case.resets else self._peer.layer
        if self._right is None or any(name not in self._right for name in found):
            wide = compute(replace(call.astype("float64"), case=replace(case, dtype="float64", tf32=False)))
            self._right = dict(wide.results(wide.run()))
        plain = compute(call)
        theirs, _ = self._distance(plain.results(plain.run()), self._right, found)
        error, where = self._distance(found, self._right, found)
        bound = FACTOR * theirs + FLOOR * SPACING["tf32" if case.tf32 else case.dtype]
        return {"error": error, "error_in": where, "torch_error": theirs, "bound": bound}

    def _distance(
        self, found: Mapping[str, Any], right: Mapping[str, Any], names: Mapping[str, Any]
    ) -> tuple[float, str]:
        worst = (0.0, "")
        for name in names:
            difference, scale = self._platform.difference(found[name], right[name])
            error = difference / (scale or 1.0)
            worst = max(worst, (error if np.isfinite(error) else np.inf, name))
        return worst

    def _speeds(self, runs: Mapping[str, Sequence[Callable[[], Any]]], case: Case) -> dict[str, Any]:
        """Time them in turns."""
        turns = {name: cycle(each) for name, each in runs.items()}
        samples: dict[str, list[float]] = {name: [] for name in runs}
        for each in runs.values():
            for run in each:
                run()
        self._platform.synchronize()
        spent, effort = 0.0, self._effort
        count = 0
        while runs and (count < effort.least or (spent < effort.seconds * len(runs) and count < effort.most)):
            for name, turn in turns.items():
                samples[name].append(self._platform.time(next(turn)))
                spent += samples[name][-1]
            count += 1
        fields: dict[str, Any] = {}
        for name, values in samples.items():
            timing = _timing(values)
            fields |= {
                f"{name}_s": timing.seconds,
                f"{name}_step_us": timing.seconds / case.shape.T * 1e6,
                f"{name}_spread": timing.spread,
                f"{name}_samples": timing.samples,
            }
        if {"ours_s", "torch_s"} <= set(fields):
            fields["ratio"] = fields["torch_s"] / fields["ours_s"]
        return fields


def _timing(samples: list[float]) -> Timing:
    middle = median(samples)
    low, _, high = quantiles(samples, n=4) if len(samples) > 1 else (middle,) * 3
    return Timing(middle, (high - low) / middle, len(samples))
