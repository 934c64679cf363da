"""Where the time of a call goes: each kernel on the device, what lies between them, and what the host does.

    python tests/gpu/breakdown.py FILE [--only WORD ...]

The calls are those below, which are slower than they are meant to be. Kernels are timed by torch's profiler, which sees
those of every library; the host by its clock, in a call that begins when the device is idle and ends when all is
queued, and by Python's profiler. FILE gets all of it as JSON.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import os
import pstats
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from rnn_gpu import cells, files
from rnn_gpu.bench import machine, ours
from rnn_gpu.bench.gpu.numbers import draw
from rnn_gpu.bench.gpu.platform import CupyPlatform
from rnn_gpu.bench.shapes import Case, Shape
from rnn_gpu.errors import BackendError
from rnn_gpu.strategies import ENVIRONMENT_VARIABLE

RUNS = 5
"""Calls that each number is the median, or the sum over one, of."""

FUNCTIONS = 20
"""Of the host's, those that take the longest by themselves."""


@dataclass(frozen=True)
class Profiled:
    """A case, and whose kernels run it how; strategy: None for the plan's own."""

    case: Case
    backend: str = "cupy_raw"
    strategy: str | None = None

    def __str__(self) -> str:
        kind = "tf32" if self.case.tf32 else self.case.dtype
        return f"{self.backend} {self.strategy or 'as planned'} {kind} {self.case}"


RAGGED = Shape(1000, 32, 256, 256)

CALLS = [
    *(Profiled(Case(cells.lstm, RAGGED, mode, ragged=ragged, tf32=True)) for mode in ("forward", "train")
      for ragged in (False, True)),
    Profiled(Case(cells.lstm, RAGGED, "train", resets=0.01, tf32=True)),
    Profiled(Case(cells.lstm, Shape(128, 16, 1024, 1024), "forward", dtype="float16")),
    Profiled(Case(cells.gru, Shape(128, 8, 64, 64), "train", tf32=True)),
    *(Profiled(Case(cells.lstm, Shape(256, 16, 128, 128), "forward"), backend, "stepwise")
      for backend in ("cupy_raw", "numba_cuda")),
    *(Profiled(Case(cells.lstm, Shape(256, 64, 512, 512), "train"), backend, "stepwise")
      for backend in ("cupy_raw", "numba_cuda")),
    *(Profiled(Case(cells.lstm, Shape(256, 512, 32, 32), "train"), backend, "block")
      for backend in ("cupy_raw", "numba_cuda")),
    Profiled(Case(cells.lstm, Shape(256, 16, 32, 32), "forward"), "numba_cuda", "block"),
]  # fmt: skip


@dataclass(frozen=True)
class Span:
    """What the device did: a kernel or a copy, from when to when, in microseconds."""

    name: str
    begin: float
    end: float


def summary(spans: Iterable[Span]) -> dict[str, Any]:
    """What a call's spans come to, in microseconds.

    span_us: from the first's begin to the last's end; idle_us: the part of it in which nothing ran. kernels: by name,
    how many and how long in all, the longest first.
    """
    ordered = sorted(spans, key=lambda span: span.begin)
    if not ordered:
        return {"span_us": 0.0, "idle_us": 0.0, "kernels": []}
    busy, reached = 0.0, ordered[0].begin
    found: dict[str, list[float]] = {}
    for span in ordered:
        busy += max(0.0, span.end - max(span.begin, reached))
        reached = max(reached, span.end)
        found.setdefault(span.name, []).append(span.end - span.begin)
    kernels = [{"name": name, "count": len(each), "us": round(sum(each), 2)} for name, each in found.items()]
    kernels.sort(key=lambda kernel: -kernel["us"])
    whole = reached - ordered[0].begin
    return {"span_us": round(whole, 2), "idle_us": round(whole - busy, 2), "kernels": kernels}


def spans_of(run: Any, platform: CupyPlatform) -> list[Span]:
    """What the device does in one call."""
    import torch  # noqa: PLC0415
    from torch.profiler import ProfilerActivity, profile  # noqa: PLC0415

    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        run()
        platform.synchronize()
        torch.cuda.synchronize()
    on_device = torch.autograd.DeviceType.CUDA
    return [
        Span(event.name, event.time_range.start, event.time_range.end)
        for event in profiler.events()
        if event.device_type == on_device
    ]


def on_host(run: Any, platform: CupyPlatform) -> dict[str, Any]:
    """Microseconds until a call is queued, caches cold and warm, and the functions that take them."""
    cold, warm = [], []
    for _ in range(RUNS):
        platform.time(run)
        begin = time.perf_counter()
        run()
        between = time.perf_counter()
        run()
        warm.append(time.perf_counter() - between)
        cold.append(between - begin)
        platform.synchronize()
    profiler = cProfile.Profile()
    profiler.enable()
    for _ in range(RUNS):
        run()
    profiler.disable()
    platform.synchronize()
    stats: dict[Any, Any] = pstats.Stats(profiler).stats  # type: ignore[attr-defined]
    functions = [
        {"name": f"{Path(place).name}:{line}({name})", "count": count / RUNS, "us": round(1e6 * own / RUNS, 2)}
        for (place, line, name), (_, count, own, _, _) in stats.items()
    ]
    functions.sort(key=lambda function: -function["us"])
    return {
        "host_us": round(1e6 * median(cold), 1),
        "host_warm_us": round(1e6 * median(warm), 1),
        "functions": functions[:FUNCTIONS],
    }


def measured(platform: CupyPlatform, profiled: Profiled) -> dict[str, Any]:
    """All there is to say of one call, or why it cannot be run."""
    found: dict[str, Any] = {"call": str(profiled)}
    if profiled.strategy is not None:
        os.environ[ENVIRONMENT_VARIABLE] = profiled.strategy
    try:
        run = ours.runner(draw(platform, profiled.case), profiled.backend).run
        run()
        platform.synchronize()
        found["device_us"] = round(1e6 * median(platform.time(run) for _ in range(RUNS)), 1)
        found |= on_host(run, platform) | summary(spans_of(run, platform))
    except (BackendError, MemoryError) as reason:
        return found | {"reason": str(reason)}
    finally:
        os.environ.pop(ENVIRONMENT_VARIABLE, None)
    return found


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Say where the time of some calls goes.")
    parser.add_argument("file", type=Path)
    parser.add_argument("--only", nargs="+", default=[""], help="calls in whose name one of these words is")
    chosen = parser.parse_args(arguments)
    platform = CupyPlatform()
    described = machine.describe() | machine.describe_gpu()
    report = {"format": "rnn_gpu breakdown", "version": 1, "device": platform.name, "machine": described, "calls": []}
    for profiled in CALLS:
        if not any(word in str(profiled) for word in chosen.only):
            continue
        found = measured(platform, profiled)
        report["calls"].append(found)
        files.write(chosen.file, (json.dumps(report, indent=1) + "\n").encode())
        print(in_words(found), flush=True)
    return 0


def in_words(found: dict[str, Any], most: int = 8) -> str:
    """A call's numbers, and its longest kernels and functions, as lines of text."""
    if "reason" in found:
        return f"{found['call']}: {found['reason']}"
    lines = [
        f"{found['call']}: {found['device_us']} us on the device's clock, kernels {found['span_us']} us, of which idle "
        f"{found['idle_us']}; on the host {found['host_us']} us, warm {found['host_warm_us']}"
    ]
    for what in ("kernels", "functions"):
        lines += [f"  {each['us']:9.1f} us {each['count']:6g} x {each['name'][:90]}" for each in found[what][:most]]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
