"""Backward: the sequence, by the plan, then the gradients of the weights and of x as products over all steps."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from itertools import groupby
from typing import Any, NamedTuple

from numba import cuda

from rnn_gpu.compiler.graph import Stage
from rnn_gpu.kernels.numba_cuda import device, product, sequence
from rnn_gpu.kernels.numba_cuda.cells import compiled_operands
from rnn_gpu.kernels.numba_cuda.forward import Saved, rebuilt
from rnn_gpu.kernels.numba_cuda.jit import kernel
from rnn_gpu.kernels.numba_cuda.memory import Queue, active
from rnn_gpu.kernels.numba_cuda.plan import planned
from rnn_gpu.kernels.numba_cuda.product import Matrix
from rnn_gpu.kernels.numba_cuda.sequence import Backward, Sizes
from rnn_gpu.kernels.numba_cuda.traits import TRAITS
from rnn_gpu.problem import Array, Gradients, Inputs, Problem
from rnn_gpu.weights.core import Weights

__all__ = ["run"]


def run(problem: Problem, inputs: Inputs, saved: Saved, dy: Array | None, dlast: tuple[Array | None, ...]) -> Gradients:
    """Run the sequence back. dy [T, B, H]; dlast a [B, H] a state; None stands for zeros."""
    with active(problem) as queue:
        cell, prepared = problem.cell, saved.prepared
        T, B, H = problem.T, problem.B, problem.H
        values = rebuilt(queue, saved) if saved.values is None else saved.values
        chosen = planned(problem, "backward", device.properties(queue.device), TRAITS)
        size = T * B * H
        dR = queue.empty(len(cell.recurrent_gates) * size)
        dP = dR if cell.program.shares_gradient else queue.empty(len(cell.input_gates) * size)
        sizes = Sizes(
            T, B, H, prepared.steps, problem.reverse, not problem.reverse, problem.has_lengths, problem.has_resets,
            0, 0, dy is not None,
        )  # fmt: skip
        arrays = Backward(
            weights=prepared.weights.u(queue, "backward", chosen.tile),
            vectors=prepared.weights.vectors,
            lengths=prepared.lengths,
            resets=prepared.resets,
            history=saved.history,
            saved=values,
            dy=queue.nothing if dy is None else queue.take(dy),
            d_state=queue.joined(dlast, B * H),
            dR=dR,
            dP=dP,
            dV=queue.empty(len(cell.vectors) * size),
            **sequence.work_of(queue, "backward", chosen.strategy, chosen.tile, B),
        )
        sequence.run(queue, "backward", chosen.strategy, chosen.tile, arrays, sizes)
        dx = queue.give(queue.stored(_input_gradient(queue, saved, arrays)), (T, B, problem.I), problem.dtype)
        return Gradients(dx, _weights(queue, inputs, saved, arrays, sizes), queue.give_states(arrays.d_state))


def _input_gradient(queue: Queue, saved: Saved, arrays: Backward) -> Array:
    """dx = dP W, or dP itself where x is W x already; 0 where rows have ended."""
    problem, prepared = queue.problem, saved.prepared
    columns = len(problem.cell.input_gates) * problem.H
    size = problem.T * problem.B * problem.I
    if prepared.weights.w_ih is None and not problem.has_lengths and not problem.cell.program.shares_gradient:
        return arrays.dP
    dx = queue.zeros(size) if problem.has_lengths else queue.empty(size)
    if prepared.weights.w_ih is None:
        rows, n_rows = prepared.rows, prepared.n_rows
        listed = queue.no_rows if rows is None else rows
        queue.over(n_rows * columns, _copy_rows, arrays.dP, dx, listed, int(rows is not None), columns)
        return dx
    product.multiply(
        queue,
        Matrix(dx, 0, problem.I, 1),
        Matrix(arrays.dP, 0, columns, 1),
        Matrix(prepared.weights.w_ih, 0, problem.I, 1),
        (prepared.n_rows, columns, problem.I),
        rows=prepared.rows,
        over="m",
    )
    return dx


def _weights(queue: Queue, inputs: Inputs, saved: Saved, arrays: Backward, sizes: Sizes) -> Weights:
    """The gradients of the weights: products and sums over all steps that are not padding."""
    problem, prepared, given = queue.problem, saved.prepared, inputs.weights
    cell, H = problem.cell, problem.H
    columns, recurrent = len(cell.input_gates) * H, len(cell.recurrent_gates) * H
    place = {gate: k for k, gate in enumerate(cell.recurrent_gates)}
    found: dict[str, tuple[Array, tuple[int, ...]]] = {}
    if given.w_ih is not None:
        out = queue.empty(columns * problem.I)
        product.multiply(
            queue,
            Matrix(out, 0, problem.I, 1),
            Matrix(arrays.dP, 0, 1, columns),
            Matrix(prepared.x, 0, problem.I, 1),
            (columns, prepared.n_rows, problem.I),
            rows=prepared.rows,
            over="k",
        )
        found["w_ih"] = out, (columns, problem.I)
    if given.b_ih is not None:
        out = queue.empty(columns)
        product.sum_columns(queue, out, 0, Matrix(arrays.dP, 0, columns, 1), prepared.n_rows, columns, prepared.rows)
        found["b_ih"] = out, (columns,)
    if given.w_hh is not None:
        out = queue.empty(recurrent * H)
        for operand, runs in _operands(queue, saved, arrays, sizes):
            for first, gates in runs:
                product.multiply(
                    queue,
                    Matrix(out, place[gates[0]] * H * H, H, 1),
                    Matrix(arrays.dR, first * H, 1, recurrent),
                    operand,
                    (len(gates) * H, prepared.n_rows, H),
                    rows=prepared.rows,
                    over="k",
                )
        found["w_hh"] = out, (recurrent, H)
    if given.b_hh is not None:
        out = queue.empty(recurrent)
        if "b_ih" in found and cell.program.shares_gradient and cell.input_gates == cell.recurrent_gates:
            queue.copy(found["b_ih"][0], out)
        else:
            runs = [run for stage, first in _stages(problem) for run in _runs(stage, first, place)]
            for start, gates in runs:
                at = Matrix(arrays.dR, start * H, recurrent, 1)
                product.sum_columns(queue, out, place[gates[0]] * H, at, prepared.n_rows, len(gates) * H, prepared.rows)
        found["b_hh"] = out, (recurrent,)
    n_vectors = len(cell.vectors)
    for k, name in enumerate(cell.vectors):
        out = queue.empty(H)
        product.sum_columns(
            queue, out, 0, Matrix(arrays.dV, k * H, n_vectors * H, 1), prepared.n_rows, H, prepared.rows
        )
        found[name] = out, (H,)
    given_back = {name: queue.give(queue.stored(array), shape, problem.dtype) for name, (array, shape) in found.items()}
    return Weights.of(given_back, cell.vectors)


def _stages(problem: Problem) -> Iterator[tuple[Stage, int]]:
    """Each stage, and the gate of dR that its gates begin with."""
    first = 0
    for stage in problem.cell.program.stages:
        yield stage, first
        first += len(stage.gates)


def _runs(stage: Stage, first: int, place: dict[str, int]) -> list[tuple[int, list[str]]]:
    """A stage's gates cut into runs that are neighbours in w_hh, too: (gate of dR, gates)."""
    numbered = [(first + k, gate) for k, gate in enumerate(stage.gates)]
    runs = [list(run) for _, run in groupby(numbered, key=lambda pair: place[pair[1]] - pair[0])]
    return [(run[0][0], [gate for _, gate in run]) for run in runs]


def _operands(
    queue: Queue, saved: Saved, arrays: Backward, sizes: Sizes
) -> Iterator[tuple[Matrix, list[tuple[int, list[str]]]]]:
    """Each stage's operand as a matrix [T * B, H], and its runs of gates.

    A state that is never reset lies in the history as it was multiplied; other operands are computed from what was
    kept.
    """
    problem = queue.problem
    T, B, H, cell = problem.T, problem.B, problem.H, problem.cell
    place = {gate: k for k, gate in enumerate(cell.recurrent_gates)}
    computed: Array | None = None
    for k, (stage, first) in enumerate(_stages(problem)):
        if stage.operand.op == "state" and not problem.has_resets:
            at = (cell.states.index(stage.operand.label) * (T + 1) + problem.reverse) * B * H
            yield Matrix(saved.history, at, H, 1), _runs(stage, first, place)
            continue
        if computed is None:
            computed = _computed_operands(queue, arrays, sizes)
        yield Matrix(computed, k * T * B * H, H, 1), _runs(stage, first, place)


class _Kept(NamedTuple):
    """What operands are computed from, and where they go: [n_stages, T, B, H]."""

    vectors: Array
    lengths: Array
    resets: Array
    history: Array
    saved: Array
    operands: Array


def _computed_operands(queue: Queue, arrays: Backward, sizes: Sizes) -> Array:
    cell, size = queue.problem.cell, sizes.T * sizes.B * sizes.H
    out = queue.empty(len(cell.stages) * size)
    kept = _Kept(arrays.vectors, arrays.lengths, arrays.resets, arrays.history, arrays.saved, out)
    run = _operands_kernel(compiled_operands(cell, queue.real))
    queue.over(size, run, kept, sizes)
    return out


@lru_cache(maxsize=256)
def _operands_kernel(operands: Any) -> Any:
    def every_operand(a: Any, s: Any, size: int) -> None:
        i = cuda.grid(1)
        while i < size:
            unit, rest = i % s.H, i // s.H
            row, t = rest % s.B, rest // s.B
            if not s.has_lengths or t < a.lengths[row]:
                operands(a, s, t, row, unit)
            i += cuda.gridsize(1)

    return kernel(every_operand)


@kernel
def _copy_rows(source: Array, out: Array, rows: Array, has_rows: int, columns: int, size: int) -> None:
    """out[r] = source[r] for each row r of the list, or for all."""
    i = cuda.grid(1)
    while i < size:
        at = (rows[i // columns] if has_rows else i // columns) * columns + i % columns
        out[at] = source[at]
        i += cuda.gridsize(1)
