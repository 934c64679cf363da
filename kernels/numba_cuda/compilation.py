"""Kernels to machine code, once a kernel, types of arguments, architecture and compiler; kept on disk.

Numba writes PTX, which nvJitLink translates; neither needs a driver. Numba's own cache is for functions at the top of a
module, which these are not.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cuda import pathfinder
from cuda.bindings import nvjitlink, nvrtc, nvvm
from cuda.core import Linker, LinkerOptions, ObjectCode
from numba import config, cuda, types

from rnn_gpu import machine_code
from rnn_gpu.errors import BackendError
from rnn_gpu.kernels.numba_cuda.identity import digest_of
from rnn_gpu.kernels.numba_cuda.jit import Kernel
from rnn_gpu.machine_code import Target

__all__ = ["ENTRY", "binary", "linked", "ptx", "target_for"]

ENTRY = "rnn_gpu_kernel"
"""What every kernel is called in its machine code: Numba's own names differ from process to process."""


def target_for(capability: tuple[int, int]) -> Target:
    """What to compile for a device of this compute capability.

    Raises BackendError for one older than any that can be compiled for, or of a later generation.
    """
    target = machine_code.target_for("CUDA toolkit", capability, _supported())
    if not target.is_binary:
        wanted = "sm_{}{}".format(*capability)
        raise BackendError(f"this CUDA toolkit compiles for {target.name} and older, and the device is {wanted}")
    return target


def binary(kernel: Kernel, arguments: tuple[Any, ...], target: Target) -> bytes:
    """The kernel's machine code for arguments of these of Numba's types: from disk, else compiled and put there.

    Raises BackendError where nvJitLink makes none of what Numba writes.
    """

    def compiled() -> bytes:
        return linked(kernel, ptx(kernel, arguments, target.capability), target)

    return machine_code.kept("numba_cuda", _key(kernel, arguments, target), target, compiled)


def ptx(kernel: Kernel, arguments: tuple[Any, ...], capability: tuple[int, int]) -> str:
    """The kernel's PTX, in which it is called `ENTRY`."""
    text, _ = cuda.compile(
        kernel.function, types.void(*arguments), device=False, abi="numba", cc=capability, launch_bounds=kernel.threads
    )
    (name,) = re.findall(r"\.entry\s+([\w$]+)", text)
    if ("cudaCGSynchronize" in text) != kernel.cooperative:
        raise AssertionError("a kernel is cooperative if it waits for its grid")
    return str(text).replace(name, ENTRY)


def linked(kernel: Kernel, text: str, target: Target) -> bytes:
    """The machine code of a kernel's PTX. Raises BackendError where nvJitLink makes none."""
    parts = [ObjectCode.from_ptx(text.encode())]
    try:
        if kernel.cooperative:
            parts.append(ObjectCode.from_library(Path(pathfinder.find_static_lib("cudadevrt")).read_bytes()))
        linker = Linker(*parts, options=LinkerOptions(arch=target.name))
        try:
            return bytes(linker.link("cubin").code)
        finally:
            linker.close()
    except (nvjitlink.nvJitLinkError, pathfinder.StaticLibNotFoundError) as error:
        raise BackendError(f"numba_cuda: nvJitLink links no kernel for {target.name}: {error}") from error


def _key(kernel: Kernel, arguments: Iterable[Any], target: Target) -> str:
    of_arguments = [f"{kind} {getattr(kind, 'fields', '')}" for kind in arguments]
    options = f"{kernel.threads} {kernel.cooperative}"
    texts = (digest_of(kernel.function), options, target.name, *of_arguments, *_compilers(), *_settings())
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()


@cache
def _compilers() -> tuple[str, ...]:
    packages = [version(name) for name in ("numba-cuda", "numba", "llvmlite", "numpy")]
    return *packages, str(nvvm.version()), str(nvvm.ir_version()), str(nvjitlink.version())


def _settings() -> tuple[str, ...]:
    """Variables of Numba's that change what it writes."""
    return str(config.OPT), str(config.CUDA_DEBUGINFO_DEFAULT), str(config.FORCE_CUDA_CC)


@cache
def _supported() -> tuple[int, ...]:
    _, architectures = nvrtc.nvrtcGetSupportedArchs()
    return tuple(architectures)
