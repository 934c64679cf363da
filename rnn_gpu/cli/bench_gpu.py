"""`rnn-gpu bench --suite gpu`: how fast the kernels are on a CUDA device, side by side with torch there."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rnn_gpu.bench import machine
from rnn_gpu.bench.gpu import sources, torch_peer
from rnn_gpu.bench.gpu.measure import Effort, measure
from rnn_gpu.bench.gpu.platform import CupyPlatform, Platform
from rnn_gpu.bench.gpu.results import Results
from rnn_gpu.bench.gpu.suites import MODES, PARTS, Part, cases_of
from rnn_gpu.bench.gpu.table import machine_in_words, summaries, table
from rnn_gpu.bench.shapes import Case
from rnn_gpu.cli.backend import check_backend
from rnn_gpu.cli.console import Console
from rnn_gpu.cli.interrupt import Interrupt
from rnn_gpu.dispatch import BACKENDS
from rnn_gpu.errors import ArgumentError, BackendError
from rnn_gpu.lm.cell_names import find_cell, nearest

__all__ = ["BACKEND", "run"]

BACKEND = "cupy_raw"

_NOT_HERE = ("json", "plots", "shapes", "threads")
"""Options of the other suites."""

_WIDE = 200

_THAT_COUNT = (
    "driver", "torch", "nvidia-cudnn-cu12", "nvidia-cudnn-cu13", "nvidia-cuda-nvrtc", "cupy-cuda12x", "cupy-cuda13x",
    "numba", "numba-cuda",
)  # fmt: skip
"""Versions that times depend on: rows of others are not put side by side."""


def run(arguments: argparse.Namespace, platform: Callable[[], Platform] = CupyPlatform) -> int:
    """Measure, keep what came of it, and print it. 124 where time was up before all was measured."""
    for name in _NOT_HERE:
        if getattr(arguments, name) is not None:
            raise ArgumentError(name, "an option of another suite", "--suite gpu")
    backend = None if arguments.backend == "none" else arguments.backend or BACKEND
    groups = _groups(arguments)
    peer: Any = _peer(arguments)
    _check(backend or BACKEND)
    folder = None if arguments.results is None else Path(arguments.results)
    end = time.monotonic() + (arguments.minutes or float("inf")) * 60
    effort = Effort() if arguments.seconds is None else Effort(seconds=arguments.seconds)
    console = Console()
    if not console.is_terminal:
        console.width = _WIDE
    device = platform()
    described = machine.describe() | machine.describe_gpu()
    complete = right = True
    with Interrupt() as interrupt:

        def stop() -> bool:
            return interrupt.requested() or time.monotonic() >= end

        for name, cases in groups.items():
            path = None if folder is None else folder / f"gpu-{name}{'' if backend else '-torch'}.json"
            measured = {"part": name, "backend": backend, "sources": sources.digest(backend)}
            measured |= {"peer": None if peer is None else torch_peer.NAME}
            measured |= {package: described[package] for package in _THAT_COUNT}
            results = Results.begin(path, device.name, measured, described)
            done = _measure(results, path, cases, device, backend, peer, effort, console, stop)
            _print(console, PARTS[name].title, results)
            complete, right = complete and done, right and results.all_right
    if interrupt.requested():
        return 130
    if not complete:
        console.print("Time was up before all was measured: the same command goes on from here.")
        return 124
    return 0 if right else 1


def _check(backend: str) -> None:
    """Raise ArgumentError or BackendError for a backend that cannot be measured here."""
    check_backend(backend)
    if BACKENDS[backend].device_kind != "cuda":
        raise ArgumentError("backend", "one for CUDA devices", repr(backend))


def _measure(
    results: Results, path: Path | None, cases: list[list[Case]], device: Platform, backend: str | None, peer: Any,
    effort: Effort, console: Console, stop: Callable[[], bool],
) -> bool:  # fmt: skip
    shown = time.monotonic()
    every = sum(map(len, PARTS[results.measured["part"]].groups()))

    def save() -> None:
        results.complete = len(results.rows) == every
        if path is not None:
            results.write(path)

    def progress(what: str, done: int, total: int) -> None:
        nonlocal shown
        if time.monotonic() - shown >= 15:
            shown = time.monotonic()
            console.print(f"{done}/{total}  {what}")
            console.file.flush()

    return measure(cases, device, backend, peer, results, effort=effort, save=save, progress=progress, stop=stop)


def _print(console: Console, title: str, results: Results) -> None:
    console.print(machine_in_words(results))
    console.print(table(title, results))
    for sentence in summaries(results.rows):
        console.print(sentence)


def _groups(arguments: argparse.Namespace) -> dict[str, list[list[Case]]]:
    """By part, what is to be measured of it."""
    names = arguments.parts or list(PARTS)
    for name in names:
        if name not in PARTS:
            raise ArgumentError("parts", f"some of {', '.join(PARTS)}", repr(name) + nearest(name, PARTS))
    cells = None if arguments.cell is None else [find_cell(name) for name in arguments.cell]
    modes = arguments.modes or list(MODES)
    for mode in modes:
        if mode not in MODES:
            raise ArgumentError("modes", f"some of {', '.join(MODES)}", repr(mode) + nearest(mode, MODES))

    def kept(part: Part) -> list[list[Case]]:
        groups = cases_of(part, quick=arguments.quick)
        chosen = [
            [case for case in group if case.mode in modes and (cells is None or case.cell in cells)] for group in groups
        ]
        return [group for group in chosen if group]

    return {name: kept(PARTS[name]) for name in PARTS if name in names}


def _peer(arguments: argparse.Namespace) -> Any:
    """torch, or None where there is none and nobody asked for it."""
    for name in arguments.peers or ():
        if name not in (torch_peer.NAME, "none"):
            raise ArgumentError("peers", "torch or none", repr(name))
    reason = torch_peer.unavailable()
    if arguments.peers == ["none"]:
        return None
    if reason is not None and (arguments.peers or arguments.backend == "none"):
        raise BackendError(f"--peers: torch cannot be used here: {reason}")
    return None if reason else torch_peer
