"""Launches a sequence kernel, with the memory that its blocks share."""

from __future__ import annotations

import numpy as np

from rnn_gpu.kernels.cupy_raw.call import Call
from rnn_gpu.kernels.cupy_raw.method import SequenceLaunch
from rnn_gpu.kernels.cupy_raw.parameters import Parameters
from rnn_gpu.kernels.cupy_raw.workspace import BYTE

__all__ = ["launch"]

COUNTER = np.dtype(np.uint32)


def launch(call: Call, how: SequenceLaunch, parameters: Parameters) -> None:
    """Run the kernel over all tiles; of the parameters, those of the tiles and of what blocks share are set here."""
    parameters.tiles, parameters.slots = how.tiles, how.slots
    if how.counters:
        memory = call.device.memory
        exchange, counters = memory.empty((how.exchange,), BYTE), memory.zeros((how.counters,), COUNTER)
        parameters.exchange, parameters.counters = memory.address(exchange), memory.address(counters)
    call.device.launch(how.launch, parameters)
