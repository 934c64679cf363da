"""How the steps of a batch are numbered: those that exist, step by step, and within a step the longest row first.

With rows of different lengths this packs x, W x_t and all that backward keeps, so that no product is spent on padding,
and lets the rows of a tile end together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rnn_gpu.problem import Inputs, Problem

__all__ = ["Rows", "rows_of"]

Host = np.ndarray[tuple[int, ...], np.dtype[np.int64]]


@dataclass(frozen=True)
class Rows:
    """The N steps that exist, of T steps and B rows.

    Where all rows have T steps, n = t * B + row, and there are no arrays. Else, on the host, `starts` [T+1] is the n of
    each step's first row. table: all that the device needs, which goes there at once: `starts`, then in 32 bits `ends`
    [B], the length of each sorted row, and `order` [B], the caller's number of it.
    """

    T: int
    B: int
    N: int
    starts: Host | None = None
    table: Host | None = None

    @property
    def packed(self) -> bool:
        """Whether the caller's rows are not all there is."""
        return self.starts is not None

    def start(self, t: int) -> int:
        """n of step t's first row; N for t = T."""
        return t * self.B if self.starts is None else int(self.starts[t])

    def at(self, t: int) -> int:
        """The number of rows that have step t."""
        return self.start(t + 1) - self.start(t)


def rows_of(problem: Problem, inputs: Inputs) -> Rows:
    """The numbering for a call."""
    lengths = inputs.lengths
    if lengths is None or bool((lengths == problem.T).all()):
        return Rows(problem.T, problem.B, problem.T * problem.B)
    T, B = problem.T, problem.B
    order = np.argsort(-lengths, kind="stable")
    at = B - np.cumsum(np.bincount(lengths, minlength=T + 1)[:T])  # rows that have each step
    starts = np.concatenate([[0], np.cumsum(at)])
    of_rows = np.concatenate([lengths[order], order]).astype(np.int32).view(np.int64)
    return Rows(T, B, int(starts[-1]), starts, np.concatenate([starts, of_rows]))
