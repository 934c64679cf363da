"""Measuring a suite: ours and its peers in one process, in turns, their results checked first."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from rnn_gpu.bench import blas, memory, ours
from rnn_gpu.bench.accuracy import PEER_BOUND, Distance, Reference
from rnn_gpu.bench.calls import Call, draw
from rnn_gpu.bench.load import Load
from rnn_gpu.bench.peers import Peer
from rnn_gpu.bench.report import FirstCall, Growth, Product, Report, Row
from rnn_gpu.bench.runner import Runner
from rnn_gpu.bench.shapes import Case, Mode
from rnn_gpu.bench.suites import GROWTH_LIMIT, Suite, grown, has_product_rate
from rnn_gpu.bench.timing import Plan, Stopped, alternate
from rnn_gpu.threads import get_threads, set_threads

__all__ = ["measure"]

OURS = "rnn_gpu"
SGEMM = "sgemm"


def measure(
    suite: Suite,
    peers: Sequence[Peer],
    report: Report,
    progress: Callable[[str, int, int], None] = lambda what, done, total: None,
    stop: Callable[[], bool] = lambda: False,
) -> None:
    """Measure all of the suite into `report`, beside these peers, with `report.threads` threads for each.

    progress: told what is measured next, and how many of how many cases are done.
    stop: asked between runs. When it says so, the report is left as it is, incomplete.
    """
    with _threads(report.threads, peers):
        try:
            _Measurement(suite, peers, report, progress, stop).run()
        except Stopped:
            return
    report.complete = True


class _Measurement:
    def __init__(
        self,
        suite: Suite,
        peers: Sequence[Peer],
        report: Report,
        progress: Callable[[str, int, int], None],
        stop: Callable[[], bool],
    ) -> None:
        self._suite, self._peers, self._report = suite, peers, report
        self._progress, self._stop = progress, stop
        self._done = 0
        self._called: set[tuple[str, Mode]] = set()

    def run(self) -> None:
        suite = self._suite
        groups, growing = [*suite.groups(), *suite.step_groups(), *suite.variant_groups()], suite.growth_cases()
        sweeps = suite.sweep_groups()
        self._total = sum(map(len, (*groups, *(group for _, group in sweeps)))) + len(growing)
        self._machine_rates()
        for group in groups:
            self._group(group, self._report.rows, suite.plan)
        for case in growing:
            self._growth(case)
        for axis, group in sweeps:
            self._group(group, self._report.sweeps.setdefault(axis, []), suite.sweep_plan)

    def _group(self, cases: Sequence[Case], rows: list[Row], plan: Plan) -> None:
        """Cases that share their numbers, and so their reference; their rows are added to `rows`."""
        if not cases:
            return
        call = draw(cases[0])
        reference = None
        for case in cases:
            self._announce(case)
            reference = reference or Reference(call, [case.mode for case in cases])
            self._case(call.of(case), reference, rows, plan)
            self._done += 1

    def _case(self, call: Call, reference: Reference, rows: list[Row], plan: Plan) -> None:
        case = call.case
        mine, error, bound = self._checked(call, reference)
        theirs, peer_errors = self._checked_peers(call, reference)
        if error.error > bound:
            rows += [
                Row.untimed(case, "wrong", error, bound, *entry) for entry in peer_errors.items() or [(None, None)]
            ]
            return
        runs = {OURS: mine.run, **theirs}
        if has_product_rate(case) and rows is self._report.rows:
            runs[SGEMM] = blas.sgemm()
        begin = Load.now()
        timings = alternate(runs, plan, self._stop)
        end = Load.now()
        others = end.others_since(begin) if begin and end else None
        ours_time = timings[OURS].per_call(case.calls)
        for name, peer_error in peer_errors.items():
            if name in timings:
                timing = timings[name].per_call(case.calls)
                rows.append(Row.timed(case, error, bound, ours_time, others, name, timing, peer_error))
            else:
                rows.append(Row.untimed(case, "peer wrong", error, bound, name, peer_error))
        if not peer_errors:
            rows.append(Row.timed(case, error, bound, ours_time, others))
        if SGEMM in timings:
            rate = self._sgemm_rate(timings[SGEMM].seconds)
            self._report.products.append(Product.of(case, ours_time.seconds, rate))

    def _growth(self, case: Case) -> None:
        self._announce(case, "growth with T: ")
        longer = grown(case)
        runs, errors, right = [], [], True
        for each in (case, longer):
            call = draw(each)
            mine, error, bound = self._checked(call, Reference(call, [each.mode]))
            runs.append(mine.run)
            errors.append(error)
            right = right and error.error <= bound
        short = long = None
        if right:
            timings = alternate({"short": runs[0], "long": runs[1]}, self._suite.plan, self._stop)
            short, long = timings["short"].seconds, timings["long"].seconds
        worst = max(errors)
        self._report.growth.append(
            Growth(
                **Growth.fields(case), seconds=short, grown_T=longer.shape.T, grown_s=long,
                ratio=long / short if long and short else None, limit=GROWTH_LIMIT, error=worst.error,
                error_in=worst.array, status="ok" if right else "wrong",
            )
        )  # fmt: skip
        self._done += 1

    def _checked(self, call: Call, reference: Reference) -> tuple[Runner, Distance, float]:
        """Ours for the call, its error and the largest allowed. The first call of a cell in a mode is reported."""
        mine = ours.runner(call, self._suite.backend, self._suite.modules)
        key = (call.case.cell.name, call.case.mode)
        start = time.perf_counter()
        ran = mine.run()
        seconds = time.perf_counter() - start
        if key not in self._called:
            self._called.add(key)
            self._report.first_calls.append(FirstCall(*key, seconds))
        results = mine.results(ran)
        return mine, reference.distance(results), reference.bound(results)

    def _checked_peers(self, call: Call, reference: Reference) -> tuple[dict[str, Callable[[], Any]], dict[str, float]]:
        """What to time of the peers that run the case and compute the right thing; the errors of all that run it."""
        runs, errors = {}, {}
        for peer in self._peers:
            if peer.refuses(call.case) is not None:
                continue
            self._look_up()
            theirs = peer.runner(call, self._report.threads)
            errors[peer.name] = reference.distance(theirs.results(theirs.run())).error
            if errors[peer.name] <= PEER_BOUND:
                runs[peer.name] = theirs.run
        return runs, errors

    def _announce(self, case: Case, prefix: str = "") -> None:
        self._look_up()
        self._progress(f"{prefix}{case}", self._done, self._total)

    def _look_up(self) -> None:
        if self._stop():
            raise Stopped

    def _machine_rates(self) -> None:
        """Those that the roofline is drawn from."""
        runs = {SGEMM: blas.sgemm(), "copy": memory.copy(self._report.threads)}
        timings = alternate(runs, self._suite.plan, self._stop)
        self._sgemm_rate(timings[SGEMM].seconds)
        self._report.memory_gb_s = memory.copied_bytes() / timings["copy"].seconds * 1e-9

    def _sgemm_rate(self, seconds: float) -> float:
        """The rate in GFLOP/s of the large product that took this long; the report keeps the highest."""
        rate = blas.sgemm_flops() / seconds * 1e-9
        self._report.sgemm_gflops = max(self._report.sgemm_gflops, rate)
        return rate


@contextmanager
def _threads(number: int, peers: Sequence[Peer]) -> Iterator[None]:
    """While open, everyone has this many threads."""
    former = get_threads()
    set_threads(number)
    try:
        with ExitStack() as stack:
            stack.enter_context(blas.limited(number))
            for peer in peers:
                stack.enter_context(peer.threads(number))
            yield
    finally:
        set_threads(None)
        if get_threads() != former:
            set_threads(former)
