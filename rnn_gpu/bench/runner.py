"""What is timed: one run of a case by one library, and its results by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

__all__ = ["Results", "Runner"]

Results = Mapping[str, NDArray[Any]]
"""y, last_<state> and, of training, d_x, d_w_ih, d_w_hh, d_b_ih, d_b_hh and d_<vector>, in our layout."""


@dataclass(frozen=True)
class Runner:
    """run: what is timed. results: what `run` returned, by name; a library gives those it has."""

    run: Callable[[], Any]
    results: Callable[[Any], Results]
