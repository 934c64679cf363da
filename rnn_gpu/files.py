"""Files that are there whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from rnn_gpu.errors import ArgumentError

__all__ = ["check_writable", "write"]


def check_writable(path: Path, argument: str) -> None:
    """Try to write beside `path`. Raises ArgumentError, named `argument`, where the file could not be written."""
    expected = "a file that can be written"
    if path.is_dir():
        raise ArgumentError(argument, expected, f"{str(path)!r}, a folder")
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent) as file:
            file.write(b"\0")
    except OSError as error:
        raise ArgumentError(argument, expected, f"{str(path)!r}: {error.strerror}") from error


def write(path: Path, data: bytes) -> None:
    """Put `data` in the place of the file, in one step. Raises OSError, with the former file as it was."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(name, 0o666 & ~mask)  # mkstemp's files are for their owner only
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
