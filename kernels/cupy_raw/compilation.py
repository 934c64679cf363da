"""CUDA C++ to machine code, by NVRTC, once a source, architecture and compiler; kept on disk.

NVRTC is called directly, not by CuPy's RawModule: that one flushes subnormal numbers to zero whatever is asked for,
and needs a driver, which this does not. What a test compiles is so exactly what runs on a device.
"""

from __future__ import annotations

import hashlib
import importlib
from functools import cache
from typing import Any

from rnn_gpu import machine_code
from rnn_gpu.errors import BackendError
from rnn_gpu.kernels.cupy_raw.device import Kernel
from rnn_gpu.machine_code import Target

__all__ = ["binary", "compiled", "log_of", "target_for"]

OPTIONS = (
    "--std=c++17", "--device-as-default-execution-space",
    "--fmad=true", "--ftz=false", "--prec-div=true", "--prec-sqrt=true",
)  # fmt: skip
"""Lambdas are the device's, which not every NVRTC sees by itself. IEEE arithmetic: nothing is flushed to zero,
divisions and roots are rounded correctly."""


def target_for(capability: tuple[int, int]) -> Target:
    """What to compile for a device of this compute capability. Raises BackendError for one older than any."""
    return machine_code.target_for("NVRTC", capability, _supported())


def binary(kernel: Kernel, target: Target) -> bytes:
    """The kernel's whole source compiled for the target: from disk, else compiled and put there.

    Raises BackendError, with what the compiler said, where it does not compile.
    """
    return machine_code.kept("cupy_raw", _key(kernel, target), target, lambda: compiled(kernel.source, target))


def compiled(source: str, target: Target, *options: str) -> bytes:
    """Machine code or PTX of a source, compiled now. Raises BackendError where it does not compile."""
    return _compile(source, target, options)[0]


def log_of(source: str, target: Target, *options: str) -> str:
    """What the compiler says of a source that compiles, warnings included."""
    return _compile(source, target, options)[1]


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
