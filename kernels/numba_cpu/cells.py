"""Cells inside compiled code: a cell as a Numba type, and the two functions that every driver calls for a step.

A driver that closed over a cell's functions would be compiled anew in each process. A cell is a type of its own
instead, whose name carries a digest of all that its code depends on; the drivers are ordinary cached functions, and
`forward_step(cell, ...)` is resolved by that type.
"""

from __future__ import annotations

import inspect
import linecache
from functools import cache
from typing import Any

from numba.extending import overload, typeof_impl

from rnn_gpu.compiler import emit_python
from rnn_gpu.compiler.cell import Cell
from rnn_gpu.kernels.numba_cpu import emit_steps, mathematics, panels, product
from rnn_gpu.kernels.numba_cpu.jit import INSIDE, EmptyType, digest_of, jit
from rnn_gpu.kernels.numba_cpu.simd import add_wide, load, store
from rnn_gpu.kernels.numba_cpu.team import meet

__all__ = ["CompiledCell", "backward_step", "compiled", "forward_step"]


def forward_step(
    cell: Any, P: Any, p0: int, p_row: int, R: Any, r_row: int, S: Any, s0: int, s_slot: int, s_row: int,
    N: Any, n0: int, n_slot: int, n_row: int, Q: Any, q0: int, q_row: int, keep: bool, C: Any, c_slot: int,
    V: Any, U: Any, bias: Any, rows: int, H: int, H_p: int, team: Any, first: int, last: int,
) -> None:  # fmt: skip
    """One step of the cell over `rows` rows, forward, for the units first..last: the rest is its team's.

    Flat arrays, each with an offset or a stride; state k of row r lies at s0 + k * s_slot + r * s_row of S, and so N:

    in   P [row, G, H_p] at p0: W x_t + b_ih       S: states before the step
         U: recurrent weights as `product_of_weights` has them, packed a stage after another
         bias: b_hh laid out as a row of R
         V [n_vectors, H_p]
    out  N: states after the step    Q [row, n_saved, H_p] at q0: values saved for backward, if
         `keep`, else of these only what the step itself reads again
    work R [row, r_row]: products, each stage padded to whole panels    C [n_scratch, row, H_p], slots c_slot apart
    """
    raise TypeError("forward_step is for compiled code")


def backward_step(
    cell: Any, D: Any, E: Any, c_slot: int, S: Any, s0: int, s_slot: int, s_row: int, A: Any, a0: int, a_row: int,
    Q: Any, q0: int, q_row: int,
    V: Any, DV: Any, dv0: int, dv_slot: int, C: Any, T: Any, t_row: int, DR: Any, dr0: int, dr_row: int,
    DP: Any, dp0: int, dp_row: int, O: Any, o0: int, o_row: int, U: Any, zeros: Any, rows: int, H: int, H_p: int,
    team: Any, first: int, last: int,
) -> None:  # fmt: skip
    """One step of the cell over `rows` rows, backward, for the units first..last: the rest is its team's.

    Flat arrays, each with an offset or a stride:

    in   D [n_states, row, H_p]: gradients of the states after the step; slots of D, E and C are c_slot apart
         S, V: as forward's
         A [row, n_states, H_p] at a0: states after the step    Q [row, n_saved, H_p] at q0: what forward saved
         U: packed transposed weights, a stage after another, the last first    zeros [H_p padded]
    out  E [n_states, row, H_p]: gradients of the states before the step
         DR [row, S, H] at dr0: gradients of U operand + b_hh, in the order of the stages
         DP [row, G, H] at dp0: gradients of W x_t + b_ih; not written where `CompiledCell.shared`
         O [row, n_stages, H_p] at o0: the stages' operands
    adds DV [n_vectors, row, H_p] at dv0, slots dv_slot apart: gradients of the vectors, float64
    work C [n_scratch, row, H_p]    T [n_stages, row, t_row]: transposed products
    """
    raise TypeError("backward_step is for compiled code")


class CompiledCell:
    """A cell as a value that compiled code takes. It is empty there: its type says it all.

    scratch: slots of C that a step needs, forward and backward. shared: dP and dR are one array.
    """

    def __init__(self, cell: Cell) -> None:
        program = cell.program
        self.cell = cell
        self.shared = program.shares_gradient
        self.steps = {
            "forward_step": emit_steps.forward_step(program, _parameters(forward_step)),
            "backward_step": emit_steps.backward_step(program, _parameters(backward_step)),
        }
        self.scratch = max(step.scratch for step in self.steps.values())
        digest = digest_of(cell.source("python"), *(step.text for step in self.steps.values()))
        self.numba_type = EmptyType(f"Cell({cell.name}, {digest})")
        self.numba_type.contents = self

    def function(self, name: str, scalar: Any) -> Any:
        """The cell's step `name` as a Python function over arrays of `scalar`."""
        real, functions = mathematics.REAL[scalar], mathematics.FUNCTIONS[scalar]
        namespace: dict[str, Any] = {
            key: jit(function) for key, function in emit_python.compiled(self.cell.program, real, functions).items()
        }
        namespace |= {"real": real, "load": load, "store": store, "add_wide": add_wide, "meet": meet}
        namespace["product_of_weights"] = panels.product_of_weights
        shared = "fetch_rows integer lanes_of padded panel_of product_of_units store_within"
        namespace |= {key: getattr(product, key) for key in shared.split()}
        text, filename = self.steps[name].text, f"<rnn_gpu {self.cell.name} {name}>"
        exec(compile(text, filename, "exec"), namespace)
        linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)
        return namespace[name]


@typeof_impl.register(CompiledCell)
def _type_of(value: CompiledCell, context: Any) -> EmptyType:
    return value.numba_type


@cache
def compiled(cell: Cell) -> CompiledCell:
    """The cell for compiled code."""
    return CompiledCell(cell)


def _parameters(function: Any) -> str:
    return ", ".join(list(inspect.signature(function).parameters)[1:])


def _resolve(step: Any) -> None:
    """Let compiled code call `step` as the function of the cell's type and of the arrays' scalars."""
    states = _parameters(step).split(", ").index("S")

    @overload(step, jit_options=INSIDE, strict=False)
    def resolved(cell: Any, *arguments: Any) -> Any:
        return cell.contents.function(step.__name__, arguments[states].dtype)


_resolve(forward_step)
_resolve(backward_step)
