"""Characters or words, and their numbers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from rnn_gpu.errors import ArgumentError

__all__ = ["NAMES", "UNKNOWN", "Vocabulary", "split", "start"]

NAMES = {"char": "characters", "word": "words"}
"""What the tokens of a unit are called."""

UNKNOWN = "<unk>"
"""The token that stands for all that are not in the vocabulary. It is longer than any one character."""

_WORD = re.compile(r"\n|\w+(?:['\u2019]\w+)*|[^\w\s]")
_NO_SPACE_BEFORE = frozenset(".,;:!?)]}%\u2019\u201d\n")
_NO_SPACE_AFTER = frozenset("([{\u2018\u201c\n")
_RARE = {"char": 1, "word": 2}
"""A token seen fewer times than this in the training text is not in the vocabulary."""


def split(text: str, unit: str) -> list[str]:
    """Cut a text into its characters ("char"), or into words, single punctuation marks and line ends ("word")."""
    return list(text) if unit == "char" else _WORD.findall(text)


@dataclass(frozen=True)
class Vocabulary:
    """The tokens, most frequent first; the number of a token is its place. unit: "char" or "word"."""

    unit: str
    tokens: tuple[str, ...]

    @classmethod
    def of(cls, training: Sequence[str], others: Iterable[str], unit: str, limit: int) -> Vocabulary:
        """Return the `limit` most frequent tokens of the training text, rare words left out.

        `<unk>`, one of the `limit`, is in it, as the last, only where a token of the training text or of `others`
        needs it.
        """
        counts = Counter(training)
        ranked = sorted((token for token in counts if counts[token] >= _RARE[unit]), key=lambda t: (-counts[t], t))
        if not ranked:
            raise ArgumentError("FILE", f"a text in which some token stands {_RARE[unit]} times", "none that does")
        known = set(ranked)
        if len(ranked) > limit or not known.issuperset(counts) or not known.issuperset(others):
            ranked = [*ranked[: limit - 1], UNKNOWN]
        return cls(unit, tuple(ranked))

    def __len__(self) -> int:
        return len(self.tokens)

    @cached_property
    def numbers(self) -> dict[str, int]:
        """The number of each token."""
        return {token: number for number, token in enumerate(self.tokens)}

    @property
    def unknown(self) -> int | None:
        """The number of `<unk>`, None if there is none."""
        return self.numbers.get(UNKNOWN)

    def encode(self, tokens: Sequence[str]) -> NDArray[np.int32]:
        """Return the tokens' numbers (N,). Raises ArgumentError for unknown ones in a vocabulary without `<unk>`."""
        numbers, unknown = self.numbers, self.unknown
        if unknown is None and (missing := self.missing(tokens)):
            raise ArgumentError("tokens", "only ones of the vocabulary", ", ".join(map(repr, missing)))
        return np.fromiter((numbers.get(token, unknown) for token in tokens), np.int32, len(tokens))

    def missing(self, tokens: Iterable[str]) -> list[str]:
        """Return those of the tokens that are not in the vocabulary, each once, in order."""
        return [token for token in dict.fromkeys(tokens) if token not in self.numbers]

    def piece(self, number: int, previous: int | None) -> str:
        """Return what to write for a token after `previous`, None at the start: words get a space between them."""
        token = self.tokens[number]
        if self.unit == "char" or previous is None:
            return token
        tight = token in _NO_SPACE_BEFORE or self.tokens[previous] in _NO_SPACE_AFTER
        return token if tight else " " + token


def start(vocabulary: Vocabulary) -> int:
    """Return the number of the token after which a text begins: the line end, or else the most frequent token."""
    return vocabulary.numbers.get("\n", 0)
