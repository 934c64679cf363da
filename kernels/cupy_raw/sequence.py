"""Launches a sequence kernel, with the memory that its blocks share."""

from __future__ import annotations

from rnn_gpu.kernels.cupy_raw.call import Call
from rnn_gpu.kernels.cupy_raw.method import SequenceLaunch
from rnn_gpu.kernels.cupy_raw.parameters import Parameters
from rnn_gpu.kernels.cupy_raw.workspace import BYTE

__all__ = ["launch"]


def launch(call: Call, how: SequenceLaunch, parameters: Parameters) -> None:
    """Run the kernel over all tiles; of the parameters, those of the tiles and of what blocks share are set here."""
    parameters.tiles = how.tiles
    if how.counters:
        shared = call.device.memory.zeros((how.exchange + how.counters,), BYTE)
        parameters.exchange = call.device.memory.address(shared)
        parameters.counters = parameters.exchange + how.exchange
    call.device.launch(how.launch, parameters)
