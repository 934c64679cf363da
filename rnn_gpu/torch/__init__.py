"""Drop-in recurrent modules for PyTorch, on this package's kernels.

`RNN`, `LSTM`, `GRU`, `RNNCell`, `LSTMCell` and `GRUCell` have the constructors, state dicts, call signatures and
results of torch.nn's, and more: lengths, resets, any cell, all states, recomputation. `replace` swaps the modules
inside a model.
"""

from __future__ import annotations

try:
    import torch as _torch  # noqa: F401
except ModuleNotFoundError as error:
    if error.name != "torch":
        raise
    raise ModuleNotFoundError(
        "rnn_gpu.torch needs PyTorch, which is not installed: pip install 'rnn_gpu[torch]'", name="torch"
    ) from None

from rnn_gpu.torch.modules import GRU, LSTM, RNN
from rnn_gpu.torch.replace import Replacement, replace
from rnn_gpu.torch.single_step import GRUCell, LSTMCell, RNNCell

__all__ = ["GRU", "LSTM", "RNN", "GRUCell", "LSTMCell", "RNNCell", "Replacement", "replace"]
