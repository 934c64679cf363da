"""A text as numbers: split into three parts, laid out in parallel streams, cut into chunks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rnn_gpu.errors import ArgumentError
from rnn_gpu.lm import vocabulary as vocabularies
from rnn_gpu.lm.vocabulary import NAMES, Vocabulary

__all__ = ["Chunk", "Corpus", "chunk_at", "chunk_count", "chunks", "evaluation_streams", "streams"]

Ids = NDArray[np.int32]

_VALIDATION, _HELD_OUT = 0.05, 0.05
"""The fractions of the text, at its end, that are not trained on."""

_SHORTEST = 40
"""At this length, each of the three parts has at least the two tokens of one prediction."""

_EVALUATED = 1000
"""Evaluation lays a part out in streams of at least this length, as each one starts without a context."""


@dataclass(frozen=True)
class Corpus:
    """The numbers of the tokens of three consecutive parts of a text, (N,) each."""

    training: Ids
    validation: Ids
    held_out: Ids

    @classmethod
    def of(cls, text: str, unit: str, limit: int, vocabulary: Vocabulary | None = None) -> tuple[Corpus, Vocabulary]:
        """Split and number a text. Without a vocabulary, make one of the training part, of at most `limit` tokens.

        Raises ArgumentError, named "FILE", for a text too short to be split.
        """
        tokens = vocabularies.split(text, unit)
        if len(tokens) < _SHORTEST:
            raise ArgumentError("FILE", f"a text of at least {_SHORTEST} {NAMES[unit]}", str(len(tokens)))
        end = round(len(tokens) * (1.0 - _HELD_OUT))
        middle = end - round(len(tokens) * _VALIDATION)
        if vocabulary is None:
            vocabulary = Vocabulary.of(tokens[:middle], tokens[middle:], unit, limit)
        ids = vocabulary.encode(tokens)
        return cls(ids[:middle], ids[middle:end], ids[end:]), vocabulary

    def check_length(self, unit: str, batch: int, sequence: int) -> None:
        """Raise ArgumentError, named "FILE", unless the training part holds a whole chunk."""
        needed, found = batch * sequence + 1, len(self.training)
        if found < needed:
            raise ArgumentError(
                "FILE",
                f"at least {needed} {NAMES[unit]} to train on, for a batch of {batch} sequences of {sequence}",
                f"{found}; a smaller batch or sequence takes a shorter text",
            )


@dataclass(frozen=True)
class Chunk:
    """inputs and targets, (T, B) each: the target is the token that follows the input in its stream."""

    inputs: Ids
    targets: Ids


def streams(ids: Ids, batch: int) -> Ids:
    """Lay out ids (N,) in `batch` consecutive pieces, side by side: (L + 1, B).

    The last token of a stream is the first of the next one, so that all but the first of (L * B + 1) tokens are
    predicted once; the fewer than B tokens after them are left out. Raises ArgumentError if L would be 0.
    """
    length = (len(ids) - 1) // batch
    if length < 1:
        raise ArgumentError("batch", f"at most {max(len(ids) - 1, 0)} streams for {len(ids)} tokens", str(batch))
    starts = np.arange(batch) * length
    laid_out: Ids = ids[np.arange(length + 1)[:, None] + starts[None, :]]
    return laid_out


def evaluation_streams(ids: Ids, batch: int) -> Ids:
    """Lay out ids (N,) for evaluation: as `streams`, in at most `batch` pieces, and fewer for a short text."""
    return streams(ids, max(1, min(batch, (len(ids) - 1) // _EVALUATED)))


def chunk_count(laid_out: Ids, sequence: int) -> int:
    """Return the number of chunks of at most `sequence` steps; the last may be shorter."""
    return -(-(len(laid_out) - 1) // sequence)


def chunk_at(laid_out: Ids, sequence: int, number: int) -> Chunk:
    """Return chunk `number`, from 0, of streams (L + 1, B)."""
    first = number * sequence
    last = min(first + sequence, len(laid_out) - 1)
    return Chunk(laid_out[first:last], laid_out[first + 1 : last + 1])


def chunks(laid_out: Ids, sequence: int) -> Iterator[Chunk]:
    """Yield all chunks in order."""
    for number in range(chunk_count(laid_out, sequence)):
        yield chunk_at(laid_out, sequence, number)
