"""The cells of Keras' layers: this package's, with Keras' order of gates and the activations asked for."""

from __future__ import annotations

from functools import cache

from rnn_gpu.compiler.cell import Cell
from rnn_gpu.compiler.variants import with_functions, with_gates, with_masked_products
from rnn_gpu.keras.activations import ACTIVATIONS
from rnn_gpu.weights.keras import ORDERS

__all__ = ["cell_for", "masked"]


@cache
def cell_for(base: Cell, activation: str, recurrent_activation: str | None = None) -> Cell:
    """The cell with these activations, in place of its tanh and its sigmoid, and its gates in Keras' order.

    base: `cells.rnn`, `lstm`, `gru` or `gru_2014`; recurrent_activation: None for the first, which has no gates.
    """
    wanted = {"tanh": activation} | ({} if recurrent_activation is None else {"sigmoid": recurrent_activation})
    changed = {name: ACTIVATIONS[other] for name, other in wanted.items() if other != name}
    order = ORDERS[base]
    found = base
    if changed:
        found = with_functions(base, "_".join([base.name, *wanted.values()]), changed)
    return found if order == base.gates else with_gates(found, order)


@cache
def masked(cell: Cell, each: bool) -> Cell:
    """The cell whose recurrent products multiply their operands by masks: one for all, or one for each gate."""
    return with_masked_products(cell, tuple((g, f"mask_{g}" if each else "mask") for g in cell.recurrent_gates))
