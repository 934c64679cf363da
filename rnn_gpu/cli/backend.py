"""Checking, before any work is done, that a backend asked for by name can be used."""

from __future__ import annotations

from rnn_gpu.dispatch import BACKENDS
from rnn_gpu.errors import ArgumentError, BackendError
from rnn_gpu.lm.cell_names import nearest

__all__ = ["check_backend"]


def check_backend(name: str | None) -> None:
    """Raise ArgumentError for an unknown backend and BackendError for one that is not usable here; None is fine."""
    if name is None:
        return
    if name not in BACKENDS:
        raise ArgumentError("backend", f"one of {', '.join(BACKENDS)}", repr(name) + nearest(name, BACKENDS))
    reason = BACKENDS[name].unavailable()
    if reason is not None:
        raise BackendError(f"--backend: {name} cannot be used here: {reason}")
