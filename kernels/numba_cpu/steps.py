"""What the loops over time share: how many rows run at a step, gathering x, runs of steps, who owns what."""

from __future__ import annotations

from typing import Any

from rnn_gpu.kernels.numba_cpu.jit import jit
from rnn_gpu.kernels.numba_cpu.product import add, copy

__all__ = ["block_end", "buffer", "own", "project", "running"]


@jit
def running(active: Any, t: int, first: int, last: int) -> int:
    """How many of the rows first..last run at step t; 0 outside the sequence."""
    return max(0, min(last, active[t]) - first) if 0 <= t < active.size else 0


@jit
def project(
    P: Any, p0: int, p_row: int, X: Any, x: Any, t: int, order: Any, b_ih: Any, projected: bool,
    rows: int, first: int, n_gates: int, I: int, H: int, H_p: int,
) -> None:  # fmt: skip
    """Gather the rows of step t: into X [row, I], or, if x is W x already, into P at p0 with the bias added."""
    n_batch = order.size
    for row in range(rows):
        source = (t * n_batch + order[first + row]) * I
        if projected:
            for g in range(n_gates):
                to = p0 + row * p_row + g * H_p
                copy(P, to, x, source + g * H, H)
                add(P, to, b_ih, g * H_p, H)
        else:
            copy(X, (p0 // p_row + row) * I, x, source, I)


@jit
def block_end(active: Any, s0: int, reverse: bool, first: int, last: int, limit: int) -> int:
    """The end of a run of steps, from the s0-th on, that hold at most `limit` rows, or one step."""
    n_steps = active.size
    total, s = 0, s0
    while s < n_steps:
        total += running(active, n_steps - 1 - s if reverse else s, first, last)
        if total > limit and s > s0:
            break
        s += 1
    return s


@jit
def own(cuts: Any, by_units: bool, member: int, members: int, H_p: int) -> tuple[int, int, int, int]:
    """The rows first..last and the units u0..u1 of a member: its rows cuts[member].., or of all rows some units."""
    if by_units:
        return cuts[0], cuts[cuts.size - 1], H_p // members * member, H_p // members * (member + 1)
    return cuts[member], cuts[member + 1], 0, H_p


@jit
def buffer(work: Any, offsets: Any, member: int, k: int) -> Any:
    """The k-th buffer of a member: offsets [members, n_buffers + 1] tell where each begins and the last ends."""
    return work[offsets[member, k] : offsets[member, k + 1]]
