"""How a batch of sequences is laid out: rows sorted by length, only the steps that are valid, slices for threads.

Rows are taken in the order of falling length, so that the rows still running at step t are the first `active[t]` ones;
their values lie at rows `start[t]` to `start[t] + active[t]` of every saved array. Without lengths all rows always run.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from rnn_gpu.problem import Inputs, Problem

__all__ = ["Layout", "full_layout", "layout_of"]

IntArray = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True)
class Layout:
    """order [B]: the caller's row of each of our rows; active [T]; start [T + 1]; full: all rows run at every step."""

    order: IntArray
    active: IntArray
    start: IntArray
    full: bool

    @cached_property
    def n_rows(self) -> int:
        """Valid steps in all."""
        return int(self.start[-1])

    @cached_property
    def flat_rows(self) -> IntArray:
        """[n_rows] for each of our rows, its row t * B + b in the caller's (T, B) arrays; empty if full: its own."""
        if self.full:
            return np.zeros(0, np.int64)
        n_batch = self.order.size
        return np.concatenate(
            [t * n_batch + self.order[:count] for t, count in enumerate(self.active)] or [np.zeros(0, np.int64)]
        )

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
    order = np.argsort(-inputs.lengths, kind="stable")
    running = np.bincount(inputs.lengths, minlength=problem.T + 1)
    return _layout(order, problem.B - np.cumsum(running)[: problem.T], full=False)


@lru_cache(maxsize=256)
def full_layout(n_steps: int, n_batch: int) -> Layout:
    """The layout of a call without lengths."""
    return _layout(np.arange(n_batch), np.full(n_steps, n_batch), full=True)


def _layout(order: IntArray, active: IntArray, full: bool) -> Layout:
    return Layout(order, active, np.concatenate([[0], np.cumsum(active)]).astype(np.int64), full)
