"""What a measurement on a device depends on: the text of the package's files that take part in it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import rnn_gpu

__all__ = ["digest", "digest_of"]

PACKAGE = Path(rnn_gpu.__file__).parent

SHARED = (
    "compiler", "cells", "functional.py", "problem.py", "dispatch.py", "arrays.py", "cuda_arrays.py", "strategies.py",
)  # fmt: skip
"""What every backend's kernels come from, and what lies between a call and them."""

MEASURING = ("bench/gpu", "bench/calls.py", "bench/ours.py", "bench/runner.py", "bench/shapes.py", "bench/timing.py")
"""What measures them."""

SUFFIXES = (".py", ".cuh", ".h", ".cpp")


def digest(backend: str | None) -> str:
    """Of the files that decide how fast a backend's kernels are and what they compute; None: those that measure alone.

    What was measured with the same digest can be put side by side, whatever else has changed since.
    """
    places = [PACKAGE / name for name in MEASURING]
    if backend is not None:
        places += [*(PACKAGE / name for name in SHARED), *_kernels(backend)]
    return digest_of(places)


def digest_of(places: Iterable[Path]) -> str:
    """Of the names and the text of these files, and of all sources in these folders."""
    found = hashlib.sha256()
    for place in places:
        for path in sorted(_files(place)):
            found.update(f"{place.name}/{path.relative_to(place).as_posix()}\n".encode())
            found.update(path.read_bytes())
    return found.hexdigest()[:16]


def _kernels(backend: str) -> Iterator[Path]:
    """The folder of a backend's kernels."""
    from rnn_gpu import kernels  # noqa: PLC0415  (a namespace, whose folders depend on how the package was installed)

    for root in kernels.__path__:
        if (Path(root) / backend).is_dir():
            yield Path(root) / backend


def _files(place: Path) -> Iterator[Path]:
    return iter([place]) if place.is_file() else (path for path in place.rglob("*") if path.suffix in SUFFIXES)
