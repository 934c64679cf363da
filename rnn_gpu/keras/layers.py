"""SimpleRNN, LSTM and GRU: Keras' own layers, with another loop over time.

Constructors, weights, states, saving and all that is not the loop are inherited.
"""

from __future__ import annotations

import inspect
from typing import Any

import keras
from keras import backend, ops

from rnn_gpu import cells
from rnn_gpu.compiler.cell import Cell
from rnn_gpu.errors import ArgumentError, ArgumentTypeError
from rnn_gpu.keras import masking
from rnn_gpu.keras.activations import name_of
from rnn_gpu.keras.cells import cell_for, masked
from rnn_gpu.keras.engines import run

__all__ = ["GRU", "LSTM", "Fused", "SimpleRNN", "show_signature"]


class Fused:
    """What all layers share. Mixed in before the Keras layer of the same name."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        if getattr(self, "use_cudnn", None) is True:
            raise ArgumentError("use_cudnn", "'auto' or False, as this layer has kernels of its own", "True")
        if backend.backend() == "tensorflow":
            self.supports_jit = False  # XLA compiles no callbacks
        self._base()

    def __init_subclass__(cls, **options: Any) -> None:
        """Show Keras' own signature and description of the arguments, where they are Keras'."""
        super().__init_subclass__(**options)
        if Fused not in cls.__bases__:  # a user's
            return
        if "__init__" in cls.__dict__:
            show_signature(cls)
            return
        theirs = cls.__mro__[2]
        cls.__signature__ = inspect.signature(theirs)  # type: ignore[attr-defined]
        cls.__doc__ = f"{cls.__doc__}\n\n{inspect.cleandoc(theirs.__doc__ or '')}"

    def _base(self) -> Cell:
        """The cell of these activations. Raises ArgumentError for an activation that no kernel can hold."""
        raise NotImplementedError

    def inner_loop(self: Any, sequences: Any, initial_state: Any, mask: Any, training: bool = False) -> Any:
        """The loop over time, (B, T, I) to (last output, outputs (B, T, H), states), as keras.layers.RNN calls it."""
        x = ops.transpose(ops.cast(sequences, self.cell.compute_dtype), (1, 0, 2))
        mask = mask[0] if isinstance(mask, list | tuple) else mask
        if mask is not None:
            masking.check(mask, sequences)
            mask = ops.transpose(ops.cast(mask, "bool"))
        if self.go_backwards:
            x = ops.flip(x, axis=0)
            mask = None if mask is None else ops.flip(mask, axis=0)
        lengths = None if mask is None else masking.lengths_of(mask)
        if mask is not None and not masking.is_right_padding(mask):
            x = masking.gather(x, mask)

        cell = self._base()
        states = list(initial_state) if isinstance(initial_state, list | tuple) else [initial_state]
        if self.stateful:  # the variables that hold them are written before the backward pass reads them
            states = list(map(ops.copy, states))
        x, weights = self._dropped_inputs(x, self._weights_of(cell), training)
        cell, masks = self._recurrent_dropout(cell, states[0], training)
        try:
            y, last = run(cell, x, weights, [*states, *masks], lengths)
        except (ArgumentError, ArgumentTypeError) as error:
            name = {"x": "sequences", "initial": "initial_state"}.get(error.argument.partition("[")[0], error.argument)
            raise type(error)(name, error.expected, error.got) from error

        last = last[: len(states)]
        if mask is not None:
            y = masking.spread(y, mask, self.zero_output_for_mask)
        return y[-1], ops.transpose(y, (1, 0, 2)), last

    def _weights_of(self: Any, cell: Cell) -> dict[str, Any]:
        """The weights by the names of `rnn_gpu.Weights`, (G*H, I), (G*H, H), (G*H,)."""
        found = {
            "w_ih": ops.transpose(ops.convert_to_tensor(self.cell.kernel)),
            "w_hh": ops.transpose(ops.convert_to_tensor(self.cell.recurrent_kernel)),
        }
        if self.use_bias:
            bias = ops.convert_to_tensor(self.cell.bias)
            both = len(bias.shape) == 2
            found |= {"b_ih": bias[0], "b_hh": bias[1]} if both else {"b_ih": bias}
        return found

    def _dropped_inputs(self: Any, x: Any, weights: dict[str, Any], training: bool) -> tuple[Any, dict[str, Any]]:
        """The inputs after dropout, one mask (B, I) for all steps, as Keras' cells make it.

        Where there is one mask a gate, the inputs are projected here, and the weights lose theirs.
        """
        if not training or not self._applies(self.dropout):
            return x, weights
        mask = self.cell.get_dropout_mask(x[0])
        if not isinstance(mask, list | tuple):
            return x * mask, weights
        rest = dict(weights)
        kernels = ops.split(ops.transpose(rest.pop("w_ih")), len(mask), axis=1)
        parts = [ops.matmul(x * of_gate, kernel) for of_gate, kernel in zip(mask, kernels, strict=True)]
        return ops.concatenate(parts, axis=-1), rest

    def _recurrent_dropout(self: Any, cell: Cell, state: Any, training: bool) -> tuple[Cell, list[Any]]:
        """The cell that multiplies its recurrent operands by masks (B, H), and the masks; as Keras' cells make them."""
        if not training or not self._applies(self.recurrent_dropout):
            return cell, []
        mask = self.cell.get_recurrent_dropout_mask(state)
        each = isinstance(mask, list | tuple)
        return masked(cell, each), list(mask) if each else [mask]

    def _applies(self, rate: float) -> bool:
        """Whether Keras' cells apply dropout of this rate."""
        return 0.0 < rate < 1.0 or (self._drops_at_one and rate == 1.0)

    _drops_at_one = True
    """A rate of 1 drops everything; that of LSTM and GRU, nothing."""


def show_signature(cls: type) -> None:
    """Show the constructor's own signature, which Keras' `Layer.__new__` hides."""
    signature = inspect.signature(cls.__init__)  # type: ignore[misc]
    cls.__signature__ = signature.replace(parameters=list(signature.parameters.values())[1:])  # type: ignore[attr-defined]


@keras.saving.register_keras_serializable(package="rnn_gpu")
class SimpleRNN(Fused, keras.layers.SimpleRNN):
    """keras.layers.SimpleRNN on the kernels of rnn_gpu: h_t = activation(x_t W + b + h_{t-1} U)."""

    def _base(self: Any) -> Cell:
        return cell_for(cells.rnn, name_of("activation", self.activation))


@keras.saving.register_keras_serializable(package="rnn_gpu")
class LSTM(Fused, keras.layers.LSTM):
    """keras.layers.LSTM on the kernels of rnn_gpu, gates i f c o. use_cudnn=True is refused."""

    _drops_at_one = False

    def _base(self: Any) -> Cell:
        return cell_for(
            cells.lstm,
            name_of("activation", self.activation),
            name_of("recurrent_activation", self.recurrent_activation),
        )


@keras.saving.register_keras_serializable(package="rnn_gpu")
class GRU(Fused, keras.layers.GRU):
    """keras.layers.GRU on the kernels of rnn_gpu, gates z r h, reset_after either way. use_cudnn=True is refused."""

    _drops_at_one = False

    def _base(self: Any) -> Cell:
        return cell_for(
            cells.gru if self.reset_after else cells.gru_2014,
            name_of("activation", self.activation),
            name_of("recurrent_activation", self.recurrent_activation),
        )
