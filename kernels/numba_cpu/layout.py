"""How a batch of sequences is laid out: rows sorted by length, only the steps that are valid, slices for threads.

Rows are taken in the order of falling length, so that the rows still running at step t are the first `active[t]` ones;
their values lie at rows `start[t]` to `start[t] + active[t]` of every saved array. Without lengths all rows always run.
A packed batch, as of torch's PackedSequence, lies so in the caller's arrays, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from rnn_gpu.problem import Inputs, Problem

__all__ = ["Layout", "full_layout", "layout_of", "packed_layout", "ragged_layout"]

IntArray = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True, eq=False)
class Layout:
    """order [B]: the caller's row of each of our rows; active [T]; start [T + 1].

    begins [T]: where the rows of step t begin among those of the caller's x and y. full: all rows run at every step.
    in_order: the caller's rows are ours, from the first step to the last, and there are no others.
    """

    order: IntArray
    active: IntArray
    start: IntArray
    begins: IntArray
    full: bool
    in_order: bool

    @cached_property
    def n_rows(self) -> int:
        """Valid steps in all."""
        return int(self.start[-1])

    @property
    def n_given(self) -> int:
        """Rows of the caller's x and y, at all steps together: those that lie in order are the valid ones alone."""
        return self.n_rows if self.in_order else self.active.size * self.order.size

    @cached_property
    def flat_rows(self) -> IntArray:
        """[n_rows] for each of our rows, the caller's, counted through all steps; empty if in order: the same."""
        if self.in_order:
            return np.zeros(0, np.int64)
        ours = np.arange(self.n_rows) - np.repeat(self.start[:-1], self.active)
        return np.repeat(self.begins, self.active) + self.order[ours]

    def cuts(self, parts: int) -> IntArray:
        """Cut our rows into at most `parts` runs of about the same number of valid steps: their ends, from 0 on."""
        n_batch = self.order.size
        if parts == 1 or self.n_rows == 0:
            return np.array([0, n_batch], np.int64)
        steps_of_row = np.searchsorted(-self.active, -np.arange(n_batch), side="left")
        done = np.concatenate([[0], np.cumsum(steps_of_row)])
        inner = np.searchsorted(done, self.n_rows * np.arange(1, parts) / parts)
        return np.unique(np.concatenate([[0], inner, [n_batch]])).astype(np.int64)


def layout_of(problem: Problem, inputs: Inputs) -> Layout:
    """The layout of a call."""
    if inputs.lengths is None:
        return full_layout(problem.T, problem.B)
    return ragged_layout(problem.T, inputs.lengths.tobytes())


@lru_cache(maxsize=256)
def full_layout(n_steps: int, n_batch: int) -> Layout:
    """The layout of a call without lengths."""
    return _padded(np.arange(n_batch), np.full(n_steps, n_batch), full=True)


@lru_cache(maxsize=8)
def ragged_layout(n_steps: int, lengths: bytes) -> Layout:
    """The layout of a call with lengths; lengths: those of an int64 array [B], from 0 to T."""
    of_rows = np.frombuffer(lengths, np.int64)
    order = np.argsort(-of_rows, kind="stable")
    running = np.bincount(of_rows, minlength=n_steps + 1)
    return _padded(order, of_rows.size - np.cumsum(running)[:n_steps], full=False)


@lru_cache(maxsize=64)
def packed_layout(batch_sizes: bytes) -> Layout:
    """The layout of a packed batch; batch_sizes: those of an int64 array [T], which never rise."""
    active = np.frombuffer(batch_sizes, np.int64).copy()  # one that cannot be written to is another type to Numba
    start = _starts(active)
    return Layout(np.arange(active[0]), active, start, start[:-1], full=False, in_order=True)


def _padded(order: IntArray, active: IntArray, full: bool) -> Layout:
    """Of (T, B) arrays."""
    return Layout(order, active, _starts(active), np.arange(active.size) * order.size, full, in_order=full)


def _starts(active: IntArray) -> IntArray:
    return np.concatenate([[0], np.cumsum(active)]).astype(np.int64)
