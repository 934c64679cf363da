"""Gradients for few inputs, whose columns would fill but a part of a vector: univariate series, and the like.

The vectors lie along the gates instead, of which there are many: the weights and their gradient are kept transposed.
"""

from __future__ import annotations

from typing import Any

from rnn_gpu.kernels.numba_cpu.external import external
from rnn_gpu.kernels.numba_cpu.host import FEW_INPUTS
from rnn_gpu.kernels.numba_cpu.jit import jit
from rnn_gpu.kernels.numba_cpu.mathematics import multiply_add
from rnn_gpu.kernels.numba_cpu.product import lanes_of
from rnn_gpu.kernels.numba_cpu.simd import load, load_all, load_part, store, store_part, sum_of_lanes, zeros_like

__all__ = ["are_few", "few_in_order", "few_input_gradients", "few_weight_gradients", "inputs_are_few", "pack_few"]


def inputs_are_few(I: int, projected: int) -> bool:
    """Whether these are the functions for so many inputs."""
    return not projected and I <= FEW_INPUTS


are_few = jit(inputs_are_few)


@external("ainiiiaii", backward=True)
def pack_few(w: Any, I: int, gates: Any, g0: int, n: int, H: int, packed: Any, first: int, last: int) -> None:
    """packed[i, (g, j)] = w[gates[g0 + g] * H + j, i], g < n: for the columns (g, j) first..last; w [., I]."""
    for k in range(first, last):
        g, j = divmod(k, H)
        for i in range(I):
            packed[i * n * H + k] = w[(gates[g0 + g] * H + j) * I + i]


@external("aainiiiiii", backward=True)
def few_in_order(
    to: Any, source: Any, row: int, gates: Any, g0: int, n: int, I: int, H: int, member: int, members: int
) -> None:
    """to[(gates[g0 + g], j), i] = source[i, (g, j)] for g < n; source [I, row]: each member a share."""
    for k in range(n * H * member // members, n * H * (member + 1) // members):
        g, j = divmod(k, H)
        for i in range(I):
            to[(gates[g0 + g] * H + j) * I + i] = source[i * row + k]


@jit
def few_input_gradients(
    dx: Any, I: int, DP: Any, dp0: int, dp_row: int, width: int, W_t: Any, flat_rows: Any, rows0: int, in_order: int,
    first: int, last: int,
) -> None:  # fmt: skip
    """dx[r, i] = sum_m dP[r, m] W_t[i, m], m < width, of a block's rows first..last."""
    lanes = lanes_of(dx)
    panel = 4 * lanes  # as many sums at a time as do not wait for each other
    whole, panels = width - width % lanes, width - width % panel
    for k in range(first, last):
        at, to = dp0 + k * dp_row, (rows0 + k if in_order else flat_rows[rows0 + k]) * I
        for i in range(I):
            w = i * width
            a = load_part(DP, at + whole, width - whole) * load_part(W_t, w + whole, width - whole)
            b, c, d = zeros_like(dx), zeros_like(dx), zeros_like(dx)
            for m in range(0, panels, panel):
                a = multiply_add(load(DP, at + m), load(W_t, w + m), a)
                b = multiply_add(load(DP, at + m + lanes), load(W_t, w + m + lanes), b)
                c = multiply_add(load(DP, at + m + 2 * lanes), load(W_t, w + m + 2 * lanes), c)
                d = multiply_add(load(DP, at + m + 3 * lanes), load(W_t, w + m + 3 * lanes), d)
            for m in range(panels, whole, lanes):
                b = multiply_add(load(DP, at + m), load(W_t, w + m), b)
            dx[to + i] = sum_of_lanes((a + b) + (c + d))


@jit
def few_weight_gradients(
    dw: Any, dw_row: int, first: int, last: int, DP: Any, dp0: int, dp_row: int, x: Any, I: int, flat_rows: Any,
    rows0: int, in_order: int, added: int, steps: int,
) -> None:  # fmt: skip
    """dw[i, m] = [dw[i, m] if added] + sum_k dP[k, m] x[k, i], k < steps, first <= m < last; dw [I, dw_row].

    Row k of x is rows0 + k, or flat_rows[rows0 + k] unless in_order. What is added to is added last: a chain of more
    terms would lose more digits.
    """
    lanes, zeros = lanes_of(dw), zeros_like(dw)
    before, panel = lanes if added else 0, 4 * lanes
    for i in range(I):
        row = i * dw_row
        m = first
        while last - m >= panel:
            at, to = dp0 + m, row + m
            a, b, c, d = zeros, zeros, zeros, zeros
            for k in range(steps):
                scale = load_all(x, (rows0 + k if in_order else flat_rows[rows0 + k]) * I + i)
                a = multiply_add(load(DP, at + k * dp_row), scale, a)
                b = multiply_add(load(DP, at + k * dp_row + lanes), scale, b)
                c = multiply_add(load(DP, at + k * dp_row + 2 * lanes), scale, c)
                d = multiply_add(load(DP, at + k * dp_row + 3 * lanes), scale, d)
            store(dw, to, load_part(dw, to, before) + a)
            store(dw, to + lanes, load_part(dw, to + lanes, before) + b)
            store(dw, to + 2 * lanes, load_part(dw, to + 2 * lanes, before) + c)
            store(dw, to + 3 * lanes, load_part(dw, to + 3 * lanes, before) + d)
            m += panel
        while m < last:
            left = min(lanes, last - m)
            total = zeros
            for k in range(steps):
                scale = load_all(x, (rows0 + k if in_order else flat_rows[rows0 + k]) * I + i)
                total = multiply_add(load_part(DP, dp0 + k * dp_row + m, left), scale, total)
            store_part(dw, row + m, load_part(dw, row + m, left if added else 0) + total, left)
            m += lanes
