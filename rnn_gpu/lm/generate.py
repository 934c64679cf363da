"""Drawing text from a model, one token at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnn_gpu.lm.model import LanguageModel
from rnn_gpu.stack import States

__all__ = ["draw", "generate"]


def draw(logits: NDArray[Any], temperature: float, rng: np.random.Generator) -> int:
    """Draw a number from softmax(logits / temperature), logits (V,); at temperature 0, take the most likely one."""
    if temperature == 0.0:
        return int(np.argmax(logits))
    with np.errstate(over="ignore"):
        scaled = (logits.astype(np.float64) - logits.max()) / temperature
    cumulative = np.cumsum(np.exp(scaled))
    return int(np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right"))


def generate(
    model: LanguageModel,
    prompt: Sequence[int],
    length: int,
    temperature: float,
    rng: np.random.Generator,
    never: int | None = None,
    backend: str | None = None,
) -> Iterator[int]:
    """Yield `length` tokens that follow a prompt of at least one token. The token `never` is not drawn."""
    model = model.frozen()
    *context, token = prompt
    states: States | None = None
    for read in context:
        states = model.step(np.array([read], np.int32), states, backend)[1]
    for _ in range(length):
        logits, states = model.step(np.array([token], np.int32), states, backend)
        if never is not None:
            logits[0, never] = -np.inf
        token = draw(logits[0], temperature, rng)
        yield token
