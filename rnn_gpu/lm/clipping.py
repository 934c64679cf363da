"""Clipping of the gradient's norm: Pascanu, Mikolov & Bengio (2013), algorithm 1."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["clip_norm", "global_norm"]


def global_norm(arrays: Iterable[NDArray[Any]]) -> float:
    """Return the Euclidean norm of all the arrays' elements together, summed in float64."""
    return math.sqrt(sum(float(np.sum(np.square(array, dtype=np.float64))) for array in arrays))


def clip_norm(gradients: Mapping[str, NDArray[Any]], limit: float) -> float:
    """Scale the gradients, in place, to the norm `limit` if theirs is larger. Return the norm that they had.

    A norm that is not finite is returned with the gradients unchanged.
    """
    norm = global_norm(gradients.values())
    if limit < norm < math.inf:
        for gradient in gradients.values():
            gradient *= limit / norm
    return norm
