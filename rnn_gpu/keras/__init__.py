"""Drop-in recurrent layers for Keras 3, on this package's kernels.

`SimpleRNN`, `LSTM` and `GRU` have Keras' arguments, defaults, weights, masking and saved form: they are Keras' own
layers, whose loop over time is replaced. `RNN` is such a layer of any cell, and `RNNCell` a step of it. They run on
Keras' torch backend; on JAX and TensorFlow through callbacks.
"""

from __future__ import annotations

try:
    import keras as _keras  # noqa: F401
except ModuleNotFoundError as error:
    if error.name == "keras":
        message = "rnn_gpu.keras needs Keras 3, which is not installed: pip install 'rnn_gpu[keras]'"
    else:
        message = f"rnn_gpu.keras needs the backend of Keras that is configured: {error}"
    raise ModuleNotFoundError(message, name=error.name) from None

from rnn_gpu.keras.any_cell import RNN, RNNCell
from rnn_gpu.keras.layers import GRU, LSTM, SimpleRNN

__all__ = ["GRU", "LSTM", "RNN", "RNNCell", "SimpleRNN"]
