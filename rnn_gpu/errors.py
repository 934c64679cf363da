"""Every error that this package raises on purpose.

All derive from `RnnGpuError`; each also derives from the built-in exception that a NumPy user would expect.
"""

from __future__ import annotations

__all__ = ["ArgumentError", "ArgumentTypeError", "BackendError", "CellError", "FileFormatError", "RnnGpuError"]


class RnnGpuError(Exception):
    """Base class of the package's errors."""


def _message(argument: str, expected: str, got: str) -> str:
    return f"{argument}: expected {expected}, got {got}"


class ArgumentError(RnnGpuError, ValueError):
    """An argument has the right kind but a value, shape or dtype that the call cannot take."""

    def __init__(self, argument: str, expected: str, got: str) -> None:
        super().__init__(_message(argument, expected, got))
        self.argument = argument


class ArgumentTypeError(RnnGpuError, TypeError):
    """An argument is of the wrong kind altogether."""

    def __init__(self, argument: str, expected: str, got: str) -> None:
        super().__init__(_message(argument, expected, got))
        self.argument = argument


class CellError(RnnGpuError):
    """A cell's text does something that cannot be traced or compiled. The message names cell and line."""


class BackendError(RnnGpuError, RuntimeError):
    """A backend that was asked for by name, or every backend there is, cannot run the call. The message says why."""


class FileFormatError(RnnGpuError, ValueError):
    """A file is missing a part, damaged, or was written by something else."""
