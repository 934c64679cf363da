"""A product and one elementwise kernel a step: any H, any B, on any device."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from functools import cache

import numpy as np

from rnn_gpu.kernels.cupy_raw.call import Call
from rnn_gpu.kernels.cupy_raw.device import Kernel, Launch, Matrix, Product
from rnn_gpu.kernels.cupy_raw.parameters import Parameters
from rnn_gpu.kernels.cupy_raw.source import THREADS, kernel
from rnn_gpu.kernels.cupy_raw.traits import StepKernel
from rnn_gpu.kernels.cupy_raw.workspace import carve
from rnn_gpu.problem import Array

__all__ = ["backward", "forward", "replay"]

ROWS = 32
"""Products of a step are done for a multiple of so many rows, where rows end: equal steps can be replayed."""

MAX_BLOCKS = 4096
"""Of an elementwise launch; beyond, a thread owns several elements."""

_INT = np.dtype(np.int32)


def forward(call: Call, parameters: Parameters) -> None:
    """All steps; `parameters`: P, y, last with the initial states in it, and history and saved where they are kept."""
    problem, device = call.problem, call.device
    cell, B, H = problem.cell, problem.B, problem.H
    n_stages, columns = len(cell.stages), len(cell.recurrent_gates) * H
    # Zeros, as a row that has no step is multiplied, too, where its neighbours have some.
    exchanged = device.memory.zeros((B, H), call.kept)
    multiplied = device.memory.empty((B, columns), problem.real)
    clock = device.memory.zeros((2,), _INT)
    address = device.memory.address
    parameters.exchange, parameters.products = address(exchanged), address(multiplied)
    parameters.clock = address(clock)
    exchange, products = Matrix(B, H, H, call.kept), Matrix(B, columns, columns, problem.real)
    U, weights = Matrix(columns, H, H, call.kept), call.kept_weights()
    kernels = [kernel(StepKernel(cell, problem.dtype.name, "forward", call.kept.name, k)) for k in range(n_stages + 1)]
    of_parity = _of_parity(parameters)
    blocks = _blocks(call)

    def run(segment: int, parity: int) -> None:
        _launch(call, kernels[segment], B * H, of_parity[parity])

    @cache
    def of_rows(rows: int) -> list[Product]:
        return [
            Product(exchange.block(0, rows), U.block(*block).T, products.block(0, rows, *block), call.plan.tf32)
            for block in blocks
        ]

    def step(rows: int, parity: int) -> None:
        for k, product in enumerate(of_rows(rows)):
            device.multiply(product, parameters.exchange, weights, parameters.products)
            run(k + 1, parity)
        if not n_stages:
            run(0, parity)

    if n_stages:
        run(0, 0)
    _all_steps(call, 0, problem.T, problem.reverse, step)


def backward(call: Call, parameters: Parameters) -> None:
    """The steps begin <= t < end of `parameters`; d_initial has the gradients of the states after them, then before."""
    problem, device, real = call.problem, call.device, call.problem.real
    cell, B, H = problem.cell, problem.B, problem.H
    stages = cell.program.backward_stages
    widest = max((len(stage.gates) for stage in stages), default=0)
    exchanged = device.memory.zeros((B * widest * H,), call.kept)
    multiplied = device.memory.empty((len(stages), B, H), real)
    clock = device.memory.zeros((2,), _INT)
    address = device.memory.address
    parameters.exchange, parameters.products = address(exchanged), address(multiplied)
    parameters.clock = address(clock)
    products = Matrix(len(stages) * B, H, H, real)
    U, weights = Matrix(len(cell.recurrent_gates) * H, H, H, call.kept), call.kept_weights()
    kernels = [
        kernel(StepKernel(cell, problem.dtype.name, "backward", call.kept.name, k)) for k in range(len(stages) + 1)
    ]
    of_parity = _of_parity(parameters)
    blocks = _blocks(call)

    def run(segment: int, parity: int) -> None:
        _launch(call, kernels[segment], B * H, of_parity[parity])

    @cache
    def of_rows(rows: int) -> list[Product]:
        made = []
        for k, stage in enumerate(stages):
            begin, count = blocks[cell.stages.index(stage.gates)]
            gradients = Matrix(rows, count, count, call.kept)
            made.append(Product(gradients, U.block(begin, count), products.block(k * B, rows), call.plan.tf32))
        return made

    def step(rows: int, parity: int) -> None:
        for k, product in enumerate(of_rows(rows)):
            device.multiply(product, parameters.exchange, weights, parameters.products)
            run(k + 1, parity)
        if not stages:
            run(0, parity)

    if stages:
        run(0, 0)
    _all_steps(call, parameters.begin, parameters.end, not problem.reverse, step)


def replay(call: Call, parameters: Parameters) -> None:
    """Make `saved` of the steps begin <= t < end of `parameters` again.

    It comes from the states before them: so steps are independent.
    """
    problem, device = call.problem, call.device
    cell, H = problem.cell, problem.H
    rows = call.rows.start(parameters.end) - parameters.rows_begin
    columns = len(cell.recurrent_gates) * H
    sizes = rows * H * call.kept.itemsize, rows * columns * problem.real.itemsize
    held: list[Array] = []
    parameters.exchange, parameters.products = carve(device.memory, held, *sizes)
    exchange, products = Matrix(rows, H, H, call.kept), Matrix(rows, columns, columns, problem.real)
    U, weights, blocks = Matrix(columns, H, H, call.kept), call.kept_weights(), _blocks(call)
    for segment in range(len(blocks) + 1):
        spec = StepKernel(cell, problem.dtype.name, "forward", call.kept.name, segment, replay=True)
        _launch(call, kernel(spec), rows * H, parameters)
        if segment < len(blocks):
            block = blocks[segment]
            product = Product(exchange, U.block(*block).T, products.block(0, rows, *block), call.plan.tf32)
            device.multiply(product, parameters.exchange, weights, parameters.products)


def _blocks(call: Call) -> list[tuple[int, int]]:
    """Of each stage, the first of its rows of U and how many they are."""
    counts = [len(gates) * call.problem.H for gates in call.problem.cell.stages]
    return list(zip(itertools.accumulate(counts, initial=0), counts, strict=False))


def _of_parity(parameters: Parameters) -> tuple[Parameters, Parameters]:
    """Those of the steps that read the first of clock's numbers, and of the others."""
    odd = parameters.copy()
    odd.parity = 1
    return parameters, odd


def _launch(call: Call, which: Kernel, elements: int, parameters: Parameters) -> None:
    blocks = min(-(-elements // THREADS), MAX_BLOCKS)
    call.device.launch(Launch(which, max(blocks, 1), THREADS, shared=0), parameters)


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
