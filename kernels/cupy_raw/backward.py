"""Backward: the sequence in reverse, then the gradients of the weights and of x, each one product over all steps."""

from __future__ import annotations

import numpy as np

from rnn_gpu.kernels.cupy_raw import sequence, stepwise
from rnn_gpu.kernels.cupy_raw.call import Call
from rnn_gpu.kernels.cupy_raw.device import Device, Matrix
from rnn_gpu.kernels.cupy_raw.forward import Saved
from rnn_gpu.kernels.cupy_raw.packing import unpack
from rnn_gpu.kernels.cupy_raw.parameters import Parameters
from rnn_gpu.kernels.cupy_raw.sums import column_sums
from rnn_gpu.kernels.cupy_raw.workspace import carve
from rnn_gpu.problem import Array, Gradients
from rnn_gpu.weights.core import Weights

__all__ = ["RECOMPUTED_BYTES", "run"]

RECOMPUTED_BYTES = 1 << 28
"""Of what `recompute=True` makes again at a time: W x_t, products and saved values."""


def run(saved: Saved, device: Device, dy: Array | None, dlast: tuple[Array | None, ...]) -> Gradients:
    """Run the sequence back, on the device's stream. dy [T, B, H]; dlast a [B, H] a state; None stands for zeros."""
    call = saved.call.on(device)
    problem, rows, memory, how = call.problem, call.rows, device.memory, call.method.backward
    cell, real, kept, H, N = problem.cell, problem.real, call.kept, problem.H, rows.N
    pieces = _pieces(saved) if N else []
    parameters = call.parameters()
    parameters.history = saved.history
    if how is not None and len(pieces) == 1:
        d_initial = memory.empty((len(cell.states), problem.B, H), real)
        parameters.d_last = call.states_at(dlast)
        parameters.d_initial = memory.address(d_initial)
    else:  # what a piece or a step leaves is what the next one reads
        d_initial = call.states(dlast)
        parameters.d_last = parameters.d_initial = memory.address(d_initial)
    dx = None
    of_d_P, of_d_R, of_operands = call.shapes.bytes
    if call.w_ih is None:
        of_d_P = 0
    parameters.d_P, parameters.d_R, parameters.operands = carve(memory, call.held, of_d_P, of_d_R, of_operands)
    if call.w_ih is None:  # dP is the gradient of x, and the caller's
        dx = memory.empty((N, len(cell.input_gates) * H), kept)
        parameters.d_P = memory.address(dx)
    if cell.program.same_gradients:
        parameters.d_R = parameters.d_P
    d_vectors = None
    if cell.vectors:
        d_vectors = memory.zeros((2, len(cell.vectors), problem.B, H), real)
        parameters.d_vectors = memory.address(d_vectors)
    if dy is not None:
        dtype = memory.dtype(dy)
        parameters.dy, parameters.dy_is_real = call.at(dy, dtype), dtype == real
    for begin, end in pieces:
        own = parameters.copy()  # to which each launch adds what it works in
        own.begin, own.end, own.rows_begin = begin, end, rows.start(begin)
        held: list[Array] = []
        own.saved = _made_again(call, own, held) if saved.values is None else saved.values
        if how is not None:
            sequence.launch(call, how, own)
        else:
            stepwise.backward(call, own)
    weights = _weights(call, parameters, d_vectors)
    return Gradients(_x(call, parameters.d_P, dx), weights, memory.parts(d_initial))


def _made_again(call: Call, parameters: Parameters, held: list[Array]) -> int:
    """The address of what forward saved of the parameters' steps, made again in memory that is added to `held`."""
    problem, memory, first = call.problem, call.device.memory, parameters.rows_begin
    count = call.rows.start(parameters.end) - first
    values = memory.empty((count, len(problem.cell.saved), problem.H), problem.real)
    held.append(values)
    made = parameters.copy()
    made.saved = memory.address(values)
    if problem.cell.input_gates:
        made.P = call.input_products(first, first + count, held)
    stepwise.replay(call, made)
    address: int = made.saved
    return address


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


def _weights(call: Call, made: Parameters, d_vectors: Array | None) -> Weights:
    """The gradients of the weights. made: what backward has been given, and has filled."""
    problem, device, given, kept, shapes = call.problem, call.device, call.inputs.weights, call.kept, call.shapes
    cell, dtype, H, memory = problem.cell, problem.dtype, problem.H, device.memory
    address, d_P, d_R = memory.address, made.d_P, made.d_R
    dw_ih = dw_hh = db_ih = db_hh = None
    if given.w_hh is not None:
        blocks = memory.empty((len(cell.recurrent_gates) * H, H), kept)
        out = address(blocks)
        for product in shapes.dU:
            device.multiply(product, d_R, made.operands, out)
        dw_hh = _declared(call, _rounded(call, blocks))
    if given.b_ih is not None:
        db_ih = memory.empty((len(cell.input_gates) * H,), dtype)
    if given.b_hh is not None:
        db_hh = memory.empty((len(cell.recurrent_gates) * H,), dtype)
    if db_ih is not None and db_hh is not None and cell.program.same_gradients:
        column_sums(device, d_P, shapes.d_P, dtype, address(db_ih), address(db_hh))
    else:
        for at, matrix, sums in ((d_P, shapes.d_P, db_ih), (d_R, shapes.d_R, db_hh)):
            if sums is not None:
                column_sums(device, at, matrix, dtype, address(sums))
    if db_hh is not None:
        db_hh = _declared(call, db_hh)
    if call.w_ih is not None:
        dw_ih = memory.empty((len(cell.input_gates) * H, problem.I), kept)
        device.multiply(shapes.dW, d_P, call.x, address(dw_ih))
        dw_ih = _rounded(call, dw_ih)
    vectors = {}
    for k, name in enumerate(cell.vectors):
        assert d_vectors is not None
        vectors[name] = memory.empty((H,), dtype)
        of_rows = Matrix(problem.B, H, H, problem.real)
        column_sums(device, address(d_vectors[0, k]), of_rows, dtype, address(vectors[name]))
    return Weights(dw_ih, dw_hh, db_ih, db_hh, vectors)


def _x(call: Call, d_P: int, dx: Array | None) -> Array:
    """The gradient of x, [T, B, I]; dx [N, I]: that of the steps that exist, where it is d_P."""
    problem, rows, memory = call.problem, call.rows, call.device.memory
    shape = (problem.T, problem.B, problem.I)
    if call.w_ih is not None:
        dx = memory.empty((rows.N, problem.I) if rows.packed else shape, call.kept)
        call.device.multiply(call.shapes.dx, d_P, call.w_ih, memory.address(dx))
    if not rows.packed:
        dx = _rounded(call, dx)
        return dx if call.w_ih is not None else dx.reshape(shape)
    out = memory.empty(shape, problem.dtype)
    given = memory.address(dx), memory.dtype(dx)
    unpack(call.device, call.common, problem.I, given, (memory.address(out), problem.dtype))
    return out


def _rounded(call: Call, gradients: Array) -> Array:
    """Gradients of the kept dtype in that of the problem."""
    return gradients if call.kept == call.problem.dtype else call.dense(gradients, call.problem.dtype)


def _declared(call: Call, blocks: Array) -> Array:
    """The gates' blocks in the order in which they are declared."""
    order = call.order
    return blocks if order is None else call.gates_by([int(k) for k in np.argsort(order)], blocks)
