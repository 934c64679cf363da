"""Fused recurrent-network kernels for Python, forward and backward, behind one dispatch layer."""

from rnn_gpu import cells, errors
from rnn_gpu.compiler.cell import Cell
from rnn_gpu.drop_in import gru_backward, gru_forward, lstm_backward, lstm_forward, rnn_backward, rnn_forward
from rnn_gpu.functional import Forward, Tape, backward, explain, forward, step
from rnn_gpu.problem import Gradients
from rnn_gpu.threads import get_threads, set_threads
from rnn_gpu.weights import Weights, init_weights

__all__ = [
    "Cell",
    "Forward",
    "Gradients",
    "Tape",
    "Weights",
    "backward",
    "cells",
    "errors",
    "explain",
    "forward",
    "get_threads",
    "gru_backward",
    "gru_forward",
    "init_weights",
    "lstm_backward",
    "lstm_forward",
    "rnn_backward",
    "rnn_forward",
    "set_threads",
    "step",
]

__version__ = "0.1.0"
