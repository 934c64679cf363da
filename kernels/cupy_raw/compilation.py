"""CUDA C++ to machine code, by NVRTC, once a source, architecture and compiler; kept on disk.

NVRTC is called directly, not by CuPy's RawModule: that one flushes subnormal numbers to zero whatever is asked for,
and needs a driver, which this does not. What a test compiles is so exactly what runs on a device.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import threading
import warnings
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from rnn_gpu import files
from rnn_gpu.errors import BackendError
from rnn_gpu.kernels.cupy_raw.device import Kernel

__all__ = ["CACHE_VARIABLE", "Target", "binary", "compiled", "folder", "log_of", "target_for"]

CACHE_VARIABLE = "RNN_GPU_CACHE_DIR"
"""Environment variable with the folder for compiled code; by default `rnn_gpu` in the user's cache folder."""

OPTIONS = (
    "--std=c++17", "--device-as-default-execution-space",
    "--fmad=true", "--ftz=false", "--prec-div=true", "--prec-sqrt=true",
)  # fmt: skip
"""Lambdas are the device's, which not every NVRTC sees by itself. IEEE arithmetic: nothing is flushed to zero,
divisions and roots are rounded correctly."""

_ELF, _PTX = b"\x7fELF", b".version"

_locks: dict[Path, threading.Lock] = {}


@dataclass(frozen=True)
class Target:
    """What NVRTC makes code for: "sm_90", machine code, or "compute_90", PTX for the driver to translate."""

    name: str

    @property
    def is_binary(self) -> bool:
        return self.name.startswith("sm_")


def target_for(capability: tuple[int, int], supported: tuple[int, ...] | None = None) -> Target:
    """What to compile for a device of this compute capability.

    supported: architectures that the compiler knows, 90 for sm_90; by default NVRTC's own. A device newer than all that
    it knows runs the machine code of an older one of its generation, else PTX that its driver translates.
    Raises BackendError for a device older than any.
    """
    supported = _supported() if supported is None else supported
    wanted = 10 * capability[0] + capability[1]
    older = [arch for arch in supported if arch <= wanted]
    if not older:
        raise BackendError(f"this NVRTC compiles for sm_{min(supported)} and later, and the device is sm_{wanted}")
    best = max(older)
    return Target(f"sm_{best}" if best // 10 == capability[0] else f"compute_{best}")


def binary(kernel: Kernel, target: Target) -> bytes:
    """The kernel's whole source compiled for the target: from disk, else compiled and put there.

    Raises BackendError, with what the compiler said, where it does not compile.
    """
    path = folder() / f"{_key(kernel, target)}.{'cubin' if target.is_binary else 'ptx'}"
    with _compiling(path):
        code = _read(path, target)
        if code is None:
            code = compiled(kernel.source, target)
            _write(path, code)
    return code


def compiled(source: str, target: Target, *options: str) -> bytes:
    """Machine code or PTX of a source, compiled now. Raises BackendError where it does not compile."""
    return _compile(source, target, options)[0]


def log_of(source: str, target: Target, *options: str) -> str:
    """What the compiler says of a source that compiles, warnings included."""
    return _compile(source, target, options)[1]


def folder() -> Path:
    """Where compiled code is kept."""
    named = os.environ.get(CACHE_VARIABLE)
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(named or Path(caches) / "rnn_gpu") / "cupy_raw"


def _compiling(path: Path) -> threading.Lock:
    """Held while what lies there is compiled: two threads do not compile the same, but different kernels at once."""
    return _locks.setdefault(path, threading.Lock())


def _compile(source: str, target: Target, options: tuple[str, ...]) -> tuple[bytes, str]:
    nvrtc = _nvrtc()
    program = nvrtc.createProgram(source, "rnn_gpu.cu", (), ())
    try:
        try:
            nvrtc.compileProgram(program, (*OPTIONS, f"--gpu-architecture={target.name}", *options))
        except nvrtc.NVRTCError as error:
            said = nvrtc.getProgramLog(program).strip()
            raise BackendError(f"NVRTC does not compile the kernel for {target.name}: {said or error}") from error
        # CuPy takes the last byte of machine code for the end of a string.
        code = nvrtc.getCUBIN(program) + b"\0" if target.is_binary else nvrtc.getPTX(program)
        return (code if isinstance(code, bytes) else code.encode()), nvrtc.getProgramLog(program)
    finally:
        nvrtc.destroyProgram(program)


def _nvrtc() -> Any:
    return importlib.import_module("cupy_backends.cuda.libs.nvrtc")


@cache
def _supported() -> tuple[int, ...]:
    return tuple(_nvrtc().getSupportedArchs())


def _key(kernel: Kernel, target: Target) -> str:
    version = ".".join(map(str, _nvrtc().getVersion()))
    return hashlib.sha256("\n".join((kernel.digest, target.name, version, *OPTIONS)).encode()).hexdigest()


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
