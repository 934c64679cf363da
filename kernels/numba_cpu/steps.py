"""What the loops over time share: how many rows run at a step, gathering x, runs of steps, who owns what."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from rnn_gpu.kernels.numba_cpu.external import external
from rnn_gpu.kernels.numba_cpu.jit import jit
from rnn_gpu.kernels.numba_cpu.product import add, clear, copy, integer
from rnn_gpu.kernels.numba_cpu.simd import array_at, element_pointer

__all__ = ["block_end", "buffer", "kept_or_gathered", "own", "project", "running", "states_before"]


@jit
def running(active: Any, t: int, first: int, last: int) -> int:
    """How many of the rows first..last run at step t; 0 outside the sequence."""
    return max(0, min(last, active[t]) - first) if 0 <= t < active.size else 0


@external("aiiaainaiiiiiiiii")
def project(
    P: Any, p0: int, p_row: int, X: Any, x: Any, begin: int, order: Any, b_ih: Any, projected: int,
    rows: int, first: int, n_gates: int, I: int, H: int, H_p: int, u0: int, units: int,
) -> None:  # fmt: skip
    """Gather the rows of a step, which begin at row `begin` of x: into X [row, I], or, if x is W x already, `units`
    units of each gate, from u0 on, into P at p0 with the bias added.
    """
    for row in range(rows):
        source = (begin + order[first + row]) * I
        if projected:
            for g in range(n_gates):
                to = p0 + row * p_row + g * H_p + u0
                copy(P, to, x, source + g * H + u0, units)
                add(P, to, b_ih, g * H_p + u0, units)
        else:
            copy(X, (p0 // p_row + row) * I, x, source, I)


@jit
def block_end(active: Any, s0: int, end: int, reverse: bool, first: int, last: int, limit: int) -> int:
    """The end of a run of steps, from the s0-th on, before `end`, that hold at most `limit` rows or one step's."""
    total, s = 0, s0
    while s < end:
        rows = running(active, active.size - 1 - s if reverse else s, first, last)
        total += rows
        if total > max(limit, rows):
            break
        s += 1
    return s


@jit
def own(cuts: Any, by_units: bool, member: int, members: int, H_p: int, panel: int) -> tuple[int, int, int, int]:
    """The rows first..last and the units u0..u1 of a member: its rows cuts[member].., or of all rows some panels."""
    if by_units:
        panels = H_p // panel
        u0, u1 = panels * member // members * panel, panels * (member + 1) // members * panel
        return cuts[0], cuts[cuts.size - 1], u0, u1
    return cuts[member], cuts[member + 1], 0, H_p


@jit
def _continued(active: Any, t: int, order: Any, reverse: bool, resets: Any, first: int, rows: int) -> int:
    """The step whose states after it are, for all these rows, those before step t; -1 where there is none."""
    previous = t + 1 if reverse else t - 1
    if running(active, previous, first, first + rows) < rows:
        return -1
    if resets.size > 0:
        for row in range(rows):
            if resets[t * order.size + order[first + row]]:
                return -1
    return previous


@jit
def states_before(
    S: Any, s_slot: int, row0: int, t: int, order: Any, active: Any, start: Any, reverse: bool, resets: Any,
    initial: Any, after: Any, rows: int, first: int, n_states: int, H_p: int, u0: int, u1: int,
) -> None:  # fmt: skip
    """Fill rows row0.. of S [n_states, row, H_p] with the states before step t, reset where they are."""
    n_batch, a_row, units = order.size, n_states * H_p, u1 - u0
    previous = t + 1 if reverse else t - 1
    n_continued = running(active, previous, first, first + rows)
    for row in range(rows):
        is_reset = resets.size > 0 and resets[t * n_batch + order[first + row]]
        for k in range(n_states):
            to = k * s_slot + (row0 + row) * H_p + u0
            if is_reset:
                clear(S, to, units)
            elif row < n_continued:
                copy(S, to, after, (start[previous] + first + row) * a_row + k * H_p + u0, units)
            else:
                copy(S, to, initial, (k * n_batch + first + row) * H_p + u0, units)


@jit
def kept_or_gathered(
    S: Any, s_slot: int, t: int, order: Any, active: Any, start: Any, reverse: bool, resets: Any, initial: Any,
    after: Any, rows: int, first: int, n_states: int, H_p: int, u0: int, u1: int,
) -> tuple[Any, int, int, int]:  # fmt: skip
    """The states before step t: the array, where they begin, and how far apart its states and its rows lie.

    They are read where they are kept, in `after`, if all rows go on from one step; else S is filled with them.
    """
    before = _continued(active, t, order, reverse, resets, first, rows)
    if before >= 0:
        a_row = n_states * H_p
        return after, (start[before] + first) * a_row, H_p, a_row
    zero = integer(0)
    states_before(
        S, s_slot, zero, t, order, active, start, reverse, resets, initial, after, rows, first, n_states, H_p, u0, u1
    )
    return S, zero, s_slot, H_p


@intrinsic
def buffer(typing: Any, work: Any, offsets: Any, member: Any, k: Any) -> Any:
    """The k-th buffer of a member, part of `work`: offsets [members, 2 * n_buffers] tell where each begins and ends."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        table = cgutils.create_struct_proxy(offsets)(context, builder, arguments[1])
        width = cgutils.unpack_tuple(builder, table.shape)[1]
        twice = builder.mul(arguments[3], ir.Constant(arguments[3].type, 2))
        place = builder.gep(table.data, [builder.add(builder.mul(arguments[2], width), twice)])
        begin = builder.load(place)
        size = builder.sub(builder.load(builder.gep(place, [ir.Constant(ir.IntType(64), 1)])), begin)
        return array_at(context, builder, work, element_pointer(context, builder, work, arguments[0], begin), size)

    return work(work, offsets, types.intp, types.intp), generate
