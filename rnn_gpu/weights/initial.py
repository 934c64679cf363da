"""Initial values of a layer's parameters."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from rnn_gpu.arrays import DTYPES, dtype_named
from rnn_gpu.compiler.cell import Cell
from rnn_gpu.errors import ArgumentError, ArgumentTypeError
from rnn_gpu.weights.core import Weights

__all__ = ["init_weights"]

SCHEMES = ("torch", "keras")


def init_weights(
    cell: Cell,
    input_size: int | None,
    hidden_size: int,
    dtype: DTypeLike = "float32",
    seed: int | np.random.Generator = 0,
    *,
    scheme: str = "torch",
    bias: bool = True,
) -> Weights:
    """Return new Weights for `cell`, as NumPy arrays, drawn as torch or as Keras draws them.

    input_size: I; None if x comes projected already, (T, B, G*H), which leaves w_ih None.
    hidden_size: H.
    dtype: float64, float32, float16 or bfloat16. Values are drawn in float64 and rounded, so that one seed gives the
        same weights in each dtype, up to rounding.
    seed: a whole number, or a numpy.random.Generator, which is advanced.
    scheme: "torch": everything uniform in +-1/sqrt(H), as torch.nn.RNNBase.reset_parameters. "keras": w_ih Glorot
        uniform (Glorot & Bengio, 2010), w_hh orthogonal (Saxe et al., 2014), biases 0 but for the forget gate's,
        which is 1 (Jozefowicz et al., 2015), as keras.layers.LSTM; the 1 is in b_ih, or in b_hh if the gate has no
        input product. In both, a vector for which the cell declares a range is uniform in that range, and any other
        in +-1/sqrt(H).
    bias: False leaves b_ih and b_hh None, and changes nothing else.

    Raises ArgumentError and ArgumentTypeError for sizes below 1 or not whole, an unknown dtype or scheme, a bad seed.
    """
    if not isinstance(cell, Cell):
        raise ArgumentTypeError("cell", "a cell, such as rnn_gpu.cells.lstm", repr(cell))
    to = _dtype(dtype)
    hidden = _whole("hidden_size", hidden_size, least=1)
    inputs = None if input_size is None else _whole("input_size", input_size, least=1)
    if scheme not in SCHEMES:
        raise ArgumentError("scheme", f"one of {', '.join(SCHEMES)}", repr(scheme))
    rng = seed if isinstance(seed, np.random.Generator) else np.random.default_rng(_whole("seed", seed, least=0))
    keras = scheme == "keras"
    bound = 1 / sqrt(hidden)
    g, s = len(cell.input_gates) * hidden, len(cell.recurrent_gates) * hidden

    w_ih = w_hh = b_ih = b_hh = None
    if g and inputs is not None:
        w_ih = _uniform(rng, sqrt(6 / (inputs + g)) if keras else bound, (g, inputs))
    if s:
        w_hh = _orthogonal(rng, s, hidden) if keras else _uniform(rng, bound, (s, hidden))
    vectors = {}
    for name in cell.vectors:
        low, high = cell.vector_ranges[name] or (-bound, bound)
        vectors[name] = rng.uniform(low, high, hidden)
    if bias and g:
        b_ih = _ones_for(cell.forget, cell.input_gates, hidden) if keras else _uniform(rng, bound, (g,))
    if bias and s:
        forget = None if cell.forget in cell.input_gates else cell.forget
        b_hh = _ones_for(forget, cell.recurrent_gates, hidden) if keras else _uniform(rng, bound, (s,))
    return Weights(w_ih, w_hh, b_ih, b_hh, vectors).map(lambda array: array.astype(to))


def _uniform(rng: np.random.Generator, bound: float, shape: tuple[int, ...]) -> NDArray[np.float64]:
    return rng.uniform(-bound, bound, shape)


def _orthogonal(rng: np.random.Generator, rows: int, columns: int) -> NDArray[np.float64]:
    """Return (rows, columns), rows >= columns, with orthonormal columns, uniformly distributed over all such.

    It is the transpose of Keras' (H, G*H) kernel, whose rows are orthonormal. QR alone is not uniform: the signs of
    R's diagonal make it so (Mezzadri, 2007).
    """
    q, r = np.linalg.qr(rng.standard_normal((rows, columns)))
    return np.ascontiguousarray(q * np.sign(np.diag(r)))


def _ones_for(gate: str | None, gates: Sequence[str], hidden: int) -> NDArray[np.float64]:
    """Return a bias (G*H,) that is 1 for `gate` and 0 for the others."""
    return np.repeat([float(other == gate) for other in gates], hidden)


def _dtype(dtype: DTypeLike) -> np.dtype[Any]:
    expected = f"one of {', '.join(DTYPES)}"
    try:
        found = dtype_named(dtype) if isinstance(dtype, str) else np.dtype(dtype)
    except TypeError as error:
        raise ArgumentTypeError("dtype", expected, repr(dtype)) from error
    if found.name not in DTYPES or dtype is None:
        raise ArgumentError("dtype", expected, repr(dtype))
    return found.newbyteorder("=")


def _whole(argument: str, value: Any, least: int) -> int:
    try:
        found = operator.index(value)
    except TypeError as error:
        raise ArgumentTypeError(argument, "a whole number", repr(value)) from error
    if found < least or isinstance(value, bool):
        raise ArgumentError(argument, f"a whole number of at least {least}", repr(value))
    return found
