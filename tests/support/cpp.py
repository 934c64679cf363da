"""Cells' C++ source, compiled for the host and driven as a kernel would drive it: the products are NumPy's.

Registers that hold nothing yet are full of NaN, and so are those whose value was for one function only.
"""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import rnn_gpu
from support.calls import Call

__all__ = ["Units", "build", "run"]

FLAGS = """
    -std=c++17 -O1 -ffp-contract=off -shared -fPIC -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wdouble-promotion
    -Werror
""".split()
"""-Wdouble-promotion: float code that computes in double does not compile."""

PRELUDE = r"""
#include <cmath>
#include <utility>
#define __device__
namespace cells {
using std::abs; using std::cos; using std::exp; using std::log; using std::sin; using std::sqrt; using std::tanh;
template <class T> T sigmoid(T x) { return T(1) / (T(1) + exp(-x)); }
template <class T> T relu(T x) { return x < T(0) ? T(0) : x; }
template <class T> T softplus(T x) { return x > T(0) ? x + std::log1p(exp(-x)) : std::log1p(exp(x)); }
template <class T> T sign(T x) { return x > T(0) ? T(1) : x < T(0) ? T(-1) : x; }
template <class T> T maximum(T a, T b) { return a >= b || a != a ? a : b; }
template <class T> T minimum(T a, T b) { return a <= b || a != a ? a : b; }

template <class Call, int... k>
void dispatch(int segment, std::integer_sequence<int, k...>, Call call) {
  (void)((segment == k && (call(std::integral_constant<int, k>{}), true)) || ...);
}
"""

# units: one register struct after the other, seen from Python as an array [unit, register].
ENTRY = r"""
extern "C" void {cell}_{type}_{function}(int segment, long count, {type}* units) {{
  using Registers = cells::{cell}::{registers}<{type}>;
  static_assert(sizeof(Registers) == {size} * sizeof({type}), "the registers are those that Python counts");
  const auto each = [&](auto k) {{
    for (long u = 0; u < count; ++u)
      cells::{cell}::{function}<decltype(k)::value>(reinterpret_cast<Registers*>(units)[u]);
  }};
  cells::dispatch(segment, std::make_integer_sequence<int, {segments}>{{}}, each);
}}
"""

TYPES = {"float64": "double", "float32": "float"}


def build(cells: Sequence[rnn_gpu.Cell], folder: Path) -> ctypes.CDLL:
    """Compile the cells into one library. Fails on any warning."""
    text = [PRELUDE]
    for cell in cells:
        text += [cell.source("cuda"), *(f"static_assert({cell.name}::{n} == {k});" for n, k in _counts(cell).items())]
    text.append("}  // namespace cells")
    for cell in cells:
        stages = len(cell.stages)
        for function, segments in (("forward", stages + 1), ("backward", stages + 1), ("operand", stages)):
            registers = "Forward" if function == "forward" else "Backward"
            size = sum(_layout(cell, registers).values())
            for name in TYPES.values() if segments else ():
                entry = {"cell": cell.name, "type": name, "function": function, "registers": registers}
                text.append(ENTRY.format(**entry, size=size, segments=segments))
    (folder / "cells.cpp").write_text("\n".join(text))
    command = ["g++", *FLAGS, "cells.cpp", "-o", "cells.so"]
    compiled = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert compiled.returncode == 0, compiled.stderr[:10000]
    return ctypes.CDLL(str(folder / "cells.so"))


def _counts(cell: rnn_gpu.Cell) -> dict[str, int]:
    return {
        "n_input": len(cell.input_gates),
        "n_recurrent": len(cell.recurrent_gates),
        "n_state": len(cell.states),
        "n_vector": len(cell.vectors),
        "n_saved": len(cell.saved),
        "n_stages": len(cell.stages),
        "n_backward_stages": len(cell.program.backward_stages),
        **{f"stage_of({cell.name}::recurrent::{gate})": k for k, gates in enumerate(cell.stages) for gate in gates},
    }


def _carried(cell: rnn_gpu.Cell, direction: str) -> int:
    line = next(line for line in cell.source("cuda").splitlines() if f"int n_{direction}_carried" in line)
    return int(line.removesuffix(";").split()[-1])


def _layout(cell: rnn_gpu.Cell, registers: str) -> dict[str, int]:
    """The number of values in each register, in their order."""
    wx, u, state, vector, saved = map(
        len, (cell.input_gates, cell.recurrent_gates, cell.states, cell.vectors, cell.saved)
    )
    operand = int(bool(cell.stages))
    if registers == "Forward":
        return {
            "Wx": wx, "U": u, "state": state, "vector": vector, "operand": operand, "saved": saved,
            "state_new": state, "carried": _carried(cell, "forward"),
        }  # fmt: skip
    return {
        "d_state_new": state, "d_operand": int(bool(cell.program.backward_stages)), "state": state,
        "state_new": state, "vector": vector, "saved": saved, "d_U": u, "d_Wx": wx, "d_vector": vector,
        "d_state": state, "operand": operand, "carried": _carried(cell, "backward"),
    }  # fmt: skip


class Units:
    """The registers of B * H hidden units, and the functions that work on them."""

    def __init__(self, library: ctypes.CDLL, call: Call, registers: str) -> None:
        cell, vectors = call.cell, list(call.weights.vectors.values())
        self.library, self.prefix, self.dtype = library, f"{cell.name}_{TYPES[call.x.dtype.name]}", call.x.dtype
        self.shape = call.dy.shape[1:]
        sizes = _layout(cell, registers)
        self.memory = np.full((*self.shape, sum(sizes.values())), np.nan, self.dtype)
        ends = np.cumsum(list(sizes.values()))
        self.of = {
            name: np.moveaxis(self.memory[..., end - size : end], -1, 0)
            for (name, size), end in zip(sizes.items(), ends, strict=True)
        }
        self.of["vector"][...] = np.stack(vectors)[:, None] if vectors else self.of["vector"]

    def run(self, function: str, segment: int) -> None:
        entry = getattr(self.library, f"{self.prefix}_{function}")
        entry(segment, ctypes.c_long(self.memory[..., 0].size), self.memory.ctypes.data_as(ctypes.c_void_p))


def run(library: ctypes.CDLL, call: Call) -> dict[str, np.ndarray]:
    """The results of `support.calls.results`, for a call without lengths, resets or reverse."""
    cell, w, dtype = call.cell, call.weights, call.x.dtype
    T, B, H = call.dy.shape
    inputs, recurrents = len(cell.input_gates), len(cell.recurrent_gates)
    place = {gate: k for k, gate in enumerate(cell.recurrent_gates)}
    stages = [[place[gate] for gate in gates] for gates in cell.stages]
    u = None if w.w_hh is None else w.w_hh.reshape(recurrents, H, H)
    wx = call.x @ w.w_ih.T + w.b_ih if inputs else np.zeros((T, B, 0), dtype)
    wx = wx.reshape(T, B, inputs, H).transpose(0, 2, 1, 3)

    states = np.empty((T + 1, len(cell.states), B, H), dtype)
    states[0] = np.stack(call.initial)
    saved = np.empty((T, len(cell.saved), B, H), dtype)
    for t in range(T):
        units = Units(library, call, "Forward")
        units.of["Wx"][...] = wx[t]
        units.of["state"][...] = states[t]
        for segment, gates in enumerate(stages):
            units.run("forward", segment)
            for gate in gates:
                bias = w.b_hh.reshape(recurrents, H)[gate]
                units.of["U"][gate] = units.of["operand"][0] @ u[gate].T + bias
            units.of["operand"][...] = np.nan
        units.run("forward", len(stages))
        states[t + 1], saved[t] = units.of["state_new"], units.of["saved"]

    d_wx, d_u = np.empty((T, inputs, B, H), dtype), np.empty((T, recurrents, B, H), dtype)
    d_vectors = np.zeros((len(cell.vectors), H), dtype)
    d_state = np.stack(call.dlast)
    dw_hh = np.zeros((recurrents, H, H), dtype)
    reached = [stages[cell.stages.index(stage.gates)] for stage in cell.program.backward_stages]
    for t in reversed(range(T)):
        units = Units(library, call, "Backward")
        units.of["d_state_new"][...] = d_state
        units.of["d_state_new"][0] += call.dy[t]
        units.of["state"][...], units.of["state_new"][...] = states[t], states[t + 1]
        units.of["saved"][...] = saved[t]
        for segment, gates in enumerate(reached):
            units.run("backward", segment)
            units.of["d_operand"][0] = sum(units.of["d_U"][gate] @ u[gate] for gate in gates)
        units.run("backward", len(reached))
        d_wx[t], d_u[t], d_state = units.of["d_Wx"], units.of["d_U"], units.of["d_state"].copy()
        d_vectors += units.of["d_vector"].sum(axis=1)
        for segment, gates in enumerate(stages):
            units.of["operand"][...] = np.nan
            units.run("operand", segment)
            for gate in gates:
                dw_hh[gate] += units.of["d_U"][gate].T @ units.of["operand"][0]

    found = {"y": states[1:, 0]} | {f"last_{name}": states[T, k] for k, name in enumerate(cell.states)}
    if inputs:
        rows = d_wx.transpose(0, 2, 1, 3).reshape(T * B, inputs * H)
        found |= {"d_x": (rows @ w.w_ih).reshape(call.x.shape), "d_w_ih": rows.T @ call.x.reshape(T * B, -1)}
    else:
        found["d_x"] = np.zeros_like(call.x)
    found |= {"d_w_hh": dw_hh.reshape(-1, H)} if recurrents else {}
    found |= {"d_b_ih": d_wx.sum(axis=(0, 2)).reshape(-1)} if inputs else {}
    found |= {"d_b_hh": d_u.sum(axis=(0, 2)).reshape(-1)} if recurrents else {}
    found |= {f"d_{name}": gradient for name, gradient in zip(cell.vectors, d_vectors, strict=True)}
    return found | {f"d_{name}": gradient for name, gradient in zip(cell.states, d_state, strict=True)}
