"""Matrix products over packed weights, each sum in the order of its K axis whatever else is computed with it.

All arrays are flat. `panels.py` tells how weights are packed; gate blocks of H units are padded to H_p, the next
multiple of a vector's lanes.
"""

from __future__ import annotations

from typing import Any

from rnn_gpu.kernels.numba_cpu.external import external
from rnn_gpu.kernels.numba_cpu.host import CACHE_LINE, DEPTH, ROWS_OF_TWO_VECTORS, TILE_ROWS, TRAITS
from rnn_gpu.kernels.numba_cpu.jit import jit
from rnn_gpu.kernels.numba_cpu.simd import (
    add_wide,
    clear_vector,
    fetch_to_read,
    fetch_to_write,
    load,
    load_part,
    move_tile_row,
    store,
    store_part,
    widened,
    zeros_like,
)
from rnn_gpu.kernels.numba_cpu.tile import compute_tile

__all__ = [
    "add",
    "clear",
    "column_sums",
    "copy",
    "fetch_rows",
    "integer",
    "lanes_of",
    "pack_operand",
    "padded",
    "panel_of",
    "product",
    "product_of_units",
    "product_over_rows",
    "store_within",
    "width_of",
]

_LANES4, _LANES8 = TRAITS.lanes(4), TRAITS.lanes(8)
_PANEL4, _PANEL8 = TRAITS.panel(4), TRAITS.panel(8)


@jit
def lanes_of(array: Any) -> int:
    """Elements of `array` in a vector."""
    return _LANES4 if array.itemsize == 4 else _LANES8


@jit
def panel_of(array: Any) -> int:
    """Columns of a panel of `array`'s elements."""
    return _PANEL4 if array.itemsize == 4 else _PANEL8


@jit
def integer(value: int) -> int:
    """`value`: of type int64 where a literal would give a function that takes it a compilation of its own."""
    return value + 0


@jit
def padded(size: int, multiple: int) -> int:
    """`size` rounded up."""
    return (size + multiple - 1) // multiple * multiple


@jit
def copy(to: Any, to_start: int, source: Any, source_start: int, count: int) -> None:
    """Copy `count` elements."""
    lanes = lanes_of(to)
    whole = count - count % lanes
    for k in range(0, whole, lanes):
        store(to, to_start + k, load(source, source_start + k))
    if whole < count:
        left = count - whole
        store_part(to, to_start + whole, load_part(source, source_start + whole, left), left)


@jit
def add(to: Any, to_start: int, source: Any, source_start: int, count: int) -> None:
    """Add `count` elements to others."""
    lanes = lanes_of(to)
    whole = count - count % lanes
    for k in range(0, whole, lanes):
        store(to, to_start + k, load(to, to_start + k) + load(source, source_start + k))
    if whole < count:
        at, left = to_start + whole, count - whole
        store_part(to, at, load_part(to, at, left) + load_part(source, source_start + whole, left), left)


@jit
def clear(to: Any, to_start: int, count: int) -> None:
    """Zero `count` elements."""
    lanes = lanes_of(to)
    whole = count - count % lanes
    for k in range(0, whole, lanes):
        clear_vector(to, to_start + k)
    if whole < count:
        store_part(to, to_start + whole, zeros_like(to), count - whole)


@jit
def _strips(columns: int, panel: int, lanes: int) -> int:
    """Into how many narrow tiles the columns left, at most a panel's, are best cut; 0 for one wide tile."""
    vectors = (min(columns, panel) + lanes - 1) // lanes
    return vectors if vectors * lanes * 2 <= panel else 0


@jit
def width_of(columns: int, panel: int, lanes: int) -> int:
    """How far apart the rows of a packed panel lie, of which so many columns are left: a narrow one has no room for
    more, as every second line of a cache would be no use.
    """
    strips = _strips(columns, panel, lanes)
    return strips * lanes if strips > 0 else panel


@jit
def store_within(to: Any, at: int, vector: Any, left: int) -> None:
    """Write a vector, or of it the lanes that there is room for."""
    if left >= lanes_of(to):
        store(to, at, vector)
    else:
        store_part(to, at, vector, left)


@external("aiiaiiaiaiiii")
def product(
    c: Any, c_start: int, c_row: int, a: Any, a_start: int, a_row: int, packed: Any, packed_start: int,
    start: Any, start_start: int, rows: int, columns: int, depth: int,
) -> None:  # fmt: skip
    """C[r, n] = start[n] + sum_k A[r, k] B[k, n] for r < rows, n < columns padded to whole vectors, at times to panels.

    Each array comes with the offset of its first element and the stride of its rows; start is one row for all.
    """
    panel, lanes = panel_of(packed), lanes_of(packed)
    zero, one = integer(0), integer(1)
    chain = max(1, depth)
    if chain > DEPTH:  # a longer one would lose more digits; all of like length
        chains = (depth + DEPTH - 1) // DEPTH
        chain = (depth + chains - 1) // chains
    for p in range(padded(columns, panel) // panel):
        strips, width = _strips(columns - p * panel, panel, lanes), width_of(columns - p * panel, panel, lanes)
        at_a_time = strips if strips == 2 and rows <= ROWS_OF_TWO_VECTORS else min(strips, 1)
        for k0 in range(0, max(depth, 1), chain):
            steps = min(chain, depth - k0)
            for strip in range(0, max(strips, 1), max(at_a_time, 1)):
                shift = strip * lanes
                base = packed_start + p * depth * panel + k0 * width + shift
                row = 0
                while row < rows:
                    height = rows - row
                    if height > TILE_ROWS:
                        tiles = (height + TILE_ROWS - 1) // TILE_ROWS
                        height = (height + tiles - 1) // tiles  # of like height: none is left with a row or two
                    at, from_ = c_start + row * c_row + p * panel + shift, a_start + row * a_row + k0
                    if k0 == 0:
                        compute_tile(
                            at_a_time, height, c, at, c_row, a, from_, a_row, one, packed, base, width, steps,
                            start, start_start + p * panel + shift, zero, zero,
                        )  # fmt: skip
                    else:
                        compute_tile(
                            at_a_time, height, c, at, c_row, a, from_, a_row, one, packed, base, width, steps,
                            c, at, c_row, one,
                        )  # fmt: skip
                    row += height


@jit
def product_of_units(
    c: Any,
    c_start: int,
    c_row: int,
    a: Any,
    a_start: int,
    a_row: int,
    packed: Any,
    packed_start: int,
    start: Any,
    start_start: int,
    rows: int,
    blocks: int,
    hidden_p: int,
    first: int,
    last: int,
    depth: int,
) -> None:
    """`product` for `blocks` blocks of H_p columns, of each the columns first..last: all, or some whole panels."""
    if first == 0 and last == hidden_p:
        product(
            c, c_start, c_row, a, a_start, a_row, packed, packed_start, start, start_start,
            rows, blocks * hidden_p, depth,
        )  # fmt: skip
        return
    for block in range(blocks):
        column = block * hidden_p + first
        product(
            c, c_start + column, c_row, a, a_start, a_row, packed, packed_start + column * depth,
            start, start_start + column, rows, last - first, depth,
        )  # fmt: skip


@external("aiiii")
def fetch_rows(a: Any, a_start: int, a_row: int, rows: int, columns: int) -> None:
    """Ask for rows of A of which other members have just written a part.

    It comes from another processor's cache, which may be far. A product that asked for each line when it needs it would
    wait for them one after the other.
    """
    line = CACHE_LINE // a.itemsize
    for row in range(rows):
        for column in range(0, columns, line):
            fetch_to_read(a, a_start + row * a_row + column)


@jit
def pack_operand(packed: Any, a: Any, a_start: int, a_row: int, steps: int, columns: int) -> None:
    """Pack A[k, m], k < steps, m < columns, into tiles [tile, steps, TILE_ROWS]."""
    tiles = (columns + TILE_ROWS - 1) // TILE_ROWS
    for k0 in range(0, steps, 8):  # few rows at a time: the cache lines that neighbouring tiles share stay
        k1 = min(k0 + 8, steps)
        for tile in range(tiles):
            height = min(TILE_ROWS, columns - tile * TILE_ROWS)
            for k in range(k0, k1):
                to = (tile * steps + k) * TILE_ROWS
                source = a_start + k * a_row + tile * TILE_ROWS
                if height == TILE_ROWS:
                    move_tile_row(packed, to, a, source)
                else:
                    for m in range(height):
                        packed[to + m] = a[source + m]


@external("aiiianaiiiiiiaa", backward=True)
def product_over_rows(
    c: Any, c_row: int, first: int, last: int, a_packed: Any, b_rows: Any, b: Any, rows0: int, b_start: int, b_row: int,
    more: int, steps: int, columns: int, b_packed: Any, zeros: Any,
) -> None:  # fmt: skip
    """C[m, n] = [C[m, n] if more] + sum_k A[k, m] B[k, n] for k < steps, first <= m < last, n < columns.

    a_packed: A's columns first..last, packed. Row k of B begins at b_start + b_rows[rows0 + k] * b_row, or, if rows0 is
    negative, at b_start + k * b_row: such rows are read as they are, but for the last columns that fill no panel.
    b_packed [panel * DEPTH_OVER_ROWS]: work; zeros [panel]. c [., c_row].
    """
    panel, lanes = panel_of(c), lanes_of(c)
    for p in range(padded(columns, panel) // panel):
        used, start = min(panel, columns - p * panel), b_start + p * panel
        strips = _strips(used, panel, lanes)
        if used == panel and rows0 < 0:
            _rows_of_panel(c, c_row, first, last, p, a_packed, b, start, b_row, more, steps, strips, zeros)
        else:
            width = width_of(used, panel, lanes)
            for k in range(steps):
                r = b_rows[rows0 + k] if rows0 >= 0 else k
                copy(b_packed, k * width, b, start + r * b_row, used)
                clear(b_packed, k * width + used, width - used)
            _rows_of_panel(c, c_row, first, last, p, a_packed, b_packed, integer(0), width, more, steps, strips, zeros)


@jit
def _rows_of_panel(
    c: Any, c_row: int, first: int, last: int, p: int, a_packed: Any, b: Any, b_start: int, b_step: int, more: int,
    steps: int, strips: int, zeros: Any,
) -> None:  # fmt: skip
    """`product_over_rows` for the p-th panel, whole or in narrow strips: all rows of C, a tile at a time."""
    panel, lanes = panel_of(c), lanes_of(c)
    zero, one, tall = integer(0), integer(1), integer(TILE_ROWS)
    for m0 in range(first, last, TILE_ROWS):
        from_, height = (m0 - first) * steps, min(TILE_ROWS, last - m0)
        for strip in range(max(strips, 1)):
            shift = strip * lanes
            at = m0 * c_row + p * panel + shift
            if not more:
                compute_tile(
                    min(strips, 1), height, c, at, c_row, a_packed, from_, one, tall, b, b_start + shift, b_step, steps,
                    zeros, zero, zero, zero,
                )  # fmt: skip
            else:
                _fetch_tile(height, lanes if strips > 0 else panel, c, at, c_row)
                compute_tile(
                    min(strips, 1), height, c, at, c_row, a_packed, from_, one, tall, b, b_start + shift, b_step, steps,
                    c, at, c_row, one,
                )  # fmt: skip


@jit
def _fetch_tile(rows: int, columns: int, c: Any, c_start: int, c_row: int) -> None:
    """Ask for a tile of C that is to be added to when another has been computed."""
    for row in range(rows):
        for column in range(0, columns, lanes_of(c)):
            fetch_to_write(c, c_start + row * c_row + column)


@jit
def column_sums(sums: Any, a: Any, a_start: int, a_row: int, steps: int, first: int, last: int) -> None:
    """sums[m] += sum_k a[k, m], in float64, for k < steps, first <= m < last."""
    lanes = lanes_of(a)
    for m in range(first, last, lanes):
        at, left = a_start + m, last - m
        if steps > 0 and left >= lanes:
            total = widened(load(a, at))
            for k in range(1, steps):
                total = total + widened(load(a, at + k * a_row))
            add_wide(sums, m, total)
        else:
            for n in range(left):
                one = 0.0
                for k in range(steps):
                    one += a[at + k * a_row + n]
                sums[m + n] += one
