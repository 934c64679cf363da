"""Launches a sequence kernel, with the memory that its blocks share."""

from __future__ import annotations

import numpy as np

from rnn_gpu.kernels.cupy_raw.call import Call
from rnn_gpu.kernels.cupy_raw.plan import Choice
from rnn_gpu.kernels.cupy_raw.source import kernel
from rnn_gpu.problem import Array

__all__ = ["launch"]


def launch(call: Call, choice: Choice, arrays: dict[str, Array | None], **numbers: int) -> None:
    """Run the kernel of `choice` over all tiles; `arrays`, `numbers`: its parameters beyond the common ones."""
    keeps = 0 if arrays["history"] is None else 1 if arrays["saved"] is None else 2
    spec = choice.kernel.of_call(lengths=call.rows.packed, resets=call.common["resets"] is not None, keeps=keeps)
    traits, teams = spec.traits, choice.teams
    assert min(traits.hidden, traits.blocks * traits.block_units) >= call.problem.H, "each hidden unit has an owner"
    shared: dict[str, Array | None] = {}
    if traits.strategy == "grid" and spec.products:
        exchange = (teams, 2, traits.rows, spec.stride)
        shared = {
            "exchange": call.device.zeros(exchange, call.operand),
            "counters": call.device.zeros((teams,), np.dtype(np.uint32)),
        }
    call.device.launch(
        kernel(spec),
        grid=teams * traits.blocks,
        block=traits.threads,
        shared=spec.shared_bytes,
        parameters=call.parameters(arrays | shared, tiles=choice.tiles, **numbers),
        cluster=traits.blocks if traits.strategy == "cluster" else 1,
        cooperative=traits.strategy == "grid",
    )
