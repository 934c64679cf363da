"""Arrays of the libraries that callers use, seen by the kernels without a copy, and results handed back in kind.

No library but NumPy is imported here: an array's library has been imported by whoever made the array.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np

from rnn_gpu import cuda_arrays
from rnn_gpu.errors import ArgumentTypeError

__all__ = [
    "DTYPES", "ArrayLibrary", "cast_like", "copied", "dtype_name", "dtype_named", "library_of", "looks", "name_of",
    "on_host", "one_step",
]  # fmt: skip

DTYPES = ("float64", "float32", "float16", "bfloat16")
"""Names of the dtypes that x and the weights may have."""


@dataclass(frozen=True)
class ArrayLibrary:
    """Where an array lives, and how to go to and fro.

    name: "numpy", "torch", "cupy" or "numba"; device: "cpu" or for example "cuda:0".
    view: array -> what the kernels of that device take: a NumPy array on the CPU, the array itself on a GPU.
    back: the reverse, for results: on a GPU, from an array of any library there.
    zeros: (shape, NumPy dtype) -> an array of zeros as `view` gives them.
    """

    name: str
    device: str
    view: Callable[[Any], Any]
    back: Callable[[Any], Any]
    zeros: Callable[[tuple[int, ...], np.dtype[Any]], Any]

    def __str__(self) -> str:
        return f"{self.name} array on {self.device}"

    @cached_property
    def kind(self) -> str:
        """The device without its number: "cpu", "cuda" ..."""
        return self.device.partition(":")[0]

    @cached_property
    def index(self) -> int:
        """The number of the device among those of its kind."""
        return int(self.device.partition(":")[2] or 0)

    def stream(self) -> int:
        """Address of the CUDA stream that the caller works on in this library: kernels are to be queued there."""
        return cuda_arrays.STREAMS[self.name](self.index)


def library_of(argument: str, array: object) -> ArrayLibrary:
    """The library and device of `array`. Raises ArgumentTypeError, naming `argument`, for what is no array of any."""
    if type(array) is np.ndarray:
        return _NUMPY
    name = _root(array)
    if name == "torch" and hasattr(array, "layout"):
        return _library_of_tensor(argument, array)
    if name not in _DEVICES or not hasattr(array, "dtype") or isinstance(array, np.ma.MaskedArray):
        expected = "a NumPy, CuPy, Numba or torch array"
        raise ArgumentTypeError(argument, expected, f"{type(array).__module__}.{type(array).__qualname__}")
    device = _DEVICES[name](array)
    return _NUMPY if device == "cpu" else _elsewhere(name, device)


def _library_of_tensor(argument: str, tensor: Any) -> ArrayLibrary:
    torch = sys.modules["torch"]
    if tensor.layout is not torch.strided:
        raise ArgumentTypeError(argument, "a dense tensor", f"one of layout {tensor.layout}")
    if tensor.requires_grad and torch.is_grad_enabled():
        expected = "a tensor that torch does not follow, under torch.no_grad() or after .detach()"
        got = "one with requires_grad, whose gradient would be lost: gradients come from rnn_gpu.backward"
        raise ArgumentTypeError(argument, expected, got)
    return _TORCH if tensor.is_cpu else _elsewhere("torch", str(tensor.device))


def one_step(array: Any) -> Any:
    """array[None]: with an axis of length 1 for time."""
    if hasattr(array, "copy_to_host"):  # Numba's, which takes no None
        return array.reshape((1, *array.shape))
    return array[None]


def looks(arrays: Iterable[Any]) -> list[Any] | None:
    """Shape, dtype and device of each array, or None for None: all that `library_of` and others judge them by.

    None if there is more to see: arrays that are not of NumPy's own class and in native byte order, of CuPy's own, or
    dense tensors of torch's own that it does not follow.
    """
    found: list[Any] = []
    of_cupy: Any = getattr(sys.modules.get("cupy"), "ndarray", None)
    for array in arrays:
        kind = type(array)
        if kind is of_cupy:
            found += (array.shape, array.dtype, array.device.id)
        elif kind is np.ndarray:
            dtype = array.dtype
            if not dtype.isnative:
                return None
            found.append(array.shape)
            found.append(dtype)
        elif array is None:
            found.append(None)
        else:
            seen = _look_at_tensor(array)
            if seen is None:
                return None
            found += seen
    return found


def _look_at_tensor(array: Any) -> tuple[Any, ...] | None:
    """The same of a tensor of torch's."""
    torch = sys.modules.get("torch")
    if (
        torch is not None
        and type(array) in (torch.Tensor, torch.nn.Parameter)
        and array.layout is torch.strided
        and not (array.requires_grad and torch.is_grad_enabled())
    ):
        return array.shape, array.dtype, array.device
    return None


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
    """`array`, of any library, with the dtype of `other`; itself if it has it.

    Raises ArgumentTypeError for a Numba device array of another dtype: Numba has no such operation.
    """
    if array.dtype == other.dtype:
        return array
    if hasattr(array, "to"):
        return array.to(other.dtype)
    if not hasattr(array, "astype"):
        kind = f"{type(array).__module__}.{type(array).__qualname__}"
        raise ArgumentTypeError("array", "one of a library that converts dtypes (NumPy, CuPy, torch)", kind)
    return array.astype(other.dtype, copy=False)


def copied(array: Any) -> Any:
    """A copy of an array of any library, on the same device, followed by no automatic differentiation."""
    if hasattr(array, "detach"):
        return array.detach().clone()
    return cuda_arrays.numba_copy(array) if hasattr(array, "copy_to_host") else array.copy()


def on_host(argument: str, array: Any) -> np.ndarray[Any, Any]:
    """`array`, of any library, as a NumPy array. One on a GPU is copied, which waits for the device.

    Raises as `library_of` does.
    """
    library = library_of(argument, array)
    if library.device == "cpu":
        return np.asarray(library.view(array))
    to_host = next(method for name in ("get", "copy_to_host", "cpu") if (method := getattr(array, name, None)))
    return np.asarray(to_host())


def _root(array: object) -> str:
    return "numpy" if isinstance(array, np.ndarray | np.generic) else type(array).__module__.partition(".")[0]


_DEVICES: dict[str, Callable[[Any], str]] = {
    "numpy": lambda array: "cpu",
    "cupy": lambda array: f"cuda:{array.device.id}",
    "numba": lambda array: f"cuda:{cuda_arrays.numba_device(array)}",
}


@cache
def _elsewhere(name: str, device: str) -> ArrayLibrary:
    """The library on a device that is not the host's."""
    if device.startswith("cuda"):
        back, zeros = cuda_arrays.CONVERSIONS[name], cuda_arrays.ZEROS[name]
        index = int(device.partition(":")[2] or 0)
        return ArrayLibrary(name, device, _itself, back, lambda shape, dtype: zeros(shape, dtype, index))
    return ArrayLibrary(name, device, _itself, _itself, np.zeros)


def _itself(array: Any) -> Any:
    return array


def _numpy_view(array: Any) -> np.ndarray[Any, Any]:
    """A plain ndarray in native byte order; a copy only where the byte order is foreign."""
    plain = np.asarray(array)
    return plain if plain.dtype.isnative else plain.astype(plain.dtype.newbyteorder("="))


_NUMPY = ArrayLibrary("numpy", "cpu", _numpy_view, _itself, np.zeros)


def _torch_view(tensor: Any) -> np.ndarray[Any, Any]:
    torch = sys.modules["torch"]
    if tensor.dtype is torch.bfloat16:  # NumPy has no such type: hand over the bits
        integers: np.ndarray[Any, Any] = tensor.detach().view(torch.int16).numpy()
        return integers.view(dtype_named("bfloat16"))
    array: np.ndarray[Any, Any] = tensor.numpy(force=True)  # whether it requires a gradient or not
    return array


def _torch_back(array: np.ndarray[Any, Any]) -> Any:
    torch = sys.modules["torch"]
    if array.dtype.kind == "V":  # bfloat16, of the types there are
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


_TORCH = ArrayLibrary("torch", "cpu", _torch_view, _torch_back, np.zeros)
