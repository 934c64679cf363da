"""The figure in which a loss is reported: bits per character, or perplexity per word."""

from __future__ import annotations

import math

__all__ = ["figure", "measure"]

_MEASURES = {"char": "bits/char", "word": "perplexity"}


def measure(unit: str) -> str:
    """Return the name of the figure: "bits/char" or "perplexity"."""
    return _MEASURES[unit]


def figure(unit: str, loss: float) -> float:
    """Turn a loss in nats per token into the figure: loss / ln 2 for characters, exp(loss) for words."""
    if unit == "char":
        return loss / math.log(2.0)
    return math.exp(loss) if loss < 700.0 else math.inf
