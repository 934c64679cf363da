"""Forward: one product for the inputs of all steps, then the sequence."""

from __future__ import annotations

from dataclasses import dataclass

from rnn_gpu.dispatch import Result
from rnn_gpu.kernels.cupy_raw import sequence, stepwise
from rnn_gpu.kernels.cupy_raw.call import Call
from rnn_gpu.kernels.cupy_raw.device import Device
from rnn_gpu.problem import Array

__all__ = ["Saved", "run"]


@dataclass(frozen=True)
class Saved:
    """What backward needs, all of the device; N steps that exist.

    call: with the arrays that forward made of the caller's.
    history: [N, n_state, H], the states after each step; values: [N, n_saved, H], None where backward is to make them.
    """

    call: Call
    history: Array
    values: Array | None

    def on(self, device: Device) -> Saved:
        """The same for work on this device's stream."""
        return Saved(self.call.on(device), self.history, self.values)


def run(call: Call) -> Result:
    """Run the sequence: y [T, B, H], last a [B, H] a state, and what backward needs."""
    problem, rows, memory = call.problem, call.rows, call.device.memory
    cell, real, H, N = problem.cell, problem.real, problem.H, rows.N
    y = (memory.zeros if rows.packed else memory.empty)((problem.T, problem.B, H), problem.dtype)
    last = memory.empty((len(cell.states), problem.B, H), real)
    history = values = None
    fields = {"y": memory.address(y), "last": memory.address(last)}
    if problem.save:
        history = memory.empty((N, len(cell.states), H), real)
        fields["history"] = memory.address(history)
        if not problem.recompute:
            values = memory.empty((N, len(cell.saved), H), real)
            fields["saved"] = memory.address(values)
    if cell.input_gates:
        P = call.input_products(0, N)
        fields["P"] = P.address
    if call.method.forward is not None and N:
        sequence.launch(call, call.method.forward, fields)
    else:
        if call.initial is None:
            last = memory.zeros(tuple(last.shape), real)
            fields["last"] = memory.address(last)
        else:
            memory.copy(call.initial, last)
        if N:
            stepwise.forward(call, fields)
    return Result(y, memory.parts(last), Saved(call, history, values))
