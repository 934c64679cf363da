"""Backward: the sequence in reverse, then the gradients of the weights and of x, each one product over all steps."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from rnn_gpu.kernels.cupy_raw import sequence, stepwise
from rnn_gpu.kernels.cupy_raw.call import Call
from rnn_gpu.kernels.cupy_raw.forward import Saved
from rnn_gpu.problem import Array, Gradients
from rnn_gpu.weights.core import Weights

__all__ = ["RECOMPUTED_BYTES", "run"]

RECOMPUTED_BYTES = 1 << 28
"""Of what `recompute=True` makes again at a time: W x_t, products and saved values."""


def run(saved: Saved, dy: Array | None, dlast: tuple[Array | None, ...]) -> Gradients:
    """Run the sequence back. dy [T, B, H]; dlast a [B, H] a state; None stands for zeros."""
    call = saved.call
    problem, device, rows = call.problem, call.device, call.rows
    cell, real, H, N = problem.cell, problem.real, problem.H, call.rows.N
    n_gates, n_recurrent = len(cell.input_gates), len(cell.recurrent_gates)
    d_last = call.states(dlast)
    d_initial = device.zeros((len(cell.states), problem.B, H), real)
    if d_last is not None:
        device.copy(d_last, d_initial)
    d_P = call.empty((N, n_gates * H), call.operand)
    d_R = d_P if cell.program.same_gradients else call.empty((N, n_recurrent * H), call.operand)
    operands = call.empty((N, len(cell.stages), H), call.operand)
    d_vectors = device.zeros((2, len(cell.vectors), problem.B, H), real)
    if dy is not None:
        dy = device.adopt(dy)
        dy = call.dense(dy, dy.dtype)
    arrays = {
        "history": saved.history, "dy": dy, "d_last": d_initial, "d_initial": d_initial, "d_P": d_P, "d_R": d_R,
        "operands": operands, "d_vectors": d_vectors,
    }  # fmt: skip
    dy_is_real = int(dy is not None and dy.dtype == real)
    for begin, end in _pieces(saved) if N else ():
        first = rows.start(begin)
        values = saved.values
        if values is None:
            values = call.empty((rows.start(end) - first, len(cell.saved), H), real)
            P = call.input_products(first, rows.start(end)) if n_gates else None
            stepwise.replay(call, {"P": P, "saved": values, "history": saved.history}, begin, end)
        own = {"saved": values}
        numbers = {"begin": begin, "end": end, "dy_is_real": dy_is_real, "rows_begin": first}
        if call.plan.backward is not None:
            sequence.launch(call, call.plan.backward, arrays | own, **numbers)
        else:
            stepwise.backward(call, arrays | own, **numbers)
    return _products(call, d_P, d_R, operands, d_vectors, d_initial)


def _pieces(saved: Saved) -> Iterator[tuple[int, int]]:
    """The steps in pieces, in the order of backward: all at once, or as many as can be made again at a time."""
    call = saved.call
    problem, T = call.problem, call.problem.T
    cell = problem.cell
    numbers = len(cell.input_gates) + len(cell.recurrent_gates) + len(cell.saved) + 1
    step = max(1, numbers * problem.B * problem.H * problem.real.itemsize)
    count = T if saved.values is not None else max(1, min(T, RECOMPUTED_BYTES // step))
    pieces = [(begin, min(begin + count, T)) for begin in range(0, T, count)]
    return iter(pieces if problem.reverse else reversed(pieces))


def _products(call: Call, d_P: Array, d_R: Array, operands: Array, d_vectors: Array, d_initial: Array) -> Gradients:
    problem, device, rows, weights = call.problem, call.device, call.rows, call.inputs.weights
    cell, dtype, H = problem.cell, problem.dtype, problem.H
    tf32 = call.plan.tf32

    def product(a: Array, b: Array) -> Array:
        """a @ b in the problem's dtype."""
        out = call.empty((a.shape[0], b.shape[1]), call.operand)
        device.matmul(a, b, out, tf32=tf32)
        return call.dense(out, dtype)

    def sums(columns: Array) -> Array:
        out = call.empty((columns.shape[1],), dtype)
        device.column_sums(columns, out)
        return out

    dw_hh = None
    if weights.w_hh is not None:
        blocks = call.empty((len(cell.recurrent_gates) * H, H), call.operand)
        begin = 0
        for k, gates in enumerate(cell.stages):
            end = begin + len(gates) * H
            device.matmul(d_R[:, begin:end].T, operands[:, k], blocks[begin:end], tf32=tf32)
            begin = end
        dw_hh = _declared(call, call.dense(blocks, dtype))
    db_hh = None if weights.b_hh is None else _declared(call, sums(d_R))
    db_ih = None if weights.b_ih is None else sums(d_P)
    dw_ih = None if weights.w_ih is None else product(d_P.T, call.x_rows)
    vectors = {name: sums(d_vectors[0, k]) for k, name in enumerate(cell.vectors)}

    dx_rows = d_P
    if weights.w_ih is not None:
        dx_rows = call.empty((rows.N, problem.I), call.operand)
        device.matmul(d_P, call.dense(weights.w_ih, call.operand), dx_rows, tf32=tf32)
    if rows.packed:
        dx = device.zeros((problem.T * problem.B, problem.I), dtype)
        device.put_rows(dx_rows, call.flat, dx)
    else:
        dx = call.dense(dx_rows, dtype)
    d_weights = Weights(dw_ih, dw_hh, db_ih, db_hh, vectors)
    initial = tuple(d_initial[k] for k in range(len(cell.states)))
    return Gradients(dx.reshape(problem.T, problem.B, problem.I), d_weights, initial)


def _declared(call: Call, blocks: Array) -> Array:
    """The gates' blocks in the order in which they are declared."""
    return blocks if call.in_order else call.gates_by(list(np.argsort(call.positions)), blocks)
