"""Weights as the compiled drivers take them: packed into panels, biases and vectors padded, all in the working type."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from rnn_gpu.compiler.cell import Cell
from rnn_gpu.kernels.numba_cpu import memory, product
from rnn_gpu.kernels.numba_cpu.host import TRAITS
from rnn_gpu.kernels.numba_cpu.jit import BUILD
from rnn_gpu.kernels.numba_cpu.pool import run_all
from rnn_gpu.problem import Array, Problem
from rnn_gpu.threads import get_threads
from rnn_gpu.weights.core import Weights

__all__ = [
    "Sizes",
    "flat",
    "forward_weights",
    "input_weights_back",
    "padded_vectors",
    "recurrent_weights_back",
    "sizes_of",
]

WORTH_A_THREAD = 1 << 17
"""Elements of weights that are packed faster by several threads than by one."""


@dataclass(frozen=True)
class Sizes:
    """lanes: numbers in a vector; H_p: H padded to whole vectors; panel: columns of a panel."""

    lanes: int
    H_p: int
    panel: int

    def panels(self, columns: int) -> int:
        """Panels that `columns` columns take."""
        return -(-columns // self.panel)

    def padded(self, columns: int) -> int:
        """`columns` padded to whole panels."""
        return self.panels(columns) * self.panel


@dataclass(frozen=True)
class ForwardWeights:
    """W, U packed; b_ih, bias (b_hh, stage after stage) padded with zeros, or zeros; V the vectors [n_vectors, H_p]."""

    W: Array
    b_ih: Array
    U: Array
    bias: Array
    V: Array


def sizes_of(problem: Problem) -> Sizes:
    lanes = TRAITS.lanes(problem.real.itemsize)
    return Sizes(lanes, -(-problem.H // lanes) * lanes, TRAITS.panel(problem.real.itemsize))


def flat(array: Array, real: np.dtype[Any]) -> Array:
    """A contiguous view of the array, one-dimensional, or a copy where it has another type or layout.

    Compiled code has one form for arrays that may be written and another for those that may not. It writes to none of
    its inputs; a read-only array is handed to it as a writable view, so that one form serves for both.
    """
    contiguous = np.ascontiguousarray(array, dtype=real).reshape(-1)
    if contiguous.flags.writeable or contiguous.size == 0:
        return contiguous if contiguous.flags.writeable else np.empty(0, real)
    memory = (ctypes.c_char * contiguous.nbytes).from_address(contiguous.ctypes.data)
    view: Array = np.frombuffer(memoryview(memory), dtype=real)
    memory.owner = contiguous  # type: ignore[attr-defined]  # lives as long as the view does
    return view


def forward_weights(problem: Problem, weights: Weights, sizes: Sizes) -> ForwardWeights:
    """What the forward pass reads; of frozen weights, as packed the first time."""
    if weights.prepared is None:
        return _forward_weights(problem, weights, sizes)
    key = ("numba_cpu", problem.cell, problem.real.name)
    if key not in weights.prepared:
        weights.prepared[key] = _forward_weights(problem, weights, sizes)
    found: ForwardWeights = weights.prepared[key]
    return found


def _forward_weights(problem: Problem, weights: Weights, sizes: Sizes) -> ForwardWeights:
    cell, real, hidden = problem.cell, problem.real, problem.H
    n_gates = len(cell.input_gates)
    W = np.empty(0, real)
    if weights.w_ih is not None:
        W = _packed_rows(weights.w_ih, [tuple(range(n_gates))], problem, sizes)
    stages = _stage_blocks(cell)
    U = np.empty(0, real) if weights.w_hh is None else _packed_rows(weights.w_hh, stages, problem, sizes)
    b_ih = _padded_bias(weights.b_ih, [tuple(range(n_gates))], hidden, sizes, real)
    bias = _padded_bias(weights.b_hh, stages, hidden, sizes, real)
    return ForwardWeights(W, b_ih, U, bias, padded_vectors(problem, weights, sizes))


def padded_vectors(problem: Problem, weights: Weights, sizes: Sizes) -> Array:
    """The per-unit vectors, [n_vectors, H_p], flat."""
    V = np.zeros((len(problem.cell.vectors), sizes.H_p), problem.real)
    for k, name in enumerate(problem.cell.vectors):
        V[k, : problem.H] = weights.vectors[name]
    return V.reshape(-1)


def recurrent_weights_back(problem: Problem, weights: Weights, sizes: Sizes) -> Array:
    """The recurrent weights packed for the transposed products, in the order in which backward does them."""
    cell = problem.cell
    if weights.w_hh is None:
        return np.empty(0, problem.real)
    place = {gate: k for k, gate in enumerate(cell.recurrent_gates)}
    stages = [tuple(place[gate] for gate in stage.gates) for stage in cell.program.backward_stages]
    return _packed_columns(weights.w_hh, stages, problem, sizes)


def input_weights_back(problem: Problem, weights: Weights, sizes: Sizes) -> Array:
    """The input weights packed for dx = dP W."""
    return _packed_columns(weights.w_ih, [tuple(range(len(problem.cell.input_gates)))], problem, sizes)


def _stage_blocks(cell: Cell) -> list[tuple[int, ...]]:
    place = {gate: k for k, gate in enumerate(cell.recurrent_gates)}
    return [tuple(place[gate] for gate in gates) for gates in cell.stages]


def _padded_bias(
    bias: Array | None, groups: Sequence[tuple[int, ...]], hidden: int, sizes: Sizes, real: np.dtype[Any]
) -> Array:
    """Each group's blocks padded to H_p, each group to whole panels; zeros where there is no bias."""
    padded = []
    for blocks in groups:
        row = np.zeros(sizes.padded(len(blocks) * sizes.H_p), real)
        if bias is not None:
            row[: len(blocks) * sizes.H_p].reshape(-1, sizes.H_p)[:, :hidden] = bias.reshape(-1, hidden)[list(blocks)]
        padded.append(row)
    return np.concatenate(padded) if padded else np.zeros(0, real)


def _packed_rows(w: Array, groups: Sequence[tuple[int, ...]], problem: Problem, sizes: Sizes) -> Array:
    depth = w.shape[1]
    widths = [sizes.padded(len(blocks) * sizes.H_p) for blocks in groups]
    return _packed(product.pack_rows, w, groups, [width * depth for width in widths], widths, problem, sizes)


def _packed_columns(w: Array, groups: Sequence[tuple[int, ...]], problem: Problem, sizes: Sizes) -> Array:
    width = sizes.padded(w.shape[1])
    counts = [width * len(blocks) * sizes.H_p for blocks in groups]
    return _packed(product.pack_columns, w, groups, counts, [width] * len(groups), problem, sizes)


def _packed(
    pack: Callable[..., None],
    w: Array,
    groups: Sequence[tuple[int, ...]],
    counts: Sequence[int],
    widths: Sequence[int],
    problem: Problem,
    sizes: Sizes,
) -> Array:
    """Pack each group of blocks after the last; the panels are shared out over threads where that pays."""
    matrix = flat(w, problem.real).reshape(w.shape)
    packed = memory.empty(sum(counts), problem.real)
    tasks = []
    begin = 0
    for blocks, count, width in zip(groups, counts, widths, strict=True):
        n_panels = width // sizes.panel
        parts = min(get_threads(), n_panels) if count >= WORTH_A_THREAD else 1
        cuts = [n_panels * part // max(parts, 1) for part in range(parts + 1)]
        target = packed[begin : begin + count]
        for a, b in pairwise(cuts):
            tasks.append((pack, (BUILD, matrix, np.array(blocks, np.int64), problem.H, sizes.H_p, target, a, b)))
        begin += count
    run_all(tasks, get_threads() if len(tasks) > len(groups) else 1)
    return packed
