"""Weights as the compiled kernels take them: the caller's arrays, flat, and room for them packed in panels."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from rnn_gpu.compiler.cell import Cell
from rnn_gpu.compiler.graph import Stage
from rnn_gpu.kernels.numba_cpu import memory
from rnn_gpu.problem import Array, Problem
from rnn_gpu.weights.core import Weights

__all__ = [
    "Blocks",
    "KeptWeights",
    "Sizes",
    "blocks_of",
    "flat",
    "kept_weights",
    "no_states",
    "nothing",
    "plain",
    "raw_weights",
]


class Sizes(NamedTuple):
    """lanes: numbers in a vector; H_p: H padded to whole vectors; panel: columns of a panel."""

    lanes: int
    H_p: int
    panel: int

    def padded(self, columns: int) -> int:
        """`columns` padded to whole panels."""
        return -(-columns // self.panel) * self.panel


class Blocks(NamedTuple):
    """Which blocks of the recurrent weights each stage multiplies with.

    gates: blocks, stage after stage, which end at stages[1:]; then the input gates' blocks, 0..G-1.
    back_gates, back_stages: the same, in the order of backward's stages.
    in_order: whether the stages take the blocks as they lie.
    """

    gates: Array
    stages: Array
    back_gates: Array
    back_stages: Array
    in_order: bool


@dataclass
class KeptWeights:
    """Frozen weights, kept for the calls to come.

    raw: as `raw_weights` gives them. packed: W, b_ih, U, bias, V; done: whether these are filled.
    lock: held by the call that fills `packed`, so that no other reads what is being written.
    frames: of `step.py`.
    """

    raw: tuple[Array, ...]
    packed: tuple[Array, ...]
    done: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)
    frames: dict[Any, Any] = field(default_factory=dict)


@lru_cache(maxsize=64)
def blocks_of(cell: Cell) -> Blocks:
    """The blocks of a cell."""
    place = {gate: k for k, gate in enumerate(cell.recurrent_gates)}

    def table(stages: list[tuple[int, ...]]) -> tuple[Array, Array]:
        gates = [gate for stage in stages for gate in stage] + list(range(len(cell.input_gates)))
        return np.array(gates, np.int64), np.cumsum([0, *map(len, stages)], dtype=np.int64)

    forward = [tuple(place[gate] for gate in stage) for stage in cell.stages]
    back = [_places(stage, place) for stage in cell.program.backward_stages]
    flattened = [gate for stage in forward for gate in stage]
    return Blocks(*table(forward), *table(back), in_order=flattened == sorted(flattened))


def _places(stage: Stage, place: dict[str, int]) -> tuple[int, ...]:
    return tuple(place[gate] for gate in stage.gates)


@lru_cache(maxsize=16)
def nothing(real: np.dtype[Any]) -> Array:
    """An empty array."""
    return np.empty(0, real)


@lru_cache(maxsize=64)
def no_states(count: int, real: np.dtype[Any]) -> Array:
    """Zeros that nobody writes to."""
    return np.zeros(count, real)


def flat(array: Array, real: np.dtype[Any]) -> Array:
    """A contiguous view of the array, one-dimensional, or a copy where it has another type, layout or alignment.

    Compiled code has one form for arrays that may be written and another for those that may not. It writes to none of
    its inputs; a read-only array is handed to it as a writable view, so that one form serves for both.
    """
    if _is_plain(array, real):
        return array.reshape(-1)
    contiguous = np.require(array, real, ("C", "A")).reshape(-1)
    if contiguous.flags.writeable or contiguous.size == 0:
        return contiguous if contiguous.flags.writeable else np.empty(0, real)
    memory = (ctypes.c_char * contiguous.nbytes).from_address(contiguous.ctypes.data)
    view: Array = np.frombuffer(memoryview(memory), dtype=real)
    memory.owner = contiguous  # type: ignore[attr-defined]  # lives as long as the view does
    return view


def plain(array: Array, real: np.dtype[Any]) -> Array:
    """The same as `flat` gives, in the array's own shape; mostly the array itself."""
    return array if _is_plain(array, real) else flat(array, real).reshape(array.shape)


def _is_plain(array: Array, real: np.dtype[Any]) -> bool:
    """Whether compiled code takes it as it is."""
    return bool(array.dtype == real and array.flags.carray)


def kept_weights(problem: Problem, weights: Weights, room: Sequence[int]) -> KeptWeights | None:
    """Frozen weights as made the first time, with `room` elements for each that is packed; None for others."""
    if weights.prepared is None:
        return None
    key = ("numba_cpu", problem.cell, problem.real)
    found: KeptWeights | None = weights.prepared.get(key)
    if found is None:
        found = KeptWeights(raw_weights(problem, weights), tuple(memory.split(room, problem.real)))
        weights.prepared[key] = found
    return found


def raw_weights(problem: Problem, weights: Weights) -> tuple[Array, ...]:
    """w_ih, w_hh, b_ih, b_hh, vectors, flat, empty where there is none."""
    real, none = problem.real, nothing(problem.real)
    named = (weights.w_ih, weights.w_hh, weights.b_ih, weights.b_hh)
    raw = [none if array is None else flat(array, real) for array in named]
    names = problem.cell.vectors
    vectors = np.concatenate([flat(weights.vectors[name], real) for name in names]) if names else none
    return (*raw, vectors)
