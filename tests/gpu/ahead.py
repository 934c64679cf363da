"""Compile, where there is no GPU, what will be run where there is one: the tests, the benchmarks of strategies.

    python tests/gpu/ahead.py [--device h200] [--only tests strategies breakdown]

It all goes to build/gpu-cache, or RNN_GPU_CACHE_DIR: taken along, it leaves the device's time for running. docs/gpu.md
says by which versions it is found again; what is not found is compiled as ever. The calls are made as on the device,
with nothing behind them, see `dry`: their results are anything, and the tests fail; which kernels they were to launch
is all that is looked at.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from gpu import breakdown, dry, strategies
from gpu.parts import CACHE, ROOT, TESTS

from rnn_gpu.bench import calls, ours
from rnn_gpu.bench.shapes import Case
from rnn_gpu.errors import BackendError
from rnn_gpu.machine_code import CACHE_VARIABLE
from rnn_gpu.strategies import ENVIRONMENT_VARIABLE

DEVICES = {"h200": dry.H200, "h100": dry.H100}


def run_tests() -> None:
    """What `make gpu` runs of the suite, by both backends, whose results nobody compares."""
    import pytest  # noqa: PLC0415
    from support import backends, errors  # noqa: PLC0415  (after the backends have been replaced)

    backends.TARGETS = tuple(backends.Target(name) for name in ("cupy_raw", "numba_cuda"))
    errors.assert_close = errors.assert_same_bits = lambda *given: None
    names = " or ".join(target.name for target in backends.TARGETS)
    files = [str(ROOT / name) for name in TESTS if "on_device" not in name]
    options = ["-q", "--no-header", "--tb=no", "--no-summary", "-W", "ignore", "-p", "no:cacheprovider", "-n", "0"]
    status = pytest.main([*options, "--rootdir", str(ROOT), "-k", names, *files])
    if status not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        raise RuntimeError(f"the tests were not run: pytest ended with {status!r}")


def run_strategies() -> None:
    """The cases of strategies.py."""
    for strategy, case in strategies.CASES:
        for backend in strategies.BACKENDS:
            run_case(case, backend, strategy)


def run_breakdown() -> None:
    """The cases of breakdown.py."""
    for each in breakdown.CALLS:
        run_case(each.case, each.backend, each.strategy)


def run_case(case: Case, backend: str, strategy: str | None) -> None:
    """Make the call that a benchmark makes of it."""
    if strategy is not None:
        os.environ[ENVIRONMENT_VARIABLE] = strategy
    try:
        ours.runner(calls.draw(case), backend).run()
    except BackendError as reason:
        print(f"{backend} {strategy} {case}: {reason}")
    finally:
        os.environ.pop(ENVIRONMENT_VARIABLE, None)


PARTS = {"tests": run_tests, "strategies": run_strategies, "breakdown": run_breakdown}


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Compile ahead what a GPU is to run.")
    parser.add_argument("--device", choices=DEVICES, default="h200")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--list", action="store_true", help="say how many kernels there are, and compile none")
    chosen = parser.parse_args(arguments)
    os.environ.setdefault(CACHE_VARIABLE, str(CACHE))
    begin = time.monotonic()
    with dry.devices(DEVICES[chosen.device]) as wanted:
        for part in chosen.only:
            PARTS[part]()
            print(f"{part}: {len(wanted.cupy_raw)} sources, {len(wanted.numba_cuda)} kernels so far", flush=True)
    if not chosen.list:
        wanted.compile(len(os.sched_getaffinity(0)))
        print(f"compiled in {time.monotonic() - begin:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
