"""The CUDA C++ backend, through CuPy: cells as the compiler emits them, in drivers that keep U on the chip.

`BACKEND` is what dispatch sees. `plan.py` says which kernels run a call, `device.py` what they need of a device; cuda/
has the kernels. Nothing of CuPy is imported before the first call.
"""

from __future__ import annotations

from rnn_gpu.arrays import ArrayLibrary
from rnn_gpu.kernels.cupy_raw.availability import devices, unavailable
from rnn_gpu.kernels.cupy_raw.backend import CudaBackend
from rnn_gpu.kernels.cupy_raw.device import Device

__all__ = ["BACKEND"]


def _device_of(library: ArrayLibrary) -> Device:
    from rnn_gpu.kernels.cupy_raw.cupy_device import device_of  # noqa: PLC0415  (imports CuPy)

    return device_of(library)


BACKEND = CudaBackend(_device_of, unavailable, devices)
