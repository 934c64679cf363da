"""Weights as the kernels take them: in the working type, and U in the order in which a block reads it."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, NamedTuple

from numba import cuda

from rnn_gpu.kernels.numba_cuda.jit import kernel
from rnn_gpu.kernels.numba_cuda.memory import Queue
from rnn_gpu.kernels.numba_cuda.plan import Tile
from rnn_gpu.problem import Inputs, Problem

__all__ = ["DeviceWeights", "weights_of"]

Array = Any


@dataclass
class DeviceWeights:
    """Flat arrays on the device. w_ih [G, H, I], w_hh [S, H, H], b_ih [G, H], b_hh [S, H], vectors [n_vectors, H].

    w_ih, b_ih: None where there is none; b_hh: zeros. packed: U by direction and units of a block, made when asked for.
    """

    w_ih: Array | None
    w_hh: Array
    b_ih: Array | None
    b_hh: Array
    vectors: Array
    packed: dict[tuple[str, int], Array] = field(default_factory=dict)

    def u(self, queue: Queue, direction: str, tile: Tile) -> Array:
        """U, [unit tile, stage, k, product, units]: zeros for units beyond H."""
        key = (direction, tile.units)
        if key not in self.packed:
            self.packed[key] = _packed(queue, self.w_hh, direction, tile)
        return self.packed[key]


def weights_of(queue: Queue, inputs: Inputs) -> DeviceWeights:
    """The weights on the device; for frozen weights, those made the first time."""
    weights = inputs.weights
    if weights.prepared is None:
        return _taken(queue, inputs)
    key = ("numba_cuda", queue.problem.cell, queue.device, queue.problem.dtype)
    if key not in weights.prepared:
        weights.prepared[key] = _taken(queue, inputs)
    found: DeviceWeights = weights.prepared[key]
    return found


def _taken(queue: Queue, inputs: Inputs) -> DeviceWeights:
    problem, given = queue.problem, inputs.weights
    recurrent = len(problem.cell.recurrent_gates) * problem.H
    return DeviceWeights(
        None if given.w_ih is None else queue.take(given.w_ih),
        queue.nothing if given.w_hh is None else queue.take(given.w_hh),
        None if given.b_ih is None else queue.take(given.b_ih),
        queue.zeros(recurrent) if given.b_hh is None else queue.take(given.b_hh),
        queue.joined([given.vectors[name] for name in problem.cell.vectors], problem.H),
    )


def _packed(queue: Queue, w_hh: Array, direction: str, tile: Tile) -> Array:
    runs = _packings(queue.problem, direction, tile)
    out = queue.empty(tile.unit_tiles * runs[0][1].tile_step if runs else 0)
    for count, shape in runs:
        queue.over(count * tile.unit_tiles * shape.H * shape.units, _pack, out, w_hh, shape)
    return out


def _packings(problem: Problem, direction: str, tile: Tile) -> list[tuple[int, _Packing]]:
    """Gates that are packed by one launch: how many, and from where to where; found once for a problem."""
    key = ("numba_cuda", "packing", direction, tile)
    found: list[tuple[int, _Packing]] | None = problem.memo.get(key)
    if found is not None:
        return found
    hidden, units = problem.H, tile.units
    place = {gate: k for k, gate in enumerate(problem.cell.recurrent_gates)}
    stages = _gates_by_stage(problem, direction)
    area = sum(map(len, stages)) * hidden * units
    at, found = 0, []
    for gates in stages:
        if direction == "forward":  # [k, product, units]: a gate is a product
            gate_step, k_step = units, len(gates) * units
            from_unit, from_k = hidden, 1
        else:  # [block, k, units]: a gate is a block of terms
            gate_step, k_step = hidden * units, units
            from_unit, from_k = 1, hidden
        for first, run in _runs([place[gate] for gate in gates]):
            shape = _Packing(
                at + first * gate_step, area, gate_step, k_step, run[0] * hidden * hidden, from_unit, from_k, hidden,
                units, tile.unit_tiles,
            )  # fmt: skip
            found.append((len(run), shape))
        at += len(gates) * hidden * units
    problem.memo[key] = found
    return found


def _runs(places: list[int]) -> list[tuple[int, list[int]]]:
    """Places cut into runs that lie one behind the other in w_hh: (number of the first, places)."""
    runs = [list(run) for _, run in groupby(enumerate(places), key=lambda pair: pair[1] - pair[0])]
    return [(run[0][0], [place for _, place in run]) for run in runs]


def _gates_by_stage(problem: Problem, direction: str) -> list[list[str]]:
    """The gates of each product, in the order in which the direction makes them."""
    program = problem.cell.program
    if direction == "forward":
        return [list(stage.gates) for stage in program.stages]
    reached = program.derived.d_recurrent
    return [[gate for gate in stage.gates if gate in reached] for stage in program.backward_stages]


class _Packing(NamedTuple):
    """Where gates of U come from and go to, in elements.

    out: [unit tile, gate, k, unit] from `first` on, a tile, a gate and a k so many elements behind the one before.
    w: [gate, H, H] from `at` on.
    """

    first: int
    tile_step: int
    gate_step: int
    k_step: int
    at: int
    from_unit: int
    from_k: int
    H: int
    units: int
    unit_tiles: int


@kernel
def _pack(out: Array, w: Array, s: Any, size: int) -> None:
    """Gates of U that are neighbours, for all unit tiles; neighbouring threads neighbouring units."""
    e = cuda.grid(1)
    while e < size:
        x, k, tile_of_gate = e % s.units, (e // s.units) % s.H, e // (s.units * s.H)
        tile, gate = tile_of_gate % s.unit_tiles, tile_of_gate // s.unit_tiles
        unit = tile * s.units + x
        to = s.first + tile * s.tile_step + gate * s.gate_step + k * s.k_step + x
        if unit < s.H:
            out[to] = w[s.at + gate * s.H * s.H + unit * s.from_unit + k * s.from_k]
        else:
            out[to] = 0
        e += cuda.gridsize(1)
