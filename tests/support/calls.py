"""A call with its numbers, drawn from a case."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

import rnn_gpu
from rnn_gpu.arrays import dtype_named
from support.cases import Case

__all__ = ["Call", "draw", "named_gradients"]

Array = np.ndarray


@dataclass(frozen=True)
class Call:
    """The arguments of a forward call, and the gradients that go back through it.

    drawn: how `draw` made it.
    """

    drawn: str
    cell: rnn_gpu.Cell
    x: Array
    weights: rnn_gpu.Weights
    initial: tuple[Array, ...] | None
    lengths: Array | None
    resets: Array | None
    reverse: bool
    dy: Array
    dlast: tuple[Array, ...]

    def __repr__(self) -> str:
        return self.drawn

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """How hypothesis shows an example."""
        printer.text(self.drawn)

    def map(self, function: Callable[[Array], Any]) -> Call:
        """The call with `function(array)` for every floating-point array."""
        return replace(
            self,
            x=function(self.x),
            weights=self.weights.map(function),
            initial=None if self.initial is None else tuple(map(function, self.initial)),
            dy=function(self.dy),
            dlast=tuple(map(function, self.dlast)),
        )

    def arguments(self) -> tuple[Any, ...]:
        """The arguments of `rnn_gpu.forward`, in its order, as far as `backend`."""
        return self.cell, self.x, self.weights, self.initial, self.lengths, self.resets, self.reverse

    def parameters(self) -> Iterator[tuple[str, Array]]:
        """Whatever has a gradient, by name."""
        yield "x", self.x
        yield from self.weights.items()
        yield from zip(self.cell.states, self.initial or (), strict=bool(self.initial))

    def rows(self, rows: Array | list[int]) -> Call:
        """The call with these rows of the batch only."""
        of_rows = replace(self, weights=rnn_gpu.Weights(None, None)).map(lambda array: array[..., rows, :])
        return replace(
            of_rows,
            weights=self.weights,
            lengths=None if self.lengths is None else self.lengths[rows],
            resets=None if self.resets is None else self.resets[:, rows],
        )

    def steps(self, start: int, stop: int) -> Call:
        """The call with these time steps only."""
        return replace(
            self,
            x=self.x[start:stop],
            dy=self.dy[start:stop],
            lengths=None if self.lengths is None else np.clip(self.lengths - start, 0, stop - start),
            resets=None if self.resets is None else self.resets[start:stop],
        )

    def ends(self) -> Array:
        """Each row's length."""
        steps, rows = self.x.shape[:2]
        return np.full(rows, steps) if self.lengths is None else self.lengths

    def padding(self) -> Array:
        """(T, B) bool, True at and after each row's end."""
        return np.arange(len(self.x))[:, None] >= self.ends()


def draw(cell: rnn_gpu.Cell, case: Case, dtype: str = "float64", *, seed: int = 0, padding: float = np.nan) -> Call:
    """The case with numbers. One seed gives the same numbers in each dtype, up to rounding.

    padding: what x and dy hold at and after each row's end.
    """
    rng = np.random.default_rng(seed)
    T, B, H = case.T, case.B, case.H
    weights = rnn_gpu.init_weights(cell, None if case.projected else case.I, H, dtype="float64", seed=seed)
    weights = replace(weights, **{name: None for name in ("b_ih", "b_hh") if name not in case.biases})
    inputs = len(cell.input_gates) * H if case.projected or not cell.input_gates else case.I
    states = len(cell.states)
    resets = np.zeros((T, B), bool)
    for position in case.resets:
        resets[position] = True
    call = Call(
        f"draw({cell.name}, {case!r}, {dtype!r}, seed={seed})",
        cell,
        rng.normal(size=(T, B, inputs)),
        weights,
        tuple(rng.normal(size=(states, B, H))) if case.initial else None,
        None if case.lengths is None else np.array(case.lengths, np.int64),
        resets if case.resets else None,
        case.reverse,
        rng.normal(size=(T, B, H)),
        tuple(rng.normal(size=(states, B, H))),
    )
    for array in (call.x, call.dy):
        array[call.padding()] = padding
    call = call.map(lambda array: array.astype(dtype_named(dtype)))
    lay_out = _LAYOUTS[case.layout]
    return replace(call.map(lay_out), lengths=lay_out(call.lengths), resets=lay_out(call.resets))


def named_gradients(cell: rnn_gpu.Cell, gradients: rnn_gpu.Gradients) -> dict[str, Any]:
    """Gradients by the names of what they belong to, "d_" before them."""
    names = ("x", *(name for name, _ in gradients.weights.items()), *cell.states)
    arrays = (gradients.x, *(array for _, array in gradients.weights.items()), *gradients.initial)
    return {f"d_{name}": array for name, array in zip(names, arrays, strict=True)}


def _strided(array: Array | None) -> Array | None:
    if array is None:
        return None
    filling = np.nan if array.dtype.kind not in "iub" else 1
    around = np.full([2 * size for size in array.shape], filling, array.dtype)
    view = around[(slice(None, None, -2),) * array.ndim]
    view[...] = array
    return view


def _foreign(array: Array | None) -> Array | None:
    return None if array is None else array.astype(array.dtype.newbyteorder())


_LAYOUTS = {"plain": lambda array: array, "strided": _strided, "foreign": _foreign}
