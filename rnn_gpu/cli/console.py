"""The console that the commands write to."""

from __future__ import annotations

from typing import NoReturn

from rich.console import Console as RichConsole

__all__ = ["Console"]


class Console(RichConsole):
    """Writes text as it is, unwrapped; a reader that goes away is a BrokenPipeError, as elsewhere."""

    def __init__(self) -> None:
        super().__init__(highlight=False, markup=False, soft_wrap=True)

    def on_broken_pipe(self) -> NoReturn:
        raise BrokenPipeError
