"""How a sequence can be run on a GPU, by the names that all backends share; the variable that asks for one of them."""

from __future__ import annotations

import os

from rnn_gpu.errors import ArgumentError

__all__ = ["ENVIRONMENT_VARIABLE", "STRATEGIES", "asked_for"]

ENVIRONMENT_VARIABLE = "RNN_GPU_STRATEGY"
"""Names the strategy to run with, in place of the one that a backend would take."""

STRATEGIES = ("block", "cluster", "grid", "stepwise")
"""U on one block's chip; divided among the blocks of a cluster; divided over the GPU; a launch a step."""


def asked_for() -> str | None:
    """The strategy that RNN_GPU_STRATEGY names, None where it names none.

    Raises ArgumentError for one that does not exist. Not every backend has each that does.
    """
    named = os.environ.get(ENVIRONMENT_VARIABLE) or None
    if named is not None and named not in STRATEGIES:
        raise ArgumentError(ENVIRONMENT_VARIABLE, f"one of {', '.join(STRATEGIES)}", repr(named))
    return named
