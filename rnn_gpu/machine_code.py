"""What kernels are compiled to for a GPU, and where that is kept on disk: the same for every backend that compiles."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from rnn_gpu import files
from rnn_gpu.errors import BackendError

__all__ = ["CACHE_VARIABLE", "Target", "folder", "kept", "target_for"]

CACHE_VARIABLE = "RNN_GPU_CACHE_DIR"
"""Environment variable with the folder for compiled code; by default `rnn_gpu` in the user's cache folder."""

_ELF, _PTX = b"\x7fELF", b".version"

_locks: dict[Path, threading.Lock] = {}


@dataclass(frozen=True)
class Target:
    """What code is made for: "sm_90", machine code, or "compute_90", PTX for the driver to translate."""

    name: str

    @property
    def is_binary(self) -> bool:
        return self.name.startswith("sm_")

    @property
    def capability(self) -> tuple[int, int]:
        """(9, 0) of sm_90."""
        return divmod(int(self.name.partition("_")[2]), 10)


def target_for(compiler: str, capability: tuple[int, int], supported: tuple[int, ...]) -> Target:
    """What a compiler makes for a device of this compute capability.

    supported: architectures that the compiler knows, 90 for sm_90. A device newer than all that it knows runs the
    machine code of an older one of its generation, else PTX that its driver translates.
    Raises BackendError for a device older than any.
    """
    wanted = 10 * capability[0] + capability[1]
    older = [arch for arch in supported if arch <= wanted]
    if not older:
        raise BackendError(f"this {compiler} compiles for sm_{min(supported)} and later, and the device is sm_{wanted}")
    best = max(older)
    return Target(f"sm_{best}" if best // 10 == capability[0] else f"compute_{best}")


def folder(backend: str) -> Path:
    """Where a backend's compiled code is kept."""
    named = os.environ.get(CACHE_VARIABLE)
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(named or Path(caches) / "rnn_gpu") / backend


def kept(backend: str, key: str, target: Target, compiled: Callable[[], bytes]) -> bytes:
    """The code with that key from disk, else from `compiled`, and put there.

    key: tells apart all that code can differ by, of one backend.
    """
    path = folder(backend) / f"{key}.{'cubin' if target.is_binary else 'ptx'}"
    # Two threads do not compile the same, but different kernels at once.
    with _locks.setdefault(path, threading.Lock()):
        code = _read(path, target)
        if code is None:
            code = compiled()
            _write(path, code)
    return code


def _read(path: Path, target: Target) -> bytes | None:
    """None where there is none, or something else than such code."""
    try:
        code = path.read_bytes()
    except OSError:
        return None
    head = code.startswith(_ELF) if target.is_binary else _PTX in code[:4096]
    return code if head else None


def _write(path: Path, code: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write(path, code)
    except OSError as error:
        _warn_once(f"compiled kernels cannot be kept in {path.parent}: {error.strerror}; set {CACHE_VARIABLE}")


@cache
def _warn_once(message: str) -> None:
    warnings.warn(message, RuntimeWarning, stacklevel=2)
