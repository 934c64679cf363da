"""Forward: one product for the inputs of all steps, then the sequence, by the plan."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import cuda

from rnn_gpu.dispatch import Result
from rnn_gpu.kernels.numba_cuda import device, product, sequence
from rnn_gpu.kernels.numba_cuda.cells import segments_of
from rnn_gpu.kernels.numba_cuda.jit import kernel
from rnn_gpu.kernels.numba_cuda.memory import Queue, active
from rnn_gpu.kernels.numba_cuda.packing import DeviceWeights, weights_of
from rnn_gpu.kernels.numba_cuda.plan import planned, tile_of_step
from rnn_gpu.kernels.numba_cuda.product import Matrix
from rnn_gpu.kernels.numba_cuda.sequence import Forward, Sizes
from rnn_gpu.kernels.numba_cuda.traits import TRAITS
from rnn_gpu.problem import Array, Inputs, Problem

__all__ = ["Prepared", "Saved", "rebuilt", "run"]


@dataclass(frozen=True)
class Prepared:
    """A call's arrays on the device, flat.

    x [T, B, I], in the working type. lengths [B] int32 and resets [T, B] uint8, or arrays of nothing.
    rows: the valid rows t * B + b of (T, B) arrays, int64, or None where all are; steps: of the longest row.
    """

    x: Array
    weights: DeviceWeights
    lengths: Array
    resets: Array
    rows: Array | None
    n_rows: int
    steps: int


@dataclass(frozen=True)
class Saved:
    """What backward needs. history, values: `sequence.Forward`'s history and saved; values is None if recomputed."""

    prepared: Prepared
    history: Array
    values: Array | None


def run(problem: Problem, inputs: Inputs) -> Result:
    """Run the sequence: y [T, B, H], last a [B, H] a state, and what backward needs."""
    with active(problem) as queue:
        prepared = _prepare(queue, inputs)
        chosen = planned(problem, "forward", device.properties(queue.device), TRAITS)
        T, B, H = problem.T, problem.B, problem.H
        n_states, n_saved = len(problem.cell.states), len(problem.cell.saved)
        save_values = problem.save and not problem.recompute
        sizes = Sizes(
            T, B, H, prepared.steps, problem.reverse, problem.reverse, problem.has_lengths, problem.has_resets,
            problem.save, save_values, 0,
        )  # fmt: skip
        arrays = Forward(
            P=_input_product(queue, prepared),
            weights=prepared.weights.u(queue, "forward", chosen.tile),
            b_hh=prepared.weights.b_hh,
            vectors=prepared.weights.vectors,
            lengths=prepared.lengths,
            resets=prepared.resets,
            state=queue.joined(inputs.initial or (None,) * n_states, B * H),
            y=queue.zeros(T * B * H) if problem.has_lengths else queue.empty(T * B * H),
            history=queue.empty(n_states * (T + 1) * B * H) if problem.save else queue.nothing,
            saved=queue.empty(n_saved * T * B * H) if save_values else queue.nothing,
            **sequence.work_of(queue, "forward", chosen.strategy, chosen.tile, B),
        )
        sequence.run(queue, "forward", chosen.strategy, chosen.tile, arrays, sizes)
        saved = Saved(prepared, arrays.history, arrays.saved if save_values else None) if problem.save else None
        y = queue.give(queue.stored(arrays.y), (T, B, H), problem.dtype)
        return Result(y, queue.give_states(arrays.state), saved)


def rebuilt(queue: Queue, saved: Saved) -> Array:
    """The cell's saved values [n_saved, T, B, H], from the states: all steps at once, as if each were a row."""
    problem, prepared = queue.problem, saved.prepared
    T, B, H, cell = problem.T, problem.B, problem.H, problem.cell
    n_rows, size = T * B, T * B * H
    values = queue.empty(len(cell.saved) * size)
    properties = device.properties(queue.device)
    tile = tile_of_step(problem, segments_of(cell, "forward"), n_rows, properties, TRAITS)
    before = [(k * (T + 1) + problem.reverse) * B * H for k in range(len(cell.states))]
    lengths = queue.nothing_int
    if problem.has_lengths:
        lengths = queue.empty(n_rows, np.int32)
        queue.over(n_rows, _ones_before_end, prepared.lengths, lengths, B)
    arrays = Forward(
        P=_input_product(queue, prepared),
        weights=prepared.weights.u(queue, "forward", tile),
        b_hh=prepared.weights.b_hh,
        vectors=prepared.weights.vectors,
        lengths=lengths,
        resets=prepared.resets,
        state=queue.joined([saved.history[at : at + size] for at in before], size),
        y=queue.empty(size),
        history=queue.nothing,
        saved=values,
        **sequence.work_of(queue, "forward", "stepwise", tile, n_rows),
    )
    sizes = Sizes(1, n_rows, H, 1, 0, 0, problem.has_lengths, problem.has_resets, 0, 1, 0)
    sequence.run(queue, "forward", "stepwise", tile, arrays, sizes)
    return values


def _prepare(queue: Queue, inputs: Inputs) -> Prepared:
    problem = queue.problem
    lengths, resets, rows = queue.nothing_int, queue.nothing_flags, None
    n_rows, steps = problem.T * problem.B, problem.T
    if inputs.lengths is not None:
        valid = np.flatnonzero(np.arange(problem.T)[:, None] < inputs.lengths)
        rows, n_rows, steps = queue.upload(valid), valid.size, int(inputs.lengths.max(initial=0))
        lengths = queue.upload(inputs.lengths.astype(np.int32))
    if inputs.resets is not None:
        resets = queue.flags(inputs.resets)
    return Prepared(queue.take(inputs.x), weights_of(queue, inputs), lengths, resets, rows, n_rows, steps)


def _input_product(queue: Queue, prepared: Prepared) -> Array:
    """W x_t + b_ih for all steps, [T, B, G, H]; where a row has ended it holds anything."""
    problem, weights = queue.problem, prepared.weights
    columns = len(problem.cell.input_gates) * problem.H
    if columns == 0 or (weights.w_ih is None and weights.b_ih is None):
        return prepared.x
    out = queue.empty(problem.T * problem.B * columns)
    if weights.w_ih is None:
        queue.over(problem.T * problem.B * columns, _add_to_rows, prepared.x, weights.b_ih, out, columns)
        return out
    product.multiply(
        queue,
        Matrix(out, 0, columns, 1),
        Matrix(prepared.x, 0, problem.I, 1),
        Matrix(weights.w_ih, 0, 1, problem.I),
        (prepared.n_rows, problem.I, columns),
        bias=weights.b_ih,
        rows=prepared.rows,
        over="m",
    )
    return out


@kernel
def _add_to_rows(source: Array, row: Array, out: Array, columns: int, size: int) -> None:
    """out = source + row for each row of a matrix."""
    i = cuda.grid(1)
    while i < size:
        out[i] = source[i] + row[i % columns]
        i += cuda.gridsize(1)


@kernel
def _ones_before_end(lengths: Array, out: Array, B: int, size: int) -> None:
    """out[t * B + b] = 1 where t < lengths[b], else 0."""
    i = cuda.grid(1)
    while i < size:
        out[i] = 1 if i // B < lengths[i % B] else 0
        i += cuda.gridsize(1)
