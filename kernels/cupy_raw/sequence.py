"""Launches a sequence kernel, with the memory that its blocks share."""

from __future__ import annotations

import numpy as np

from rnn_gpu.kernels.cupy_raw.call import Call
from rnn_gpu.kernels.cupy_raw.method import Launch

__all__ = ["launch"]

_BYTE = np.dtype(np.uint8)


def launch(call: Call, how: Launch, fields: dict[str, int]) -> None:
    """Run the kernel over all tiles; fields: its parameters beyond the common ones."""
    fields = fields | {"tiles": how.tiles}
    memory = call.device.memory
    if how.counters:
        common = memory.zeros((how.exchange + how.counters,), _BYTE)
        fields["exchange"] = memory.address(common)
        fields["counters"] = fields["exchange"] + how.exchange
    call.device.launch(
        how.kernel, grid=how.grid, block=how.block, shared=how.shared, parameters=call.parameters(fields),
        cluster=how.cluster, cooperative=how.cooperative,
    )  # fmt: skip
