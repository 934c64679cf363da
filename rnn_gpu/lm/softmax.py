"""The softmax layer over the vocabulary and its cross-entropy.

    logits = y W^T + b,   loss = sum over rows of (log sum exp(logits) - logits[target])

The rows are taken in blocks, so that the logits of a large vocabulary need not all be in memory at once, and the
largest logit of a row is subtracted before exp, so that nothing overflows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["SoftmaxGradients", "cross_entropy", "cross_entropy_gradients"]

Array = NDArray[Any]

_BLOCK = 2**22
"""Logits in memory at once."""


@dataclass(frozen=True)
class SoftmaxGradients:
    """loss: the sum over rows, in nats; y (N, H), w (V, H), b (V,): gradients of `scale` times it."""

    loss: float
    y: Array
    w: Array
    b: Array


def cross_entropy(y: Array, w: Array, b: Array, targets: NDArray[np.int32]) -> float:
    """Return the cross-entropy, in nats, summed in float64 over the rows of y (N, H); targets (N,)."""
    loss = 0.0
    for rows in _blocks(len(y), len(w)):
        logits, target = _shifted(y[rows], w, b), _target(targets[rows])
        chosen = logits[target]
        np.exp(logits, out=logits)
        loss += _sum(np.log(logits.sum(axis=1)), chosen)
    return loss


def cross_entropy_gradients(y: Array, w: Array, b: Array, targets: NDArray[np.int32], scale: float) -> SoftmaxGradients:
    """Return the loss of `cross_entropy`, and the gradients of `scale` times it."""
    loss, dy, dw, db = 0.0, np.empty_like(y), np.zeros_like(w), np.zeros_like(b)
    for rows in _blocks(len(y), len(w)):
        logits, target = _shifted(y[rows], w, b), _target(targets[rows])
        chosen = logits[target]
        np.exp(logits, out=logits)
        total = logits.sum(axis=1)
        loss += _sum(np.log(total), chosen)
        logits *= (scale / total)[:, None]
        logits[target] -= scale
        dy[rows] = logits @ w
        dw += logits.T @ y[rows]
        db += logits.sum(axis=0)
    return SoftmaxGradients(loss, dy, dw, db)


def _blocks(rows: int, size: int) -> Iterator[slice]:
    step = max(1, _BLOCK // size)
    for first in range(0, rows, step):
        yield slice(first, min(first + step, rows))


def _shifted(y: Array, w: Array, b: Array) -> Array:
    """The logits (N, V), each row less its largest."""
    logits: Array = y @ w.T
    logits += b
    logits -= logits.max(axis=1, keepdims=True)
    return logits


def _target(targets: NDArray[np.int32]) -> tuple[NDArray[np.intp], NDArray[np.int32]]:
    return np.arange(len(targets)), targets


def _sum(logs: Array, chosen: Array) -> float:
    return float(np.sum(logs, dtype=np.float64) - np.sum(chosen, dtype=np.float64))
