"""Forward: one product for the inputs of all steps, then the sequence."""

from __future__ import annotations

from typing import NamedTuple

from rnn_gpu.dispatch import Result
from rnn_gpu.kernels.cupy_raw import sequence, stepwise
from rnn_gpu.kernels.cupy_raw.call import Call
from rnn_gpu.kernels.cupy_raw.workspace import carve
from rnn_gpu.problem import Array

__all__ = ["Saved", "run"]


class Saved(NamedTuple):
    """What backward needs, all of the device; N steps that exist.

    call: with the arrays that forward made of the caller's, and the array that the addresses are of.
    history: [N, n_state, H], the states after each step; values: [N, n_saved, H], None where backward is to make them.
    """

    call: Call
    history: int
    values: int | None


def run(call: Call) -> Result:
    """Run the sequence: y [T, B, H], last a [B, H] a state, and what backward needs."""
    problem, N, memory = call.problem, call.rows.N, call.device.memory
    cell, real, H = problem.cell, problem.real, problem.H
    n_states, saved = len(cell.states), None
    held: list[Array] = []
    parameters = call.parameters()
    y = (memory.zeros if call.rows.packed else memory.empty)((problem.T, problem.B, H), problem.dtype)
    parameters.y = memory.address(y)
    if problem.save:
        size = N * H * real.itemsize
        if problem.recompute:
            (parameters.history,) = carve(memory, call.held, n_states * size)
        else:
            sizes = n_states * size, len(cell.saved) * size
            parameters.history, parameters.saved = carve(memory, call.held, *sizes)
        saved = Saved(call, parameters.history, None if problem.recompute else parameters.saved)
    if cell.input_gates:
        parameters.P = call.input_products(0, N, held)
    if call.method.forward is not None and N:
        last = memory.empty((n_states, problem.B, H), real)
        parameters.last = memory.address(last)
        sequence.launch(call, call.method.forward, parameters)
    else:
        last = call.states(call.inputs.initial or (None,) * n_states)
        parameters.last = memory.address(last)
        if N:
            stepwise.forward(call, parameters)
    return Result(y, memory.parts(last), saved)
