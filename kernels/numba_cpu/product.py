"""Matrix products over packed weights, each sum in the order of its K axis whatever else is computed with it.

All arrays are flat. A weight matrix is packed once a call into panels, [n_panels, K, panel], padded with zeros; gate
blocks of H units are padded to H_p, the next multiple of a vector's lanes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rnn_gpu.kernels.numba_cpu.host import DEPTH, TILE_ROWS, TRAITS
from rnn_gpu.kernels.numba_cpu.jit import cached_jit, jit
from rnn_gpu.kernels.numba_cpu.simd import add_wide, load, store, transpose
from rnn_gpu.kernels.numba_cpu.tile import TILES

__all__ = [
    "clear",
    "clear_padding",
    "column_sums",
    "copy",
    "integer",
    "lanes_of",
    "pack_columns",
    "pack_operand",
    "pack_rows",
    "padded",
    "panel_of",
    "product",
    "product_of_units",
    "product_over_rows",
]

_tile1, _tile2, _tile3, _tile4, _tile5, _tile6 = TILES
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
    """Copy `count` elements. Slices would do, and take Numba seconds to compile."""
    for k in range(count):
        to[to_start + k] = source[source_start + k]


@jit
def clear(to: Any, to_start: int, count: int) -> None:
    """Zero `count` elements."""
    for k in range(count):
        to[to_start + k] = 0


@cached_jit
def pack_rows(build: Any, w: Any, blocks: Any, hidden: int, hidden_p: int, packed: Any, first: int, last: int) -> None:
    """Pack panels first..last of B[k, (g, j)] = w[blocks[g] * H + j, k]; w [n * H, K]."""
    panel, lanes, depth = panel_of(packed), lanes_of(packed), w.shape[1]
    whole = depth // lanes * lanes
    for p in range(first, last):
        base = p * panel * depth
        for c0 in range(0, panel, lanes):  # H_p is whole vectors: these columns are of one gate
            g, j = divmod(p * panel + c0, hidden_p)
            used = max(0, min(lanes, hidden - j)) if g < blocks.size else 0
            row = blocks[g] * hidden + j if used > 0 else 0
            if used == lanes:
                for k in range(0, whole, lanes):
                    transpose(w, row * depth + k, depth, packed, base + k * panel + c0, panel)
            for k in range(whole if used == lanes else 0, depth):
                for column in range(used):
                    packed[base + k * panel + c0 + column] = w[row + column, k]
                clear(packed, base + k * panel + c0 + used, lanes - used)


@cached_jit
def pack_columns(
    build: Any, w: Any, blocks: Any, hidden: int, hidden_p: int, packed: Any, first: int, last: int
) -> None:
    """Pack panels first..last of B[(g, i), n] = w[blocks[g] * H + i, n]; w [m * H, N]. K is len(blocks) * H_p."""
    panel, depth, columns = panel_of(packed), blocks.size * hidden_p, w.shape[1]
    for p in range(first, last):
        used = min(panel, columns - p * panel)
        for g in range(blocks.size):
            for i in range(hidden_p):
                base = (p * depth + g * hidden_p + i) * panel
                if i < hidden:
                    row = blocks[g] * hidden + i
                    for column in range(used):
                        packed[base + column] = w[row, p * panel + column]
                    clear(packed, base + used, panel - used)
                else:
                    clear(packed, base, panel)


@jit
def _any_tile(
    rows: int,
    c: Any,
    c_start: int,
    c_row: int,
    a: Any,
    a_start: int,
    a_row: int,
    a_step: int,
    panel: Any,
    panel_start: int,
    depth: int,
    start: Any,
    start_start: int,
    start_row: int,
) -> None:
    """A tile of 1 to 6 rows."""
    if rows == 6:
        _tile6(c, c_start, c_row, a, a_start, a_row, a_step, panel, panel_start, depth, start, start_start, start_row)
    elif rows == 5:
        _tile5(c, c_start, c_row, a, a_start, a_row, a_step, panel, panel_start, depth, start, start_start, start_row)
    elif rows == 4:
        _tile4(c, c_start, c_row, a, a_start, a_row, a_step, panel, panel_start, depth, start, start_start, start_row)
    elif rows == 3:
        _tile3(c, c_start, c_row, a, a_start, a_row, a_step, panel, panel_start, depth, start, start_start, start_row)
    elif rows == 2:
        _tile2(c, c_start, c_row, a, a_start, a_row, a_step, panel, panel_start, depth, start, start_start, start_row)
    else:
        _tile1(c, c_start, c_row, a, a_start, a_row, a_step, panel, panel_start, depth, start, start_start, start_row)


@jit
def product(
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
    columns: int,
    depth: int,
) -> None:
    """C[r, n] = start[n] + sum_k A[r, k] B[k, n] for r < rows, n < columns padded to whole panels.

    Each array comes with the offset of its first element and the stride of its rows; start is one row for all.
    """
    panel = panel_of(packed)
    zero, one = integer(0), integer(1)
    part = np.empty(TILE_ROWS * panel if depth > DEPTH else 0, c.dtype)
    zeros = np.zeros(panel if depth > DEPTH else 0, c.dtype)
    chains = max(1, (depth + DEPTH - 1) // DEPTH)
    chain = max(1, (depth + chains - 1) // chains)  # all of like length
    for p in range(padded(columns, panel) // panel):
        for k0 in range(0, max(depth, 1), chain):
            steps = min(chain, depth - k0)
            base = packed_start + (p * depth + k0) * panel
            row = 0
            while row < rows:
                tiles = (rows - row + TILE_ROWS - 1) // TILE_ROWS
                height = (rows - row + tiles - 1) // tiles  # tiles of like height: none is left with a row or two
                at, from_ = c_start + row * c_row + p * panel, a_start + row * a_row + k0
                if k0 == 0:
                    _any_tile(
                        height, c, at, c_row, a, from_, a_row, one, packed, base, steps,
                        start, start_start + p * panel, zero,
                    )  # fmt: skip
                else:
                    _any_tile(height, part, zero, panel, a, from_, a_row, one, packed, base, steps, zeros, zero, zero)
                    _add_tile(height, c, at, c_row, part)
                row += height


@jit
def _add_tile(rows: int, c: Any, c_start: int, c_row: int, part: Any) -> None:
    """Add a tile to C: sums of more than DEPTH terms are sums of partial sums, which lose fewer digits."""
    panel, lanes = panel_of(c), lanes_of(c)
    for row in range(rows):
        for column in range(0, panel, lanes):
            at = c_start + row * c_row + column
            store(c, at, load(c, at) + load(part, row * panel + column))


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
                    for m in range(TILE_ROWS):  # of known length: unrolled
                        packed[to + m] = a[source + m]
                else:
                    for m in range(height):
                        packed[to + m] = a[source + m]


@jit
def product_over_rows(
    c: Any,
    c_row: int,
    first: int,
    last: int,
    a_packed: Any,
    b: Any,
    b_rows: Any,
    r0: int,
    steps: int,
    columns: int,
    b_packed: Any,
    zeros: Any,
) -> None:
    """C[m, n] = [C[m, n] if r0 > 0] + sum_r A[r, m] B[r, n] for r0 <= r < r0 + steps, first <= m < last, n < columns.

    a_packed: A's columns first..last, packed; b_rows [R]: offset in b of the first element of each row; c [., c_row].
    b_packed [panel * DEPTH_OVER_ROWS]: work; zeros [panel].
    """
    panel = panel_of(c)
    zero, one, tall = integer(0), integer(1), integer(TILE_ROWS)
    part = np.empty(TILE_ROWS * panel if r0 > 0 else 0, c.dtype)
    for p in range(padded(columns, panel) // panel):
        used = min(panel, columns - p * panel)
        for k in range(steps):
            copy(b_packed, k * panel, b, b_rows[r0 + k] + p * panel, used)
            clear(b_packed, k * panel + used, panel - used)
        for m0 in range(first, last, TILE_ROWS):
            at, from_, height = m0 * c_row + p * panel, (m0 - first) * steps, min(TILE_ROWS, last - m0)
            if r0 == 0:
                _any_tile(
                    height, c, at, c_row, a_packed, from_, one, tall, b_packed, zero, steps, zeros, zero, zero
                )  # fmt: skip
            else:
                _any_tile(
                    height, part, zero, panel, a_packed, from_, one, tall, b_packed, zero, steps, zeros, zero, zero
                )
                _add_tile(height, c, at, c_row, part)


@jit
def column_sums(sums: Any, a: Any, a_row: int, r0: int, steps: int, first: int, last: int) -> None:
    """sums[m] += sum_r a[r, m], in float64, for r0 <= r < r0 + steps, first <= m < last, multiples of the lanes."""
    for r in range(r0, r0 + steps):
        for m in range(first, last, lanes_of(a)):
            add_wide(sums, m, load(a, r * a_row + m))


@jit
def clear_padding(a: Any, a_start: int, a_row: int, rows: int, blocks: int, hidden: int, hidden_p: int) -> None:
    """Zero the units from H to H_p of each block, so that products may run over them."""
    for row in range(rows):
        for block in range(blocks):
            base = a_start + row * a_row + block * hidden_p
            for unit in range(hidden, hidden_p):
                a[base + unit] = 0
