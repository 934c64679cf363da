"""Arrays on a CUDA device: handed from one library to another without a copy.

Every function here is reached only with an array of the library it imports, or from a backend that works in it.

Memory goes from torch to others and back by DLPack, as torch's `__cuda_array_interface__` knows neither streams nor
bfloat16; elsewhere by `__cuda_array_interface__`. bfloat16 crosses as the 16-bit integers of its bits. Nothing here
waits for the device: whoever uses what comes out does so on the stream that `STREAMS` gives, behind what its maker has
queued there.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

__all__ = ["CONVERSIONS", "STREAMS", "ZEROS", "numba_copy", "numba_device", "to_cupy", "to_numba", "to_torch"]


_NO_WAITING = -1
"""DLPack's stream of a consumer that sees to the order of work itself."""


def to_cupy(array: Any) -> Any:
    """A device array of any library as a cupy.ndarray on the same memory."""
    import cupy  # noqa: PLC0415  (where there is a device; for every array of a call, so by no slower way)

    if isinstance(array, cupy.ndarray):
        return array
    if not _is_torch(array):
        return cupy.asarray(array)
    torch = importlib.import_module("torch")
    tensor = array.detach()
    if tensor.dtype == torch.bfloat16:
        return cupy.from_dlpack(tensor.view(torch.int16)).view(_bfloat16())
    return cupy.from_dlpack(tensor)


def to_torch(array: Any) -> Any:
    """A device array of any library as a torch.Tensor on the same memory."""
    torch = sys.modules["torch"]  # imported by whoever works with it
    if isinstance(array, torch.Tensor):
        return array
    if not hasattr(array, "__dlpack__"):
        return torch.as_tensor(array, device="cuda")
    if array.dtype == _bfloat16():
        return torch.from_dlpack(array.view(np.int16).__dlpack__(stream=_NO_WAITING)).view(torch.bfloat16)
    return torch.from_dlpack(array.__dlpack__(stream=_NO_WAITING))


def to_numba(array: Any) -> Any:
    """A device array of any library as a Numba device array on the same memory. Numba has none of bfloat16."""
    cuda = importlib.import_module("numba.cuda")
    if hasattr(array, "copy_to_host"):
        return array
    return cuda.as_cuda_array(array.detach() if _is_torch(array) else array, sync=False)


def numba_device(array: Any) -> int:
    """The number of the device that a Numba device array lies on."""
    memory = getattr(array, "gpu_data", None)
    return 0 if memory is None else int(memory.context.device.id)


def numba_copy(array: Any) -> Any:
    """A copy of a Numba device array."""
    copy = importlib.import_module("numba.cuda").device_array(array.shape, array.dtype)
    copy.copy_to_device(array)
    return copy


def _is_torch(array: Any) -> bool:
    return type(array).__module__.partition(".")[0] == "torch" or hasattr(array, "detach")


def _bfloat16() -> Any:
    return importlib.import_module("ml_dtypes").bfloat16


def _cupy_stream(device: int) -> int:
    import cupy  # noqa: PLC0415  (as above)

    return int(cupy.cuda.get_current_stream(device).ptr)


def _torch_stream(device: int) -> int:
    torch = sys.modules["torch"]
    raw = getattr(torch._C, "_cuda_getCurrentRawStream", None)  # what current_stream asks, without its layers of Python
    return int(torch.cuda.current_stream(device).cuda_stream if raw is None else raw(device))


def _cupy_zeros(shape: tuple[int, ...], dtype: np.dtype[Any], device: int) -> Any:
    cupy = importlib.import_module("cupy")
    with cupy.cuda.Device(device):
        return cupy.zeros(shape, dtype)


def _torch_zeros(shape: tuple[int, ...], dtype: np.dtype[Any], device: int) -> Any:
    torch = importlib.import_module("torch")
    return torch.zeros(shape, dtype=getattr(torch, dtype.name), device=f"cuda:{device}")


def _numba_zeros(shape: tuple[int, ...], dtype: np.dtype[Any], device: int) -> Any:
    cuda = importlib.import_module("numba.cuda")
    with cuda.gpus[device]:
        return cuda.to_device(np.zeros(shape, dtype))


STREAMS: Mapping[str, Callable[[int], int]] = {
    "cupy": _cupy_stream,
    "torch": _torch_stream,
    # Numba has no current stream. The legacy default stream, 0, waits for those that `numba.cuda.stream` makes.
    "numba": lambda device: 0,
}
"""By library: device number -> address of the stream that its caller works on."""

CONVERSIONS: Mapping[str, Callable[[Any], Any]] = {"cupy": to_cupy, "torch": to_torch, "numba": to_numba}
"""By library: from a device array of any other."""

ZEROS: Mapping[str, Callable[[tuple[int, ...], np.dtype[Any], int], Any]] = {
    "cupy": _cupy_zeros,
    "torch": _torch_zeros,
    "numba": _numba_zeros,
}
"""By library: (shape, dtype, device number) -> zeros."""
