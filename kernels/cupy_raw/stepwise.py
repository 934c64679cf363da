"""A product and one elementwise kernel a step: any H, any B, on any device."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from rnn_gpu.kernels.cupy_raw.call import Call
from rnn_gpu.kernels.cupy_raw.source import THREADS, kernel
from rnn_gpu.kernels.cupy_raw.traits import StepKernel
from rnn_gpu.problem import Array

__all__ = ["backward", "forward", "replay"]

ROWS = 32
"""Products of a step are done for a multiple of so many rows, where rows end: equal steps can be replayed."""

MAX_BLOCKS = 4096
"""Of an elementwise launch; beyond, a thread owns several elements."""


def forward(call: Call, arrays: dict[str, Array | None]) -> None:
    """All steps; `arrays`: P, y, last with the initial states in it, and history and saved where they are kept."""
    problem, device = call.problem, call.device
    cell, B, H = problem.cell, problem.B, problem.H
    n_stages = len(cell.stages)
    exchange = call.empty((B, H), call.operand)
    products = call.empty((B, len(cell.recurrent_gates) * H), problem.real)
    clock = device.zeros((2,), np.dtype(np.int32))
    arrays = arrays | {"exchange": exchange, "products": products, "clock": clock}
    U, blocks = _operand_weights(call), _blocks(call)

    def run(segment: int, parity: int) -> None:
        spec = StepKernel(cell, problem.dtype.name, "forward", call.operand.name, segment)
        _launch(call, spec, B * H, call.parameters(arrays, parity=parity))

    def step(rows: int, parity: int) -> None:
        for k, (begin, end) in enumerate(blocks):
            out = products[:rows, begin:end]
            device.matmul(exchange[:rows], U[begin:end].T, out, tf32=call.plan.tf32)
            run(k + 1, parity)
        if not n_stages:
            run(0, parity)

    if n_stages:
        run(0, 0)
    _all_steps(call, 0, problem.T, problem.reverse, step)


def backward(call: Call, arrays: dict[str, Array | None], *, begin: int, end: int, **numbers: int) -> None:
    """The steps begin <= t < end; d_initial, in `arrays`, has the gradients of the states after them, then before."""
    problem, device = call.problem, call.device
    cell, B, H = problem.cell, problem.B, problem.H
    stages = cell.program.backward_stages
    widest = max((len(stage.gates) for stage in stages), default=0)
    exchange = call.empty((B * widest * H,), call.operand)
    products = call.empty((len(stages), B, H), problem.real)
    clock = device.zeros((2,), np.dtype(np.int32))
    arrays = arrays | {"exchange": exchange, "products": products, "clock": clock}
    U = _operand_weights(call)
    blocks = _blocks(call)

    def run(segment: int, parity: int) -> None:
        spec = StepKernel(cell, problem.dtype.name, "backward", call.operand.name, segment)
        _launch(call, spec, B * H, call.parameters(arrays, parity=parity, begin=begin, end=end, **numbers))

    def step(rows: int, parity: int) -> None:
        for k, stage in enumerate(stages):
            first, last = blocks[cell.stages.index(stage.gates)]
            gradients = exchange[: rows * (last - first)].reshape(rows, last - first)
            device.matmul(gradients, U[first:last], products[k, :rows], tf32=call.plan.tf32)
            run(k + 1, parity)
        if not stages:
            run(0, parity)

    if stages:
        run(0, 0)
    _all_steps(call, begin, end, not problem.reverse, step)


def replay(call: Call, arrays: dict[str, Array | None], begin: int, end: int) -> None:
    """Make `saved` of the steps begin <= t < end again, from the states before them: steps are independent then."""
    problem, device = call.problem, call.device
    cell, H = problem.cell, problem.H
    first = call.rows.start(begin)
    rows = call.rows.start(end) - first
    exchange = call.empty((rows, H), call.operand)
    products = call.empty((rows, len(cell.recurrent_gates) * H), problem.real)
    arrays = arrays | {"exchange": exchange, "products": products}
    U, blocks = _operand_weights(call), _blocks(call)
    for segment in range(len(blocks) + 1):
        spec = StepKernel(cell, problem.dtype.name, "forward", call.operand.name, segment, replay=True)
        _launch(call, spec, rows * H, call.parameters(arrays, begin=begin, end=end, rows_begin=first))
        if segment < len(blocks):
            start, stop = blocks[segment]
            device.matmul(exchange, U[start:stop].T, products[:, start:stop], tf32=call.plan.tf32)


def _operand_weights(call: Call) -> Array:
    """U in the dtype of the operands."""
    return None if call.U is None else call.dense(call.U, call.operand)


def _blocks(call: Call) -> list[tuple[int, int]]:
    """The rows of U of each stage."""
    ends = list(itertools.accumulate((len(gates) * call.problem.H for gates in call.problem.cell.stages), initial=0))
    return list(itertools.pairwise(ends))


def _launch(call: Call, spec: StepKernel, elements: int, parameters: np.void) -> None:
    blocks = min(-(-elements // THREADS), MAX_BLOCKS)
    call.device.launch(kernel(spec), grid=max(blocks, 1), block=THREADS, shared=0, parameters=parameters)


def _all_steps(call: Call, begin: int, end: int, down: bool, step: Callable[[int, int], None]) -> None:
    """step(rows, parity) for each step, the parity alternating; equal ones in a row are repetitions of two."""
    order: Sequence[int] = range(begin, end)
    parity = 0
    for rows, count in _runs(call, reversed(order) if down else order):
        here = parity

        def two(rows: int = rows, here: int = here) -> None:
            step(rows, here)
            step(rows, 1 - here)

        call.device.repeat(two, count // 2)
        if count % 2:
            step(rows, here)
            parity = 1 - here


def _runs(call: Call, steps: Iterator[int] | Sequence[int]) -> Iterator[tuple[int, int]]:
    """(rows, count): the rows that products of so many consecutive steps are done for."""
    for rows, group in itertools.groupby(min(-(-call.rows.at(t) // ROWS) * ROWS, call.problem.B) for t in steps):
        yield rows, len(list(group))
