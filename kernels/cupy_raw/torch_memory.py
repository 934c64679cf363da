"""Memory of torch's allocator, for callers of torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from rnn_gpu.arrays import dtype_named, name_of
from rnn_gpu.kernels.cupy_raw.device import ALIGNMENT

__all__ = ["TorchMemory"]

Array = Any


class TorchMemory:
    """See `Memory`. The allocator serves torch's current stream, and hands a freed block to that stream only."""

    def __init__(self, device: str) -> None:
        self._device = torch.device(device)

    def adopt(self, array: Array) -> Array:
        return array.detach() if array.requires_grad else array

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        return torch.empty(shape, dtype=_TORCH[dtype], device=self._device)

    def zeros(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        return torch.zeros(shape, dtype=_TORCH[dtype], device=self._device)

    def upload(self, array: np.ndarray[Any, Any]) -> Array:
        host = torch.from_numpy(np.array(array, order="C"))
        if self._device.type == "cuda":  # from pinned memory: a copy from any other waits for the device
            host = host.pin_memory()
        return host.to(self._device, non_blocking=True)

    def parts(self, array: Array) -> tuple[Array, ...]:
        made = [torch.empty(0, dtype=array.dtype, device=array.device) for _ in range(len(array))]
        storage, first, (apart, *strides) = array.untyped_storage(), array.storage_offset(), array.stride()
        return tuple([part.set_(storage, first + k * apart, array.shape[1:], strides) for k, part in enumerate(made)])

    def address(self, array: Array) -> int:
        address: int = array.data_ptr()
        return address

    def dtype(self, array: Array) -> np.dtype[Any]:
        return dtype_named(name_of(array.dtype))

    def dense_address(self, array: Array, dtype: np.dtype[Any], alignment: int = ALIGNMENT) -> int | None:
        address: int = array.data_ptr()
        return address if array.dtype is _TORCH[dtype] and array.is_contiguous() and address % alignment == 0 else None

    def copy(self, source: Array, out: Array) -> None:
        out.copy_(source)

    def take_rows(self, source: Array, rows: Array, out: Array) -> None:
        out.copy_(source.index_select(0, rows))


class _Dtypes(dict[Any, torch.dtype]):
    """torch's dtype for each of NumPy's; ml_dtypes' bfloat16 is imported where it is first asked for."""

    def __missing__(self, dtype: Any) -> torch.dtype:
        found: torch.dtype = getattr(torch, name_of(dtype))
        self[dtype] = found
        return found


_TORCH = _Dtypes()
