"""The text to learn from."""

from __future__ import annotations

import hashlib
from pathlib import Path

from rnn_gpu.errors import ArgumentError

__all__ = ["BUILT_IN", "digest", "read"]

BUILT_IN = "pydoc_data.topics"
"""The module of Python's standard library whose English text (about half a megabyte) is used without a file."""


def read(path: str | None) -> str:
    """Return the text of a UTF-8 file, with lines ending in "\\n"; for None, the text that ships with Python.

    Raises ArgumentError, named "FILE", if it is missing, a folder, unreadable, empty or not UTF-8.
    """
    if path is None:
        from pydoc_data.topics import topics  # noqa: PLC0415 (half a megabyte, needed here only)

        return "\n".join(topics[name] for name in sorted(topics))
    expected = "a text file in UTF-8"
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ArgumentError("FILE", expected, f"{path!r}: {error.strerror}") from error
    except ValueError as error:
        raise ArgumentError("FILE", expected, f"{path!r}: {error}") from error
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        found = f"{path!r}, whose byte {error.start} is 0x{data[error.start]:02x}: {error.reason}"
        raise ArgumentError("FILE", expected, found) from error
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    if not text:
        raise ArgumentError("FILE", expected, f"{path!r}, which is empty")
    return text


def digest(text: str) -> str:
    """Return the SHA-256 of the text, in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()
