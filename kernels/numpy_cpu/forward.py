"""Forward through time.

One product for the inputs of all steps, then a loop over time: for each stage of the cell, a recurrent product and
the cell's elementwise function.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rnn_gpu.dispatch import Result
from rnn_gpu.kernels.numpy_cpu import mathematics
from rnn_gpu.problem import Array, Inputs, Problem

__all__ = ["Saved", "StageWeights", "cast", "run", "stage_weights", "steps", "valid_steps"]


@dataclass(frozen=True)
class Saved:
    """What backward needs.

    history: by state, [T+1, B, H] in the working type: the state before step t at `before(t)`, not yet reset.
    values: by name of the cell's saved set, [T, B, H]; empty where backward is to recompute them.
    """

    history: dict[str, Array]
    values: dict[str, Array]


@dataclass(frozen=True)
class StageWeights:
    """The recurrent weights of one stage: u [S_k*H, H] and bias [S_k*H] or None, blocks in the order of `gates`."""

    gates: tuple[str, ...]
    u: Array
    bias: Array | None


def run(problem: Problem, inputs: Inputs) -> Result:
    """Run the sequence: y [T, B, H], last a [B, H] a state, and what backward needs."""
    with np.errstate(all="ignore"):  # NaN and Inf go through as IEEE says
        return _run(problem, inputs)


def _run(problem: Problem, inputs: Inputs) -> Result:
    cell, real = problem.cell, problem.real
    n_steps, n_rows, hidden = problem.T, problem.B, problem.H
    program = cell.program
    functions = mathematics.functions_of(cell, real)
    valid = valid_steps(problem, inputs)
    projected = _input_product(problem, inputs, valid)
    stages = stage_weights(problem, inputs)
    vectors = {
        name: np.broadcast_to(cast(array, real), (n_rows, hidden)) for name, array in inputs.weights.vectors.items()
    }

    if inputs.initial is None:
        state = {name: np.zeros((n_rows, hidden), real) for name in cell.states}
    else:
        state = {name: cast(array, real) for name, array in zip(cell.states, inputs.initial, strict=True)}
    y = np.empty((n_steps, n_rows, hidden), problem.dtype)
    saved = _empty_saved(problem) if problem.save else None

    for t, before, _ in steps(problem):
        if saved is not None:
            for name, array in state.items():
                saved.history[name][before] = array
        values: mathematics.Environment = {f"Wx_{gate}": projected[t, :, g] for g, gate in enumerate(cell.input_gates)}
        values |= vectors
        values |= _reset(state, inputs.resets, t)
        for function, stage, weights in zip(program.forward, program.stages, stages, strict=False):
            mathematics.run(cell, function, functions, values)
            product = values[program.name(stage.operand)] @ weights.u.T
            if weights.bias is not None:
                product += weights.bias
            blocks = product.reshape(n_rows, len(weights.gates), hidden)
            values |= {f"U_{gate}": blocks[:, g] for g, gate in enumerate(weights.gates)}
        mathematics.run(cell, program.forward[-1], functions, values)

        new = {s: values[program.name(node)] for s, node in zip(cell.states, program.traced.outputs, strict=True)}
        y[t] = new[cell.states[0]]
        if valid is not None:
            now = valid[t, :, None]
            y[t] = np.where(now, y[t], 0)
            new = {name: np.where(now, array, state[name]) for name, array in new.items()}
        state = new
        if saved is not None:
            for name, array in saved.values.items():
                array[t] = values[name]
    if saved is not None:
        for name, array in state.items():
            saved.history[name][0 if problem.reverse else -1] = array
    return Result(y, tuple(np.array(state[name]) for name in cell.states), saved)


def steps(problem: Problem) -> list[tuple[int, int, int]]:
    """(t, before, after) in the order of the recurrence: where the states before and after step t lie in history."""
    if problem.reverse:
        return [(t, t + 1, t) for t in reversed(range(problem.T))]
    return [(t, t, t + 1) for t in range(problem.T)]


def valid_steps(problem: Problem, inputs: Inputs) -> Array | None:
    """[T, B] bool, False at and after each row's end; None without lengths."""
    return None if inputs.lengths is None else np.arange(problem.T)[:, None] < inputs.lengths


def stage_weights(problem: Problem, inputs: Inputs) -> list[StageWeights]:
    """The recurrent weights cut into stages, in the working type."""
    cell, hidden = problem.cell, problem.H
    if not cell.recurrent_gates:
        return []
    blocks = cast(inputs.weights.w_hh, problem.real).reshape(-1, hidden, hidden)
    bias = None if inputs.weights.b_hh is None else cast(inputs.weights.b_hh, problem.real).reshape(-1, hidden)
    place = {gate: index for index, gate in enumerate(cell.recurrent_gates)}
    return [
        StageWeights(
            gates,
            blocks[[place[gate] for gate in gates]].reshape(-1, hidden),
            None if bias is None else bias[[place[gate] for gate in gates]].reshape(-1),
        )
        for gates in cell.stages
    ]


def cast(array: Any, dtype: np.dtype[Any]) -> Any:
    """`array` in `dtype`, itself if it has it."""
    return array.astype(dtype, copy=False)


def _input_product(problem: Problem, inputs: Inputs, valid: Array | None) -> Array:
    """W x_t + b_ih for all steps, [T, B, G, H]; 0 where a row has ended, whatever x holds there."""
    shape = (problem.T, problem.B, len(problem.cell.input_gates), problem.H)
    rows = inputs.x.reshape(problem.T * problem.B, problem.I) if valid is None else inputs.x[valid]
    product = cast(rows, problem.real)
    if inputs.weights.w_ih is not None:
        product = product @ cast(inputs.weights.w_ih, problem.real).T
    if inputs.weights.b_ih is not None:
        product = product + cast(inputs.weights.b_ih, problem.real)
    if valid is None:
        return product.reshape(shape)
    padded = np.zeros((*shape[:2], shape[2] * shape[3]), problem.real)
    padded[valid] = product
    return padded.reshape(shape)


def _reset(state: dict[str, Array], resets: Array | None, t: int) -> dict[str, Array]:
    if resets is None or not resets[t].any():
        return state
    return {name: np.where(resets[t, :, None], array.dtype.type(0), array) for name, array in state.items()}


def _empty_saved(problem: Problem) -> Saved:
    n_steps, rest = problem.T, (problem.B, problem.H)
    kept = () if problem.recompute else problem.cell.saved
    return Saved(
        {name: np.empty((n_steps + 1, *rest), problem.real) for name in problem.cell.states},
        {name: np.empty((n_steps, *rest), problem.real) for name in kept},
    )
