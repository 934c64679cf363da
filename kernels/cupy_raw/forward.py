"""Forward: one product for the inputs of all steps, then the sequence."""

from __future__ import annotations

from dataclasses import dataclass

from rnn_gpu.dispatch import Result
from rnn_gpu.kernels.cupy_raw import sequence, stepwise
from rnn_gpu.kernels.cupy_raw.call import Call
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


def run(call: Call) -> Result:
    """Run the sequence: y [T, B, H], last a [B, H] a state, and what backward needs."""
    problem, device, rows = call.problem, call.device, call.rows
    cell, real, H = problem.cell, problem.real, problem.H
    shape = (problem.T, problem.B, H)
    y = (device.zeros if rows.packed else device.empty)(shape, problem.dtype)
    last = call.empty((len(cell.states), problem.B, H), real)
    history = call.empty((rows.N, len(cell.states), H), real) if problem.save else None
    values = call.empty((rows.N, len(cell.saved), H), real) if problem.save and not problem.recompute else None
    P = call.input_products(0, rows.N) if cell.input_gates else None
    arrays = {"P": P, "y": y, "last": last, "history": history, "saved": values}
    choice = call.plan.forward
    if choice is not None and rows.N:
        sequence.launch(call, choice, arrays)
    else:
        initial = call.common["initial"]
        if initial is None:
            last = arrays["last"] = device.zeros(last.shape, real)
        else:
            device.copy(initial, last)
        if rows.N:
            stepwise.forward(call, arrays)
    return Result(y, tuple(last[k] for k in range(len(cell.states))), Saved(call, history, values))
