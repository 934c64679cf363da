"""Weights into panels: what every product reads, made of the caller's arrays by all members of a team, each a share.

A matrix B [K, N] is packed as [n_panels, K, panel], padded with zeros, the last panel narrower if it is at most half
full; gate blocks of H units are padded to H_p.
"""

from __future__ import annotations

from typing import Any

from rnn_gpu.kernels.numba_cpu.external import external
from rnn_gpu.kernels.numba_cpu.jit import jit
from rnn_gpu.kernels.numba_cpu.product import (
    clear,
    copy,
    integer,
    lanes_of,
    padded,
    panel_of,
    product,
    product_of_units,
    width_of,
)
from rnn_gpu.kernels.numba_cpu.simd import transpose, transpose_part

__all__ = [
    "pack_backward",
    "pack_columns",
    "pack_forward",
    "product_of_weights",
    "sums_in_order",
    "without_padding",
]


@jit
def pack_forward(
    raw: Any, packed: Any, gates: Any, stages: Any, n_gates: int, I: int, H: int, H_p: int, u0: int, u1: int,
    member: int, members: int, biases: bool, matrices: bool,
) -> None:  # fmt: skip
    """Fill V, if `biases`, b_ih and bias, and if `matrices`, W and U with what forward reads; vectors are padded.

    raw: w_ih [G*H, I], w_hh [S*H, H], b_ih [G*H], b_hh [S*H], vectors [n_vectors, H], flat, empty where there is none.
    gates: blocks of w_hh, stage after stage, which end at stages[1:]; then 0..G-1.
    u0, u1: the units of the member, if it has not all: it packs what nobody else reads.
    """
    w_ih, w_hh, b_ih, b_hh, vectors = raw
    W, padded_b_ih, U, bias, V = packed
    _pack_forward_by_symbol(
        w_ih, w_hh, b_ih, b_hh, vectors, W, padded_b_ih, U, bias, V, gates, stages, stages.size - 1, n_gates, I, H, H_p,
        u0, u1, member, members, biases, matrices, w_ih.size > 0, b_ih.size > 0, b_hh.size > 0, vectors.size // H,
    )  # fmt: skip


@external("aaaaaaaaaanniiiiiiiiiiiiiii")
def _pack_forward_by_symbol(
    w_ih: Any, w_hh: Any, b_ih: Any, b_hh: Any, vectors: Any, W: Any, padded_b_ih: Any, U: Any, bias: Any, V: Any,
    gates: Any, stages: Any, n_stages: int, n_gates: int, I: int, H: int, H_p: int, u0: int, u1: int, member: int,
    members: int, biases: int, matrices: int, has_w_ih: int, has_b_ih: int, has_b_hh: int, n_vectors: int,
) -> None:  # fmt: skip
    panel = panel_of(U)
    if member == 0:
        for k in range(n_vectors):
            copy(V, k * H_p, vectors, k * H, H)
            clear(V, k * H_p + H, H_p - H)
    in_order = stages[n_stages]
    if matrices and has_w_ih:
        _pack_share(w_ih, I, gates, in_order, n_gates, H, H_p, W, integer(0), u0, u1, member, members)
    if biases and member == 0:
        _pad_bias(b_ih, has_b_ih, gates, in_order, n_gates, H, H_p, padded_b_ih, integer(0))
    column = integer(0)
    for s in range(n_stages):
        g0, n = stages[s], stages[s + 1] - stages[s]
        if matrices:
            _pack_share(w_hh, H, gates, g0, n, H, H_p, U, column * H, u0, u1, member, members)
        if biases and member == 0:
            _pad_bias(b_hh, has_b_hh, gates, g0, n, H, H_p, bias, column)
        column += padded(n * H_p, panel)


@jit
def _pack_share(
    w: Any, depth: int, gates: Any, g0: int, n: int, H: int, H_p: int, packed: Any, at: int, u0: int, u1: int,
    member: int, members: int,
) -> None:  # fmt: skip
    """A member's share of `n` blocks of weights: of its units, whole panels of each block, or as much as the others."""
    panel = panel_of(packed)
    if u1 - u0 < H_p:
        for g in range(n):
            _pack_rows(w, depth, gates, g0, n, H, H_p, packed, at, (g * H_p + u0) // panel, (g * H_p + u1) // panel)
    else:
        n_panels = padded(n * H_p, panel) // panel
        first, last = n_panels * member // members, n_panels * (member + 1) // members
        _pack_rows(w, depth, gates, g0, n, H, H_p, packed, at, first, last)


@jit
def product_of_weights(
    c: Any, c_start: int, c_row: int, a: Any, a_start: int, a_row: int, weights: Any, packed_start: int, start: Any,
    start_start: int, rows: int, g0: int, n: int, H: int, H_p: int, first: int, last: int, depth: int,
) -> None:  # fmt: skip
    """C = start + A B^T for the units first..last of each of `n` blocks of weights, padded to H_p, from the g0-th on.

    weights: B packed, `packed_start` its first element; B as it is, [., depth]; its blocks' order; and where, in B
    packed, is room for one panel at a time, or -1 if it is packed already.
    """
    packed, w, gates, room = weights
    if room < 0:
        product_of_units(
            c, c_start, c_row, a, a_start, a_row, packed, packed_start, start, start_start, rows, n, H_p, first, last,
            depth,
        )  # fmt: skip
    else:
        _product_of_rows(
            c, c_start, c_row, a, a_start, a_row, w, gates, packed, room, start, start_start, rows, g0, n, H, H_p,
            first, last, depth,
        )  # fmt: skip


@external("aiiaiianaiaiiiiiiiii")
def _product_of_rows(
    c: Any, c_start: int, c_row: int, a: Any, a_start: int, a_row: int, w: Any, gates: Any, packed: Any, room: int,
    start: Any, start_start: int, rows: int, g0: int, n: int, H: int, H_p: int, first: int, last: int, depth: int,
) -> None:  # fmt: skip
    """The product with weights that are used once: each panel is packed where the last was, and stays in the cache."""
    panel, whole = panel_of(packed), first == 0 and last == H_p
    blocks, width = (1, n * H_p) if whole else (n, last - first)
    for block in range(blocks):
        begin = block * H_p + first
        for column in range(begin, begin + width, panel):
            p = column // panel
            _pack_rows(w, depth, gates, g0, n, H, H_p, packed, room - p * panel * depth, p, p + 1)
            product(
                c, c_start + column, c_row, a, a_start, a_row, packed, room, start, start_start + column,
                rows, min(panel, begin + width - column), depth,
            )  # fmt: skip


@jit
def pack_backward(
    w_hh: Any, U_t: Any, gates: Any, stages: Any, H: int, H_p: int, u0: int, u1: int, member: int, members: int
) -> None:
    """Fill U_t with what the transposed recurrent products read; units as `pack_forward` has them.

    w_hh [S*H, H]; gates: its blocks, stage after stage in backward's order, which end at stages[1:].
    """
    at, width = 0, padded(H, panel_of(U_t))
    for s in range(stages.size - 1):
        g0, n = stages[s], stages[s + 1] - stages[s]
        first, last = n * H * member // members, n * H * (member + 1) // members
        if u1 - u0 < H_p:
            first, last = integer(0), n * H
        pack_columns(w_hh, H, gates, g0, n, H, U_t, at, first, last, u0, min(H, u1))
        at += width * n * H


@jit
def without_padding(
    to: Any, source: Any, gates: Any, g0: int, n: int, columns: int, source_row: int, H: int, member: int,
    members: int,
) -> None:  # fmt: skip
    """to[(gates[g0 + g], j), k] = source[(g, j), k] for g < n, j < H, k < columns: each member a share."""
    for row in range(n * H * member // members, n * H * (member + 1) // members):
        g, j = divmod(row, H)
        copy(to, (gates[g0 + g] * H + j) * columns, source, row * source_row, columns)


@jit
def sums_in_order(to: Any, sums: Any, gates: Any, g0: int, n: int, H: int) -> None:
    """to[(gates[g0 + g], j)] = sums[(g, j)] for g < n, j < H."""
    for g in range(n):
        for j in range(H):
            to[gates[g0 + g] * H + j] = sums[g * H + j]


@jit
def _pack_rows(
    w: Any, depth: int, gates: Any, g0: int, n: int, H: int, H_p: int, packed: Any, at: int, first: int, last: int
) -> None:  # fmt: skip
    """Pack panels first..last of B[k, (g, j)] = w[gates[g0 + g] * H + j, k], g < n, from `at` on; w [., depth]."""
    panel, lanes = panel_of(packed), lanes_of(packed)
    whole = depth // lanes * lanes
    for p in range(first, last):
        base, width = at + p * panel * depth, width_of(n * H_p - p * panel, panel, lanes)
        for c0 in range(0, width, lanes):  # H_p is whole vectors: these columns are of one gate
            g, j = divmod(p * panel + c0, H_p)
            used = max(0, min(lanes, H - j)) if g < n else 0
            row = gates[g0 + g] * H + j if used > 0 else 0
            for k in range(0, depth, lanes):
                to = base + k * width + c0
                if used == lanes and k < whole:
                    transpose(w, row * depth + k, depth, packed, to, width)
                else:
                    transpose_part(w, row * depth + k, depth, used, min(lanes, depth - k), packed, to, width)


@external("ainiiiaiiiii", backward=True)
def pack_columns(
    w: Any, columns: int, gates: Any, g0: int, n: int, H: int, packed: Any, at: int, first: int, last: int, c0: int,
    c1: int,
) -> None:  # fmt: skip
    """Pack B[(g, i), k] = w[gates[g0 + g] * H + i, k], g < n, i < H, from `at` on; w [., columns].

    Of its rows first..last, and of these the panels of the columns c0..c1.
    """
    panel, lanes, depth = panel_of(packed), lanes_of(packed), n * H
    for k in range(first, last):
        g, i = divmod(k, H)
        for p in range(c0 // panel, padded(c1, panel) // panel):
            width, used = width_of(columns - p * panel, panel, lanes), min(panel, columns - p * panel)
            to = at + p * depth * panel + k * width
            copy(packed, to, w, (gates[g0 + g] * H + i) * columns + p * panel, used)
            clear(packed, to + used, width - used)


@jit
def _pad_bias(b: Any, given: int, gates: Any, g0: int, n: int, H: int, H_p: int, to: Any, at: int) -> None:
    """b's blocks gates[g0..g0 + n], each padded to H_p, all to whole panels, from `at` on; zeros for an empty b."""
    clear(to, at, padded(n * H_p, panel_of(to)))
    if given:
        for g in range(n):
            copy(to, at + g * H_p, b, gates[g0 + g] * H, H)
