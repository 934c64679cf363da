"""Every error that this package raises on purpose.

All derive from `RnnGpuError`; each also derives from the built-in exception that a NumPy user would expect.
"""

from __future__ import annotations

from typing import Any

__all__ = ["ArgumentError", "ArgumentTypeError", "BackendError", "CellError", "FileFormatError", "RnnGpuError"]


class RnnGpuError(Exception):
    """Base class of the package's errors."""


class _OfArgument(RnnGpuError):
    """argument: its name; expected: what the call takes; got: what came."""

    def __init__(self, argument: str, expected: str, got: str) -> None:
        super().__init__(f"{argument}: expected {expected}, got {got}")
        self.argument, self.expected, self.got = argument, expected, got

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.argument, self.expected, self.got)


class ArgumentError(_OfArgument, ValueError):
    """An argument has the right kind but a value, shape or dtype that the call cannot take."""


class ArgumentTypeError(_OfArgument, TypeError):
    """An argument is of the wrong kind altogether."""


class CellError(RnnGpuError):
    """A cell's text does something that cannot be traced or compiled. The message names cell and line."""


class BackendError(RnnGpuError, RuntimeError):
    """A backend that was asked for by name, or every backend there is, cannot run the call. The message says why."""


class FileFormatError(RnnGpuError, ValueError):
    """A file is missing a part, damaged, or was written by something else."""
