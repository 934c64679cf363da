"""The embedding: a row of a matrix for each token."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["gradient"]


def gradient(ids: NDArray[np.int32], dx: NDArray[Any], size: int) -> NDArray[Any]:
    """Return the gradient (V, E) of an embedding of `size` rows, of which rows `ids` (N,) were read.

    dx: (N, E), the gradient of the rows read. The rows of equal tokens are brought together by a stable sort and
    summed in order, so that the result is the same bits every time.
    """
    result = np.zeros((size, dx.shape[1]), dx.dtype)
    order = np.argsort(ids, kind="stable")
    ordered = ids[order]
    firsts = np.flatnonzero(np.diff(ordered, prepend=-1))
    result[ordered[firsts]] = np.add.reduceat(dx[order], firsts, axis=0)
    return result
