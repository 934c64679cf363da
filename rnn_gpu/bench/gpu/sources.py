"""What a measurement on a device depends on: the text of the package's files that take part in it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import rnn_gpu

__all__ = ["digest", "digest_of"]

PACKAGE = Path(rnn_gpu.__file__).parent

SHARED = ("compiler", "cells", "bench/gpu")
"""Folders of the package that every backend's kernels come from, and that which measures them."""


def digest(backend: str | None) -> str:
    """Of the files that decide how fast a backend's kernels are and what they compute; None: those that measure alone.

    What was measured with the same digest can be put side by side, whatever else has changed since.
    """
    folders = [PACKAGE / "bench" / "gpu"]
    if backend is not None:
        folders = [*(PACKAGE / name for name in SHARED), *_kernels(backend)]
    return digest_of(folders)


def digest_of(folders: Iterable[Path]) -> str:
    """Of the names and the text of all sources in these folders."""
    found = hashlib.sha256()
    for folder in folders:
        for path in sorted(_files(folder)):
            found.update(f"{folder.name}/{path.relative_to(folder).as_posix()}\n".encode())
            found.update(path.read_bytes())
    return found.hexdigest()[:16]


def _kernels(backend: str) -> Iterator[Path]:
    """The folder of a backend's kernels."""
    from rnn_gpu import kernels  # noqa: PLC0415  (a namespace, whose folders depend on how the package was installed)

    for root in kernels.__path__:
        if (Path(root) / backend).is_dir():
            yield Path(root) / backend


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.suffix in (".py", ".cuh"))
