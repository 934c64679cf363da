"""A product and one elementwise kernel a step: any H, any B, on any device."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from rnn_gpu.kernels.cupy_raw.call import Call
from rnn_gpu.kernels.cupy_raw.device import Kernel
from rnn_gpu.kernels.cupy_raw.source import THREADS, kernel
from rnn_gpu.kernels.cupy_raw.traits import StepKernel

__all__ = ["backward", "forward", "replay"]

ROWS = 32
"""Products of a step are done for a multiple of so many rows, where rows end: equal steps can be replayed."""

MAX_BLOCKS = 4096
"""Of an elementwise launch; beyond, a thread owns several elements."""

_INT = np.dtype(np.int32)


def forward(call: Call, fields: dict[str, int]) -> None:
    """All steps; `fields`: P, y, last with the initial states in it, and history and saved where they are kept."""
    problem, device = call.problem, call.device
    cell, B, H = problem.cell, problem.B, problem.H
    n_stages, columns = len(cell.stages), len(cell.recurrent_gates) * H
    # Zeros, as a row that has no step is multiplied, too, where its neighbours have some.
    exchange = call.matrix(device.memory.zeros((B, H), call.operand), B, H, call.operand)
    products = call.matrix(call.empty((B, columns), problem.real), B, columns, problem.real)
    clock = device.memory.zeros((2,), _INT)
    own = {"exchange": exchange.address, "products": products.address, "clock": device.memory.address(clock)}
    kernels = [
        kernel(StepKernel(cell, problem.dtype.name, "forward", call.operand.name, k)) for k in range(n_stages + 1)
    ]
    parameters = [call.parameters(fields | own | {"parity": parity}) for parity in (0, 1)]
    blocks = _blocks(call)

    def run(segment: int, parity: int) -> None:
        _launch(call, kernels[segment], B * H, parameters[parity])

    def step(rows: int, parity: int) -> None:
        for k, (begin, count) in enumerate(blocks):
            U = call.operand_weights.block(begin, count)
            device.matmul(exchange.block(0, rows), U.T, products.block(0, rows, begin, count), tf32=call.plan.tf32)
            run(k + 1, parity)
        if not n_stages:
            run(0, parity)

    if n_stages:
        run(0, 0)
    _all_steps(call, 0, problem.T, problem.reverse, step)


def backward(call: Call, fields: dict[str, int]) -> None:
    """The steps begin <= t < end of `fields`; d_initial has the gradients of the states after them, then before."""
    problem, device, real = call.problem, call.device, call.problem.real
    cell, B, H = problem.cell, problem.B, problem.H
    stages = cell.program.backward_stages
    widest = max((len(stage.gates) for stage in stages), default=0)
    exchange = device.memory.zeros((B * widest * H,), call.operand)
    products = call.empty((len(stages), B, H), real)
    clock = device.memory.zeros((2,), _INT)
    address = device.memory.address
    own = {"exchange": address(exchange), "products": address(products), "clock": address(clock)}
    kernels = [
        kernel(StepKernel(cell, problem.dtype.name, "backward", call.operand.name, k)) for k in range(len(stages) + 1)
    ]
    parameters = [call.parameters(fields | own | {"parity": parity}) for parity in (0, 1)]
    blocks = _blocks(call)

    def run(segment: int, parity: int) -> None:
        _launch(call, kernels[segment], B * H, parameters[parity])

    def step(rows: int, parity: int) -> None:
        for k, stage in enumerate(stages):
            begin, count = blocks[cell.stages.index(stage.gates)]
            gradients = call.matrix(exchange, rows, count, call.operand)
            out = call.matrix(products, len(stages) * B, H, real).block(k * B, rows)
            device.matmul(gradients, call.operand_weights.block(begin, count), out, tf32=call.plan.tf32)
            run(k + 1, parity)
        if not stages:
            run(0, parity)

    if stages:
        run(0, 0)
    _all_steps(call, fields["begin"], fields["end"], not problem.reverse, step)


def replay(call: Call, fields: dict[str, int], begin: int, end: int) -> None:
    """Make `saved` of the steps begin <= t < end again, from the states before them: steps are independent then."""
    problem, device = call.problem, call.device
    cell, H = problem.cell, problem.H
    first = call.rows.start(begin)
    rows, columns = call.rows.start(end) - first, len(cell.recurrent_gates) * H
    exchange = call.matrix(call.empty((rows, H), call.operand), rows, H, call.operand)
    products = call.matrix(call.empty((rows, columns), problem.real), rows, columns, problem.real)
    own = {"exchange": exchange.address, "products": products.address}
    parameters = call.parameters(fields | own | {"begin": begin, "end": end, "rows_begin": first})
    blocks = _blocks(call)
    for segment in range(len(blocks) + 1):
        spec = StepKernel(cell, problem.dtype.name, "forward", call.operand.name, segment, replay=True)
        _launch(call, kernel(spec), rows * H, parameters)
        if segment < len(blocks):
            start, count = blocks[segment]
            U = call.operand_weights.block(start, count)
            device.matmul(exchange, U.T, products.block(0, rows, start, count), tf32=call.plan.tf32)


def _blocks(call: Call) -> list[tuple[int, int]]:
    """Of each stage, the first of its rows of U and how many they are."""
    counts = [len(gates) * call.problem.H for gates in call.problem.cell.stages]
    return list(zip(itertools.accumulate(counts, initial=0), counts, strict=False))


def _launch(call: Call, which: Kernel, elements: int, parameters: bytes) -> None:
    blocks = min(-(-elements // THREADS), MAX_BLOCKS)
    call.device.launch(which, grid=max(blocks, 1), block=THREADS, shared=0, parameters=parameters)


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
