"""The two backends side by side, both forced to one strategy, at sizes that it suits in both.

    python tests/gpu/strategies.py FILE [--seconds 0.05]

Results are compared first, as all benchmarks' are: with NumPy in float64, by the error of NumPy in float32. Status 1
where one is wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from statistics import median

from rnn_gpu import cells, files
from rnn_gpu.bench import machine, ours
from rnn_gpu.bench.accuracy import Reference
from rnn_gpu.bench.gpu.numbers import draw
from rnn_gpu.bench.gpu.platform import CupyPlatform
from rnn_gpu.bench.shapes import Case, Shape
from rnn_gpu.errors import BackendError
from rnn_gpu.strategies import ENVIRONMENT_VARIABLE

BACKENDS = ("cupy_raw", "numba_cuda")
MODES = ("forward", "train")
T = 256

SIZES = {
    "block": ((16, 32), (64, 32), (512, 32)),
    "grid": ((16, 128), (16, 512)),
    "stepwise": ((16, 128), (64, 512)),
}
"""By strategy, B and H."""

CASES = [
    (strategy, Case(cell, Shape(T, B, H, H), mode))
    for strategy, sizes in SIZES.items()
    for B, H in sizes
    for cell in (cells.gru, cells.lstm)
    for mode in MODES
]
"""Each is run by both backends with that strategy."""


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Time each strategy in both backends.")
    parser.add_argument("file", type=Path)
    parser.add_argument("--seconds", type=float, default=0.05, help="of runs, for each backend and case")
    chosen = parser.parse_args(arguments)
    platform = CupyPlatform()
    rows = [row(platform, strategy, case, chosen.seconds) for strategy, case in CASES]
    described = machine.describe() | machine.describe_gpu()
    report = {"format": "rnn_gpu strategies", "version": 1, "device": platform.name, "machine": described}
    files.write(chosen.file, (json.dumps(report | {"rows": rows}, indent=1) + "\n").encode())
    return 1 if any(row.get("wrong") for row in rows) else 0


def row(platform: CupyPlatform, strategy: str, case: Case, seconds: float) -> dict[str, object]:
    """A case by both backends: microseconds a step on the device's clock and of the host, or why not."""
    os.environ[ENVIRONMENT_VARIABLE] = strategy
    shape = case.shape
    found: dict[str, object] = {"strategy": strategy, "cell": case.cell.name, **shape._asdict(), "mode": case.mode}
    call = draw(platform, case)
    wrong = {}
    try:
        runners = {name: ours.runner(call, name) for name in BACKENDS}
        reference = Reference(on_host(call), [case.mode])
        for name, runner in runners.items():
            results = {key: to_host(array) for key, array in runner.results(runner.run()).items()}
            distance = reference.distance(results)
            if not distance.error <= reference.bound(results):
                wrong[name] = distance
        for name, runner in runners.items():
            found |= timed(platform, name, runner.run, shape.T, seconds)
    except BackendError as reason:
        return found | {"reason": str(reason)}
    finally:
        del os.environ[ENVIRONMENT_VARIABLE]
    found["wrong"] = bool(wrong)
    found["ratio"] = found["numba_cuda_us"] / found["cupy_raw_us"]
    print(
        f"{strategy:9} {case.cell.name:5} B {shape.B:4} H {shape.H:4} {case.mode:8}"
        f" cupy_raw {found['cupy_raw_us']:8.2f} us a step, numba_cuda {found['numba_cuda_us']:8.2f},"
        f" ratio {found['ratio']:.2f};"
        f" on the host {found['cupy_raw_host_us']:.2f} and {found['numba_cuda_host_us']:.2f}"
        f"{f'; WRONG {wrong}' if wrong else ''}",
        flush=True,
    )
    return found


def timed(platform: CupyPlatform, name: str, run, steps: int, seconds: float) -> dict[str, float]:
    run()
    platform.synchronize()
    samples, host = [], []
    while len(samples) < 5 or sum(samples) < seconds:
        samples.append(platform.time(run))
    for _ in range(3):
        begin = time.perf_counter()
        run()
        host.append(time.perf_counter() - begin)
        platform.synchronize()
    return {f"{name}_us": median(samples) / steps * 1e6, f"{name}_host_us": median(host) / steps * 1e6}


def on_host(call):
    """The call with its arrays in host memory."""
    parameters = call.parameters.map(to_host)
    return replace(call, x=to_host(call.x), parameters=parameters, dy=to_host(call.dy))


def to_host(array):
    import cupy  # noqa: PLC0415

    return cupy.asnumpy(array)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
