"""Runs one direction of a sequence on the device: the arrays and sizes that kernels take, and the launches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from rnn_gpu.errors import BackendError
from rnn_gpu.kernels.numba_cuda import block, grid, stepwise
from rnn_gpu.kernels.numba_cuda.cells import CompiledCell, compiled
from rnn_gpu.kernels.numba_cuda.jit import SIMULATED
from rnn_gpu.kernels.numba_cuda.memory import Queue
from rnn_gpu.kernels.numba_cuda.plan import Tile

__all__ = ["Backward", "Forward", "Sizes", "run", "work_of"]

Array = Any


class Sizes(NamedTuple):
    """Of the axes, and what there is.

    steps: of the longest row. descending: from the last step to the first. save: keep the states of each step;
    save_values: keep the cell's saved values.
    """

    T: int
    B: int
    H: int
    steps: int
    reverse: int
    descending: int
    has_lengths: int
    has_resets: int
    save: int
    save_values: int
    has_dy: int


class Forward(NamedTuple):
    """The arrays of a forward pass, flat.

    in   P [T, B, G, H]: W x_t + b_ih    weights: packed U    b_hh [S, H]    vectors [n_vectors, H]
         lengths [B] int32    resets [T, B] uint8
    out  state [n_states, B, H]: first before the first step, last after the last
         y [T, B, H]: not written where rows have ended
         history [n_states, T + 1, B, H]: the state before step t, not yet reset, at t or, reversed, at t + 1
         saved [n_saved, T, B, H]
    work carried [n_carried, B, H], in the stepwise strategy    published: see the strategies
    """

    P: Array
    weights: Array
    b_hh: Array
    vectors: Array
    lengths: Array
    resets: Array
    state: Array
    y: Array
    history: Array
    saved: Array
    carried: Array
    published: Array


class Backward(NamedTuple):
    """The arrays of a backward pass, flat; none is written or read where rows have ended.

    in   weights: packed U, transposed    vectors, lengths, resets, history, saved: as forward's    dy [T, B, H]
    out  d_state [n_states, B, H]: gradients of the last states, at the end of the initial ones
         dR [T, B, S, H]: of U operand + b_hh, in the order of the stages    dV [T, B, n_vectors, H]: of the vectors
         dP [T, B, G, H]: of W x_t + b_ih; dR itself where `Program.shares_gradient`
    work carried [n_carried, B, H], in the stepwise strategy    published: see the strategies
    """

    weights: Array
    vectors: Array
    lengths: Array
    resets: Array
    history: Array
    saved: Array
    dy: Array
    d_state: Array
    dR: Array
    dP: Array
    dV: Array
    carried: Array
    published: Array


def work_of(queue: Queue, direction: str, strategy: str, tile: Tile, n_rows: int) -> dict[str, Array]:
    """The arrays that a direction needs beyond its own: carried and published."""
    cell, hidden = queue.problem.cell, queue.problem.H
    segments = compiled(cell, queue.real, direction, tile.rows).segments
    published = queue.nothing
    if strategy != "block" and segments.n_stages:  # zeros: rows that there are not are multiplied, too
        published = queue.zeros(2 * tile.row_tiles * sum(segments.depth) * hidden * tile.width)
    carried = queue.nothing
    if strategy == "stepwise" and segments.carried:  # elsewhere registers; zeros: what is not yet there is read, too
        carried = queue.zeros(segments.carried * n_rows * hidden)
    return {"carried": carried, "published": published}


def run(queue: Queue, direction: str, strategy: str, tile: Tile, arrays: NamedTuple, sizes: Sizes) -> None:
    """Launch the sequence. Raises BackendError where a grid's blocks cannot all be on the device at once."""
    cell = compiled(queue.problem.cell, queue.real, direction, tile.rows)
    if sizes.steps == 0 or tile.row_tiles == 0:
        return
    _RUN[strategy](queue, cell, tile, arrays, sizes)


def _block(queue: Queue, cell: CompiledCell, tile: Tile, arrays: NamedTuple, sizes: Sizes) -> None:
    compiled_for = (queue.problem.H, tile.parts) if cell.segments.n_stages else (0, 1)
    queue.launch(block.make(cell, *compiled_for), _blocks(tile), _threads(tile), tile.shared, arrays, sizes)


def _grid(queue: Queue, cell: CompiledCell, tile: Tile, arrays: NamedTuple, sizes: Sizes) -> None:
    kernel, blocks = grid.make(cell, tile.resident, tile.units, tile.parts), _blocks(tile)
    if not SIMULATED:
        compiled_kernel = queue.compiled(kernel, arrays, sizes)
        most = compiled_kernel.most_blocks(tile.threads, tile.shared)
        if blocks[0] * blocks[1] > most:
            needs = f"{tile.threads} threads, {compiled_kernel.registers} registers a thread, {tile.shared} bytes"
            raise BackendError(
                f"numba_cuda: grid: {blocks[0] * blocks[1]} blocks of {needs} wait for one another, and the device can "
                f"hold {most} at once; RNN_GPU_STRATEGY=stepwise runs the call"
            )
    queue.launch(kernel, blocks, _threads(tile), tile.shared, arrays, sizes)


def _stepwise(queue: Queue, cell: CompiledCell, tile: Tile, arrays: NamedTuple, sizes: Sizes) -> None:
    kernel, n_stages = stepwise.make(cell, tile.units, tile.parts), cell.segments.n_stages
    stages = range(n_stages) if n_stages else (-1,)
    steps = [(step, stage) for step in range(sizes.steps) for stage in stages]
    steps = [(0, -1), *steps] if n_stages else steps
    queue.launch_each(kernel, _blocks(tile), _threads(tile), tile.shared, (arrays, sizes), steps)


_RUN: dict[str, Callable[[Queue, CompiledCell, Tile, Any, Sizes], None]] = {
    "block": _block,
    "grid": _grid,
    "stepwise": _stepwise,
}


def _blocks(tile: Tile) -> tuple[int, int]:
    return tile.row_tiles, tile.unit_tiles


def _threads(tile: Tile) -> tuple[int, int, int]:
    return tile.units, tile.groups, tile.parts
