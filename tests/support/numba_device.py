"""A device for numba-cuda to compile for, where there is none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from unittest import mock

__all__ = ["pretended"]


@contextmanager
def pretended(capability: tuple[int, int]) -> Iterator[None]:
    """Numba asks for the device where one function calls another."""
    device = SimpleNamespace(compute_capability=capability)
    with mock.patch("numba.cuda.dispatcher.get_current_device", return_value=device):
        yield
