"""How far results are from the float64 reference, and how far they may be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rnn_gpu.arrays import dtype_named
from rnn_gpu.bench import ours
from rnn_gpu.bench.calls import Call
from rnn_gpu.bench.runner import Results
from rnn_gpu.bench.shapes import Mode

__all__ = ["PEER_BOUND", "Distance", "Reference", "distance"]

REFERENCE = "numpy_cpu"
"""The backend that is run in float64, and in the case's own type to see what error is to be expected."""

FACTOR = 2.0
"""How many times the reference backend's own error, in the case's type, a result's error may be."""

FLOOR = 4.0
"""What it may be in any case, in units of the type's spacing at 1: an error of nothing is luck."""

PEER_BOUND = 1e-3
"""A peer further from the reference than this has computed something else."""


class Distance(NamedTuple):
    """error: the largest difference from the right array, relative to its largest value; array: where that is."""

    error: float
    array: str


class Reference:
    """The right results of a call, and the error that is allowed."""

    def __init__(self, call: Call, modes: Sequence[Mode]) -> None:
        """modes: those whose results will be compared; step is not among the others."""
        order: tuple[Mode, ...] = ("train", "forward", "step")  # training's results hold those of forward
        mode = next(mode for mode in order if mode in modes)
        call = call.of(replace(call.case, mode=mode, frozen=False))
        self._right = _run(call.astype("float64"))
        self._plain = _run(call)
        self._spacing = float(np.finfo(dtype_named(call.case.dtype)).eps)

    def distance(self, results: Results) -> Distance:
        """See the function of the same name."""
        return distance(results, self._right)

    def bound(self, results: Results) -> float:
        """The largest error that results of these names may have."""
        plain = {name: self._plain[name] for name in results}
        return FACTOR * distance(plain, self._right).error + FLOOR * self._spacing


def distance(results: Results, right: Results) -> Distance:
    """How far results are from the right ones, where that is furthest.

    Infinite where there is a NaN, or a shape is another.
    """
    return max(Distance(_distance(array, right[name]), name) for name, array in results.items())


def _distance(array: NDArray[Any], right: NDArray[Any]) -> float:
    if array.shape != right.shape:
        return np.inf
    scale = float(np.abs(right).max(initial=0.0)) or 1.0
    error = float(np.abs(array - right).max(initial=0.0)) / scale
    return error if np.isfinite(error) else np.inf


def _run(call: Call) -> Results:
    runner = ours.runner(call, REFERENCE)
    return runner.results(runner.run())
