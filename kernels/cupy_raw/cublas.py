"""The few functions of cuBLAS that products need, called directly: CuPy's own refuse to be captured in a CUDA graph.

cuBLAS itself can be, given a workspace: https://docs.nvidia.com/cuda/cublas/#cuda-graphs-support.
"""

from __future__ import annotations

import ctypes
import importlib
from functools import cache
from typing import Any

from rnn_gpu.errors import BackendError

__all__ = ["WORKSPACE_BYTES", "CublasError", "create", "destroy", "gemm", "set_math_mode", "set_stream"]

WORKSPACE_BYTES = 32 << 20
"""What cuBLAS itself takes on Hopper: enough for each of its algorithms."""

_INT, _POINTER, _SIZE = ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t

_ARGUMENTS = {
    "cublasCreate_v2": (ctypes.POINTER(_POINTER),),
    "cublasDestroy_v2": (_POINTER,),
    "cublasSetMathMode": (_POINTER, _INT),
    "cublasSetStream_v2": (_POINTER, _POINTER),
    "cublasSetWorkspace_v2": (_POINTER, _POINTER, _SIZE),
    "cublasGemmEx": None,
}
"""None: those that the caller sees to, which is what takes the time of a call. Plain integers are passed as C's int, so
that an address, which may be larger, must be a c_void_p."""


class CublasError(RuntimeError):
    """A call of cuBLAS failed; the message begins with the name of the status."""


def create() -> ctypes.c_void_p:
    """A handle on the current device."""
    handle = _POINTER()
    _call("cublasCreate_v2", ctypes.byref(handle))
    return handle


def destroy(handle: ctypes.c_void_p) -> None:
    _call("cublasDestroy_v2", handle)


def set_math_mode(handle: ctypes.c_void_p, mode: int) -> None:
    """mode: a cublasMath_t."""
    _call("cublasSetMathMode", handle, mode)


def set_stream(handle: ctypes.c_void_p, stream: int, workspace: int = 0) -> None:
    """Queue what follows on the stream of this address. workspace: WORKSPACE_BYTES on the device; 0: cuBLAS' own."""
    _call("cublasSetStream_v2", handle, stream)
    if workspace:
        _call("cublasSetWorkspace_v2", handle, workspace, WORKSPACE_BYTES)


def gemm(*arguments: int | ctypes.c_void_p) -> None:
    """cublasGemmEx with its arguments in its order: handle, op_a, op_b, m, n, k, alpha, A ... compute type ...

    Addresses are `c_void_p`; whole numbers are passed as int.
    """
    status = _library()["cublasGemmEx"](*arguments)
    if status:
        raise _failed("cublasGemmEx", status)


def _call(name: str, *arguments: Any) -> None:
    status = _library()[name](*arguments)
    if status:
        raise _failed(name, status)


def _failed(name: str, status: int) -> CublasError:
    return CublasError(f"{_library()['cublasGetStatusName'](status).decode()}: {name}")


@cache
def _library() -> dict[str, Any]:
    """The functions by name. Raises BackendError where the library, or one of them, was not found."""
    pathfinder = importlib.import_module("cuda.pathfinder")
    try:
        loaded = ctypes.CDLL(pathfinder.load_nvidia_dynamic_lib("cublas").abs_path)
        functions: dict[str, Any] = {name: getattr(loaded, name) for name in (*_ARGUMENTS, "cublasGetStatusName")}
    except (pathfinder.DynamicLibNotFoundError, OSError, AttributeError) as error:
        raise BackendError(f"cuBLAS cannot be used: {error}") from error
    for name, arguments in _ARGUMENTS.items():
        functions[name].argtypes, functions[name].restype = arguments, _INT
    functions["cublasGetStatusName"].argtypes, functions["cublasGetStatusName"].restype = (_INT,), ctypes.c_char_p
    return functions
