"""Stopping in good order on Ctrl-C or a request to terminate."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType
from typing import Any, Self

__all__ = ["Interrupt"]


class Interrupt:
    """While this context is open, the first SIGINT or SIGTERM only sets `requested`; the next one acts as usual."""

    def __init__(self) -> None:
        self._requested = False
        self._former: dict[int, Any] = {}

    def requested(self) -> bool:
        """Whether there has been a signal."""
        return self._requested

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._former[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._requested = True
        self._restore()

    def _restore(self) -> None:
        while self._former:
            signal.signal(*self._former.popitem())
