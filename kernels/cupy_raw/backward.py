"""Backward: the sequence in reverse, then the gradients of the weights and of x, each one product over all steps."""

from __future__ import annotations

import numpy as np

from rnn_gpu.kernels.cupy_raw import sequence, stepwise
from rnn_gpu.kernels.cupy_raw.call import Call
from rnn_gpu.kernels.cupy_raw.device import Matrix
from rnn_gpu.kernels.cupy_raw.forward import Saved
from rnn_gpu.kernels.cupy_raw.sums import column_sums
from rnn_gpu.problem import Array, Gradients
from rnn_gpu.weights.core import Weights

__all__ = ["RECOMPUTED_BYTES", "run"]

RECOMPUTED_BYTES = 1 << 28
"""Of what `recompute=True` makes again at a time: W x_t, products and saved values."""


def run(saved: Saved, dy: Array | None, dlast: tuple[Array | None, ...]) -> Gradients:
    """Run the sequence back. dy [T, B, H]; dlast a [B, H] a state; None stands for zeros."""
    call = saved.call
    problem, rows, memory = call.problem, call.rows, call.device.memory
    cell, real, operand, H, N = problem.cell, problem.real, call.operand, problem.H, rows.N
    pieces = _pieces(saved) if N else []
    n_gates, n_recurrent, n_stages = len(cell.input_gates), len(cell.recurrent_gates), len(cell.stages)
    fields = {"history": memory.address(saved.history)}
    d_initial = call.states(dlast)
    if d_initial is not None or len(pieces) != 1 or call.method.backward is None:
        d_initial = memory.zeros((len(cell.states), problem.B, H), real) if d_initial is None else d_initial
        fields["d_last"] = memory.address(d_initial)
    else:
        d_initial = memory.empty((len(cell.states), problem.B, H), real)
    fields["d_initial"] = memory.address(d_initial)
    d_P = call.matrix(memory.empty((N, n_gates * H), operand), N, n_gates * H, operand)
    d_R = d_P
    if not cell.program.same_gradients:
        d_R = call.matrix(memory.empty((N, n_recurrent * H), operand), N, n_recurrent * H, operand)
    operands = call.matrix(memory.empty((N, n_stages, H), operand), N, n_stages * H, operand)
    fields |= {"d_P": d_P.address, "d_R": d_R.address, "operands": operands.address}
    d_vectors = None
    if cell.vectors:
        d_vectors = memory.zeros((2, len(cell.vectors), problem.B, H), real)
        fields["d_vectors"] = memory.address(d_vectors)
    if dy is not None:
        dy = memory.adopt(dy)
        dtype = memory.dtype(dy)
        dy = call.dense(dy, dtype)
        fields |= {"dy": memory.address(dy), "dy_is_real": int(dtype == real)}
    for begin, end in pieces:
        first = rows.start(begin)
        own = {"begin": begin, "end": end, "rows_begin": first}
        values = saved.values
        if values is None:
            count = rows.start(end) - first
            values = memory.empty((count, len(cell.saved), H), real)
            made = {"saved": memory.address(values), "history": fields["history"]}
            if n_gates:
                P = call.input_products(first, first + count)
                made["P"] = P.address
            stepwise.replay(call, made, begin, end)
        own["saved"] = memory.address(values)
        if call.method.backward is not None:
            sequence.launch(call, call.method.backward, fields | own)
        else:
            stepwise.backward(call, fields | own)
    weights = _weights(call, d_P, d_R, operands, d_vectors)
    return Gradients(_x(call, d_P), weights, memory.parts(d_initial))


def _pieces(saved: Saved) -> list[tuple[int, int]]:
    """The steps in pieces, in the order of backward: all at once, or as many as can be made again at a time."""
    problem, T = saved.call.problem, saved.call.problem.T
    if saved.values is not None:
        return [(0, T)]
    cell = problem.cell
    numbers = len(cell.input_gates) + len(cell.recurrent_gates) + len(cell.saved) + 1
    step = max(1, numbers * problem.B * problem.H * problem.real.itemsize)
    count = max(1, min(T, RECOMPUTED_BYTES // step))
    pieces = [(begin, min(begin + count, T)) for begin in range(0, T, count)]
    return pieces if problem.reverse else pieces[::-1]


def _weights(call: Call, d_P: Matrix, d_R: Matrix, operands: Matrix, d_vectors: Array | None) -> Weights:
    """The gradients of the weights."""
    problem, device, given, operand = call.problem, call.device, call.inputs.weights, call.operand
    cell, dtype, H, N = problem.cell, problem.dtype, problem.H, d_P.rows
    tf32, address = call.plan.tf32, device.memory.address

    def sums(matrix: Matrix, times: int = 1) -> list[Array]:
        out = [call.empty((matrix.columns,), dtype) for _ in range(times)]
        column_sums(device, matrix, dtype, [address(each) for each in out])
        return out

    dw_ih = dw_hh = db_ih = db_hh = None
    if given.w_hh is not None:
        rows = len(cell.recurrent_gates) * H
        blocks = call.empty((rows, H), operand)
        out, begin = call.matrix(blocks, rows, H, operand), 0
        for k, gates in enumerate(cell.stages):
            count = len(gates) * H
            gradients, factors = d_R.block(0, N, begin, count), operands.block(0, N, k * H, H)
            device.matmul(gradients.T, factors, out.block(begin, count), tf32=tf32)
            begin += count
        dw_hh = _declared(call, call.dense(blocks, dtype))
    if given.b_ih is not None and given.b_hh is not None and d_R is d_P:
        db_ih, db_hh = sums(d_P, 2)
    else:
        (db_ih,) = [None] if given.b_ih is None else sums(d_P)
        (db_hh,) = [None] if given.b_hh is None else sums(d_R)
    if db_hh is not None:
        db_hh = _declared(call, db_hh)
    if given.w_ih is not None:
        product = call.empty((d_P.columns, problem.I), operand)
        device.matmul(d_P.T, call.x, call.matrix(product, d_P.columns, problem.I, operand), tf32=tf32)
        dw_ih = call.dense(product, dtype)
    vectors = {}
    for k, name in enumerate(cell.vectors):
        assert d_vectors is not None
        of_rows = d_vectors[0, k]
        (vectors[name],) = sums(call.matrix(of_rows, problem.B, H, problem.real))
    return Weights(dw_ih, dw_hh, db_ih, db_hh, vectors)


def _x(call: Call, d_P: Matrix) -> Array:
    """The gradient of x, [T, B, I]."""
    problem, rows, memory, operand = call.problem, call.rows, call.device.memory, call.operand
    dx, shape = d_P.array, (problem.T, problem.B, problem.I)
    if call.inputs.weights.w_ih is not None:
        dx = memory.empty(shape if not rows.packed else (rows.N, problem.I), operand)
        call.device.matmul(d_P, call.w_ih, call.matrix(dx, rows.N, problem.I, operand), tf32=call.plan.tf32)
    if not rows.packed:
        return call.dense(dx, problem.dtype).reshape(shape)
    out = memory.zeros((problem.T * problem.B, problem.I), problem.dtype)
    memory.put_rows(dx, call.flat, out)
    return out.reshape(shape)


def _declared(call: Call, blocks: Array) -> Array:
    """The gates' blocks in the order in which they are declared."""
    order = call.order
    return blocks if order is None else call.gates_by([int(k) for k in np.argsort(order)], blocks)
