"""Backward through time: the mirror of forward, stages reversed, then the weights' gradients as products over all T."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from rnn_gpu.kernels.numpy_cpu import forward, mathematics
from rnn_gpu.kernels.numpy_cpu.forward import Saved, cast, stage_weights, steps, valid_steps
from rnn_gpu.problem import Array, Gradients, Inputs, Problem
from rnn_gpu.weights.core import Weights

__all__ = ["run"]


def run(problem: Problem, inputs: Inputs, saved: Saved, dy: Array | None, dlast: tuple[Array | None, ...]) -> Gradients:
    """Run the sequence back. dy [T, B, H]; dlast a [B, H] a state; None stands for zeros."""
    if problem.recompute:
        saved = forward.run(replace(problem, recompute=False), inputs).saved
    with np.errstate(all="ignore"):  # NaN and Inf go through as IEEE says
        return _run(problem, inputs, saved, dy, dlast)


def _run(
    problem: Problem, inputs: Inputs, saved: Saved, dy: Array | None, dlast: tuple[Array | None, ...]
) -> Gradients:
    cell, real = problem.cell, problem.real
    n_rows, hidden = problem.B, problem.H
    program = cell.program
    derived = program.derived
    functions = mathematics.functions_of(cell, real)
    valid = valid_steps(problem, inputs)
    stages = {weights.gates: weights for weights in stage_weights(problem, inputs)}
    vectors = {
        name: np.broadcast_to(cast(array, real), (n_rows, hidden)) for name, array in inputs.weights.vectors.items()
    }
    zeros = np.zeros((n_rows, hidden), real)

    d_input = np.zeros((problem.T, n_rows, len(cell.input_gates), hidden), real)
    d_product = {stage.gates: np.zeros((problem.T, n_rows, len(stage.gates), hidden), real) for stage in program.stages}
    operand = {stage.gates: np.empty((problem.T, n_rows, hidden), real) for stage in program.stages}
    d_vectors = {name: np.zeros(hidden, np.float64) for name in cell.vectors}
    d_state = {
        name: zeros if given is None else cast(given, real) for name, given in zip(cell.states, dlast, strict=True)
    }

    for t, before, after in reversed(steps(problem)):
        d_new = {
            name: array if valid is None else np.where(valid[t, :, None], array, 0) for name, array in d_state.items()
        }
        if dy is not None:
            d_y = cast(dy[t], real)
            output = cell.states[0]
            d_new[output] = d_new[output] + (d_y if valid is None else np.where(valid[t, :, None], d_y, 0))
        values: mathematics.Environment = {f"d{name}_out": array for name, array in d_new.items()}
        values |= vectors
        for name, array in saved.history.items():
            values[name] = array[before]
            if inputs.resets is not None and inputs.resets[t].any():
                values[name] = np.where(inputs.resets[t, :, None], real.type(0), array[before])
        for name, node in zip(cell.states, program.traced.outputs, strict=True):
            values[program.name(node)] = saved.history[name][after]
        values |= {name: array[t] for name, array in saved.values.items()}

        mathematics.run(cell, program.operands, functions, values)
        for stage in program.stages:
            operand[stage.gates][t] = values[program.name(stage.operand)]
        for function, stage in zip(program.backward, program.backward_stages, strict=False):
            mathematics.run(cell, function, functions, values)
            for g, gate in enumerate(stage.gates):
                d_product[stage.gates][t, :, g] = _value(gate, derived.d_recurrent, values, program.name, zeros)
            d_gates = d_product[stage.gates][t].reshape(n_rows, len(stage.gates) * hidden)
            values[program.name(derived.transposed[stage])] = d_gates @ stages[stage.gates].u
        mathematics.run(cell, program.backward[-1], functions, values)

        for g, gate in enumerate(cell.input_gates):
            d_input[t, :, g] = _value(gate, derived.d_input, values, program.name, zeros)
        for name in cell.vectors:
            gradient = _value(name, derived.d_vectors, values, program.name, zeros)
            gradient = gradient if valid is None else gradient[valid[t]]
            d_vectors[name] += gradient.sum(axis=0, dtype=np.float64)
        for name in cell.states:
            gradient = _value(name, derived.d_states, values, program.name, zeros)
            if inputs.resets is not None:
                gradient = np.where(inputs.resets[t, :, None], 0, gradient)
            d_state[name] = gradient if valid is None else np.where(valid[t, :, None], gradient, d_state[name])

    return _products(problem, inputs, valid, d_input, d_product, operand, d_vectors, d_state)


def _value(label: str, gradients: dict[str, Any], values: mathematics.Environment, name: Any, zeros: Array) -> Array:
    """The gradient of `label`, zeros where none reaches it."""
    node = gradients.get(label)
    return zeros if node is None else values[name(node)]


def _products(
    problem: Problem,
    inputs: Inputs,
    valid: Array | None,
    d_input: Array,
    d_product: dict[tuple[str, ...], Array],
    operand: dict[tuple[str, ...], Array],
    d_vectors: dict[str, Array],
    d_state: dict[str, Array],
) -> Gradients:
    """The gradients of x and the weights from those of the products, over all steps that are not padding."""
    cell, real, hidden = problem.cell, problem.real, problem.H
    weights = inputs.weights

    def rows(array: Array) -> Array:
        """[T, B, ...] as a matrix with a row for each step of each sequence."""
        count = problem.T * problem.B if valid is None else int(valid.sum())
        return (array if valid is None else array[valid]).reshape(count, math.prod(array.shape[2:]))

    d_input = rows(d_input)
    dx = d_input if weights.w_ih is None else d_input @ cast(weights.w_ih, real)
    if valid is None:
        dx = dx.reshape(problem.T, problem.B, problem.I)
    else:
        packed, dx = dx, np.zeros((problem.T, problem.B, problem.I), real)
        dx[valid] = packed

    place = {gate: index for index, gate in enumerate(cell.recurrent_gates)}
    dw_hh = np.zeros((len(place), hidden, hidden), real)
    db_hh = np.zeros((len(place), hidden), real)
    for gates, gradient in d_product.items():
        gate_rows = rows(gradient)
        blocks = [place[gate] for gate in gates]
        dw_hh[blocks] = (gate_rows.T @ rows(operand[gates])).reshape(-1, hidden, hidden)
        db_hh[blocks] = _sum(gate_rows).reshape(-1, hidden)

    def like(given: Array | None, gradient: Any) -> Array | None:
        return None if given is None else cast(gradient, problem.dtype)

    d_weights = Weights(
        None if weights.w_ih is None else cast(d_input.T @ cast(rows(inputs.x), real), problem.dtype),
        like(weights.w_hh, dw_hh.reshape(-1, hidden)),
        like(weights.b_ih, _sum(d_input)),
        like(weights.b_hh, db_hh.reshape(-1)),
        {name: cast(gradient, problem.dtype) for name, gradient in d_vectors.items()},
    )
    return Gradients(cast(dx, problem.dtype), d_weights, tuple(np.array(d_state[name]) for name in cell.states))


def _sum(rows: Array) -> Array:
    """Sum over all rows, in float64: a float32 sum of many terms would lose digits that products keep."""
    return rows.sum(axis=0, dtype=np.float64)
