"""Backends as commands use them: checked before any work is done, and left alone by the threads of NumPy's products."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext

from threadpoolctl import threadpool_limits

from rnn_gpu.dispatch import BACKENDS, ENVIRONMENT_VARIABLE
from rnn_gpu.errors import ArgumentError, BackendError
from rnn_gpu.lm.cell_names import nearest

__all__ = ["check_backend", "quiet_blas"]


def check_backend(name: str | None) -> None:
    """Raise ArgumentError for an unknown backend and BackendError for one that is not usable here; None is fine."""
    if name is None:
        return
    if name not in BACKENDS:
        raise ArgumentError("backend", f"one of {', '.join(BACKENDS)}", repr(name) + nearest(name, BACKENDS))
    reason = BACKENDS[name].unavailable()
    if reason is not None:
        raise BackendError(f"--backend: {name} cannot be used here: {reason}")


def quiet_blas(name: str | None) -> AbstractContextManager[object]:
    """While it lasts, NumPy's products run in one thread, unless the backend itself is made of them.

    The threads of a BLAS go on spinning for a tenth of a second after each product, on the processors that the
    backend's own threads want; what is multiplied between two calls of a backend is little.
    """
    asked_for = name or os.environ.get(ENVIRONMENT_VARIABLE)
    if asked_for is not None and asked_for not in BACKENDS:
        return nullcontext()  # dispatch will say so
    on_host = (backend for backend in BACKENDS.values() if backend.device_kind == "cpu")
    usable = (backend for backend in on_host if backend.unavailable() is None)
    backend = next(usable) if asked_for is None else BACKENDS[asked_for]
    return nullcontext() if backend.uses_blas else threadpool_limits(1, user_api="blas")
