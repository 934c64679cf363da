"""RNN: a Keras layer of any cell, and RNNCell, one step of it, which makes and holds the parameters.

What the other layers inherit from Keras' layers of their names, these have from Keras' SimpleRNNCell and RNN.
"""

from __future__ import annotations

import hashlib
import warnings
from math import sqrt
from typing import Any
from weakref import WeakValueDictionary

import keras
from keras import ops

from rnn_gpu import cells
from rnn_gpu.compiler.cell import Cell
from rnn_gpu.errors import ArgumentError, ArgumentTypeError
from rnn_gpu.keras.cells import masked
from rnn_gpu.keras.engines import run
from rnn_gpu.keras.layers import Fused, show_signature

__all__ = ["RNN", "RNNCell"]

_met: WeakValueDictionary[str, Cell] = WeakValueDictionary()
"""Cells that are not this package's, of which layers were made in this process: a copy of a layer is of the same."""

_OF_CELL = (
    "use_bias", "unit_forget_bias", "kernel_initializer", "recurrent_initializer", "bias_initializer",
    "vector_initializer", "kernel_regularizer", "recurrent_regularizer", "bias_regularizer", "kernel_constraint",
    "recurrent_constraint", "bias_constraint", "dropout", "recurrent_dropout", "seed", "activation",
    "recurrent_activation",
)  # fmt: skip
"""Arguments of a layer that are its cell's."""


@keras.saving.register_keras_serializable(package="rnn_gpu")
class RNNCell(keras.layers.SimpleRNNCell):
    """One step of any cell, for rnn_gpu.keras.RNN, which runs it over time, and whatever else in Keras takes a cell.

    cell: rnn_gpu.cells.lstm and the like, or one's own. units: H. The other arguments are those of
    keras.layers.LSTMCell without activations, and vector_initializer: of per-unit vectors, by default uniform in the
    range that the cell declares, or in +-1/sqrt(H). dropout and recurrent_dropout: of the inputs, and of what recurrent
    products multiply, with one mask for all gates.

    Weights: kernel (I, G*H), recurrent_kernel (H, S*H), bias (G*H,), recurrent_bias (S*H,) where that is not the same
    as another bias, and each vector (H,); gates in the order of the cell. What a cell does not have is left out.
    """

    def __init__(
        self, cell: Cell, units: int, *, unit_forget_bias: bool = True, vector_initializer: Any = None, **options: Any
    ) -> None:
        if not isinstance(cell, Cell):
            raise ArgumentTypeError("cell", "a cell, such as rnn_gpu.cells.janet", repr(cell))
        if not cell.input_gates:
            raise ArgumentError("cell", "one with an input product", repr(cell))
        if not isinstance(units, int) or isinstance(units, bool):
            raise ArgumentTypeError("units", "a whole number", repr(units))
        if not isinstance(unit_forget_bias, bool):
            raise ArgumentTypeError("unit_forget_bias", "a bool", repr(unit_forget_bias))
        if options.get("recurrent_dropout") and not cell.recurrent_gates:
            expected = f"0, as cell {cell.name} has no recurrent products"
            raise ArgumentError("recurrent_dropout", expected, repr(options["recurrent_dropout"]))
        for name in ("activation", "recurrent_activation"):
            if name in options:
                raise ArgumentError(name, "none, as a cell has its own", repr(options[name]))
        super().__init__(units, **options)
        self.recurrent_cell, self.unit_forget_bias = cell, unit_forget_bias
        self.vector_initializer = None if vector_initializer is None else keras.initializers.get(vector_initializer)
        self.state_size = [units] * len(cell.states)

    def build(self, input_shape: Any) -> None:
        """Make the weights for inputs (B, I)."""
        cell, H = self.recurrent_cell, self.units
        g, s = len(cell.input_gates) * H, len(cell.recurrent_gates) * H
        self.kernel = self._weight("kernel", (input_shape[-1], g))
        self.recurrent_kernel = self._weight("recurrent_kernel", (H, s), "recurrent") if s else None
        with_both = s and not cell.program.shares_gradient
        self.bias = self._weight("bias", (g,)) if self.use_bias else None
        self.recurrent_bias = self._weight("recurrent_bias", (s,), "bias") if self.use_bias and with_both else None
        self.vectors = [self._vector(name) for name in cell.vectors]

    def _weight(self, name: str, shape: tuple[int, ...], kind: str = "") -> Any:
        of = kind or name
        initializer = getattr(self, f"{of}_initializer")
        if of == "bias" and self.unit_forget_bias:
            initializer = self._with_ones(name, initializer)
        return self.add_weight(
            shape=shape, name=name, initializer=initializer, regularizer=getattr(self, f"{of}_regularizer"),
            constraint=getattr(self, f"{of}_constraint"),
        )  # fmt: skip

    def _with_ones(self, name: str, initializer: Any) -> Any:
        """The initializer, but for 1 in the forget gate's block, as Keras' LSTM has it (Jozefowicz et al., 2015)."""
        cell = self.recurrent_cell
        of_input = cell.forget in cell.input_gates
        gates = cell.input_gates if name == "bias" else cell.recurrent_gates
        if cell.forget not in gates or (name != "bias" and of_input):
            return initializer
        first = gates.index(cell.forget) * self.units

        def drawn(shape: Any, dtype: Any = None) -> Any:
            drawn = initializer(shape, dtype=dtype)
            return ops.concatenate([drawn[:first], ops.ones((self.units,), dtype), drawn[first + self.units :]])

        return drawn

    def _vector(self, name: str) -> Any:
        bound = 1 / sqrt(self.units)
        low, high = self.recurrent_cell.vector_ranges[name] or (-bound, bound)
        default = keras.initializers.RandomUniform(low, high)
        return self.add_weight(shape=(self.units,), name=name, initializer=self.vector_initializer or default)

    def weights_by_name(self) -> dict[str, Any]:
        """The weights by the names of `rnn_gpu.Weights`."""
        pairs = [("w_ih", self.kernel), ("w_hh", self.recurrent_kernel)]
        pairs += [("b_ih", self.bias), ("b_hh", self.recurrent_bias)]
        pairs += zip(self.recurrent_cell.vectors, self.vectors, strict=True)
        found = {name: ops.cast(weight, self.compute_dtype) for name, weight in pairs if weight is not None}
        return {name: ops.transpose(weight) if len(weight.shape) == 2 else weight for name, weight in found.items()}

    def call(self, sequence: Any, states: Any, training: bool = False) -> tuple[Any, Any]:
        """One step: inputs (B, I) and a (B, H) for each state to the output and the new states."""
        given = list(states) if isinstance(states, list | tuple) else [states]
        sequence = ops.cast(sequence, self.compute_dtype)
        cell, masks = self.recurrent_cell, []
        mask, recurrent_mask = self.get_dropout_mask(sequence), self.get_recurrent_dropout_mask(given[0])
        if training and mask is not None:
            sequence = sequence * mask
        if training and recurrent_mask is not None:
            cell, masks = masked(cell, False), [recurrent_mask]
        y, last = run(cell, sequence[None], self.weights_by_name(), [*given, *masks], None)
        return y[0], list(last[: len(given)])

    def get_initial_state(self, batch_size: Any = None) -> list[Any]:
        """Zeros (B, H), one a state."""
        return [ops.zeros((batch_size, self.units), dtype=self.compute_dtype) for _ in self.state_size]

    def get_config(self) -> dict[str, Any]:
        """Keras' configuration; the cell is in it by its name."""
        config: dict[str, Any] = super().get_config()
        del config["activation"]
        vectors = self.vector_initializer
        return config | {
            "cell": _name_of(self.recurrent_cell),
            "unit_forget_bias": self.unit_forget_bias,
            "vector_initializer": None if vectors is None else keras.initializers.serialize(vectors),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> RNNCell:
        """The layer of that configuration. Raises ArgumentError where there is no such cell."""
        return cls(**config | {"cell": _named(config["cell"])})


show_signature(RNNCell)


@keras.saving.register_keras_serializable(package="rnn_gpu")
class RNN(Fused, keras.layers.RNN):
    """A layer of any cell, with the arguments of `RNNCell` and, by name, those of keras.layers.RNN.

    RNN(cell, units, *, return_sequences=False, return_state=False, go_backwards=False, stateful=False, unroll=False,
    zero_output_for_mask=False, use_bias=True, unit_forget_bias=True, kernel_initializer="glorot_uniform",
    recurrent_initializer="orthogonal", bias_initializer="zeros", vector_initializer=None, ..., dropout=0.0,
    recurrent_dropout=0.0, seed=None)

    cell: a cell of this package or one's own; or an `RNNCell`, which has units and all the rest of its own.
    A saved model has the cell's name: one's own is found in custom_objects, as keras.saving.load_model takes them.
    """

    def __init__(self, cell: Cell | RNNCell, units: int | None = None, **options: Any) -> None:
        if not isinstance(cell, Cell | RNNCell):
            expected = "a cell, such as rnn_gpu.cells.janet, or an RNNCell (keras.layers.RNN runs other cells of Keras)"
            raise ArgumentTypeError("cell", expected, repr(cell))
        of_cell = {name: options.pop(name) for name in _OF_CELL if name in options}
        if isinstance(cell, RNNCell):
            given = of_cell if units is None else {"units": units}
            if given:
                name, value = next(iter(given.items()))
                raise ArgumentError(name, "nothing where cell is an RNNCell, which has its own", repr(value))
        elif units is None:
            raise ArgumentTypeError("units", "the number of units of each state", "None")
        else:
            cell = RNNCell(cell, units, dtype=options.get("dtype"), **of_cell)
        super().__init__(cell, **options)

    @property
    def units(self) -> int:
        """H."""
        units: int = self.cell.units
        return units

    @property
    def dropout(self) -> float:
        """Of the inputs."""
        rate: float = self.cell.dropout
        return rate

    @property
    def recurrent_dropout(self) -> float:
        """Of what recurrent products multiply."""
        rate: float = self.cell.recurrent_dropout
        return rate

    def _base(self) -> Cell:
        cell: Cell = self.cell.recurrent_cell
        return cell

    def _weights_of(self, cell: Cell) -> dict[str, Any]:
        weights: dict[str, Any] = self.cell.weights_by_name()
        return weights


def _name_of(cell: Cell) -> str:
    """What a configuration knows a cell by: of one's own, which of that name it was."""
    if cells.ALL.get(cell.name) is cell:
        return cell.name
    name = f"{cell.name}:{_digest(cell)}"
    _met[name] = cell
    return name


def _digest(cell: Cell) -> str:
    """Of all that makes a layer of the cell what it is."""
    ranges = sorted(cell.vector_ranges.items())
    return hashlib.sha256(f"{cell.digest} {cell.forget} {ranges}".encode()).hexdigest()[:12]


def _named(name: str) -> Cell:
    """The cell of that name: one of this package; else what the caller calls so; else one met in this process."""
    own, colon, digest = name.partition(":")
    if not colon:
        found = cells.ALL.get(name)
        expected = f"one of {', '.join(cells.ALL)}"
    else:
        given = keras.saving.get_registered_object(own)
        found = _met.get(name) if given is None else given
        expected = f"a cell {own}, in custom_objects={{{own!r}: it}}"
    if not isinstance(found, Cell):
        raise ArgumentError("cell", expected, repr(name) if found is None else repr(found))
    if colon and _digest(found) != digest:
        message = f"cell {own} is not what it was when the layer's configuration was made: other equations, or emitted "
        warnings.warn(message + "by another version of rnn_gpu", UserWarning, stacklevel=2)
    return found
