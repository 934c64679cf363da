"""A layer's parameters: the container, initial values, and conversions from and to other frameworks' layouts."""

from rnn_gpu.weights.core import Weights
from rnn_gpu.weights.initial import init_weights
from rnn_gpu.weights.keras import from_keras, to_keras
from rnn_gpu.weights.onnx import OnnxWeights, from_onnx, to_onnx
from rnn_gpu.weights.torch import from_torch, layers_from_torch, to_torch

__all__ = [
    "OnnxWeights",
    "Weights",
    "from_keras",
    "from_onnx",
    "from_torch",
    "init_weights",
    "layers_from_torch",
    "to_keras",
    "to_onnx",
    "to_torch",
]
