"""Arrays of the libraries that callers use, seen as NumPy arrays without a copy, and results handed back in kind.

No library but NumPy is imported here: an array's library has been imported by whoever made the array.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from rnn_gpu.errors import ArgumentTypeError

__all__ = ["DTYPES", "ArrayLibrary", "cast_like", "dtype_name", "dtype_named", "library_of", "name_of"]

DTYPES = ("float64", "float32", "float16", "bfloat16")
"""Names of the dtypes that x and the weights may have."""


@dataclass(frozen=True)
class ArrayLibrary:
    """Where an array lives, and how to go to and fro.

    name: "numpy", "torch", "cupy" or "numba"; device: "cpu" or for example "cuda:0".
    view: array -> what the kernels of that device take: a NumPy array on the CPU, the array itself on a GPU.
    back: the reverse, for results.
    """

    name: str
    device: str
    view: Callable[[Any], Any]
    back: Callable[[Any], Any]

    def __str__(self) -> str:
        return f"{self.name} array on {self.device}"


def library_of(argument: str, array: object) -> ArrayLibrary:
    """The library and device of `array`. Raises ArgumentTypeError, naming `argument`, for what is no array of any."""
    if type(array) is np.ndarray:
        return _NUMPY
    name = _root(array)
    if name not in _DEVICES or not hasattr(array, "dtype") or isinstance(array, np.ma.MaskedArray):
        expected = "a NumPy, CuPy, Numba or torch array"
        raise ArgumentTypeError(argument, expected, f"{type(array).__module__}.{type(array).__qualname__}")
    layout = str(getattr(array, "layout", "torch.strided"))
    if name == "torch" and layout != "torch.strided":
        raise ArgumentTypeError(argument, "a dense tensor", f"one of layout {layout}")
    if name == "torch" and getattr(array, "requires_grad", False) and sys.modules["torch"].is_grad_enabled():
        expected = "a tensor that torch does not follow, under torch.no_grad() or after .detach()"
        got = "one with requires_grad, whose gradient would be lost: gradients come from rnn_gpu.backward"
        raise ArgumentTypeError(argument, expected, got)
    device = _DEVICES[name](array)
    if device != "cpu":
        return ArrayLibrary(name, device, lambda a: a, lambda a: a)
    if name == "torch":
        return ArrayLibrary(name, device, _torch_view, _torch_back)
    return _NUMPY


def dtype_name(array: Any) -> str:
    """The name of an array's dtype, the same for every library: "float32", "bfloat16", "bool" ..."""
    return name_of(array.dtype)


@cache
def name_of(dtype: Any) -> str:
    """The name of a dtype of any library."""
    return str(getattr(dtype, "name", dtype)).removeprefix("torch.")


@cache
def dtype_named(name: Any) -> np.dtype[Any]:
    """The NumPy dtype of that name, "bfloat16" included."""
    if name == "bfloat16":
        import ml_dtypes  # noqa: PLC0415  (a third of the package's import time, and rarely needed)

        name = ml_dtypes.bfloat16
    dtype: np.dtype[Any] = np.dtype(name)
    return dtype


def cast_like(array: Any, other: Any) -> Any:
    """`array`, of any library, with the dtype of `other`."""
    return array.to(other.dtype) if hasattr(array, "to") else array.astype(other.dtype, copy=False)


def _root(array: object) -> str:
    return "numpy" if isinstance(array, np.ndarray | np.generic) else type(array).__module__.partition(".")[0]


def _numba_device(array: Any) -> str:
    return "cuda:0" if hasattr(array, "__cuda_array_interface__") else "cpu"


_DEVICES: dict[str, Callable[[Any], str]] = {
    "numpy": lambda array: "cpu",
    "torch": lambda array: str(array.device),
    "cupy": lambda array: f"cuda:{array.device.id}",
    "numba": _numba_device,
}


def _numpy_view(array: Any) -> np.ndarray[Any, Any]:
    """A plain ndarray in native byte order; a copy only where the byte order is foreign."""
    plain = np.asarray(array)
    return plain if plain.dtype.isnative else plain.astype(plain.dtype.newbyteorder("="))


_NUMPY = ArrayLibrary("numpy", "cpu", _numpy_view, lambda a: a)


def _torch_view(tensor: Any) -> np.ndarray[Any, Any]:
    detached, torch = tensor.detach(), sys.modules["torch"]
    if tensor.dtype is torch.bfloat16:  # NumPy has no such type: hand over the bits
        integers: np.ndarray[Any, Any] = detached.view(torch.int16).numpy()
        return integers.view(dtype_named("bfloat16"))
    array: np.ndarray[Any, Any] = detached.numpy()
    return array


def _torch_back(array: np.ndarray[Any, Any]) -> Any:
    torch = sys.modules["torch"]
    if array.dtype.kind == "V":  # bfloat16, of the types there are
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)
