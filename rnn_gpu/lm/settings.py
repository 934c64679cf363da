"""Everything that determines a training run, each setting with its range and its help in one place."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from rnn_gpu.errors import ArgumentError, ArgumentTypeError

__all__ = ["DEFAULT_MINUTES", "Rule", "Settings", "rule"]

DEFAULT_MINUTES = 4.0
"""The time limit of a run that is given neither epochs nor minutes."""

_LARGE = 1_000_000


@dataclass(frozen=True)
class Rule:
    """What values a setting may have, and what it means.

    kind: int, float or str. low, high: bounds, inclusive; above, below: bounds, exclusive. choices: for kind str.
    optional: None is allowed too. limit: one that may be changed when training is resumed.
    """

    kind: type[int] | type[float] | type[str]
    help: str
    low: float = -math.inf
    high: float = math.inf
    above: float = -math.inf
    below: float = math.inf
    choices: tuple[str, ...] = ()
    optional: bool = False
    changeable: bool = False

    @property
    def expected(self) -> str:
        """What `parse` and `check` expect, in words."""
        if self.choices:
            return "one of " + ", ".join(self.choices)
        if self.kind is str:
            return "a name"
        bounds = [
            f"{word} {bound:.12g}"
            for word, bound in (
                ("at least", self.low),
                ("above", self.above),
                ("at most", self.high),
                ("below", self.below),
            )
            if math.isfinite(bound)
        ]
        return ("an integer " if self.kind is int else "a number ") + " and ".join(bounds)

    def accepts(self, value: object) -> bool:
        """Whether `value` is one that the setting may have."""
        if value is None:
            return self.optional
        if self.kind is str:
            return isinstance(value, str) and value != "" and (not self.choices or value in self.choices)
        number = (int,) if self.kind is int else (int, float)
        if not isinstance(value, number) or isinstance(value, bool) or not math.isfinite(value):
            return False
        return self.low <= value <= self.high and self.above < value < self.below

    def parse(self, text: str) -> int | float | str:
        """Read a value from the command line. Raises ValueError with the text of `expected`."""
        try:
            value = self.kind(text)
        except ValueError:
            value = None
        if value is None or not self.accepts(value):
            raise ValueError(f"expected {self.expected}, got {text!r}")
        return value


def _setting(default: object, kind: type[int] | type[float] | type[str], help_text: str, **rule: Any) -> Any:
    return dataclasses.field(default=default, metadata={"rule": Rule(kind, help_text, **rule)})


@dataclass(frozen=True)
class Settings:
    """The settings of a run; the help of each stands beside it.

    Raises ArgumentError, naming the setting, for a value out of its range, and ArgumentTypeError for one of the
    wrong kind.
    """

    unit: str = _setting(
        "char", str, "what the model reads and predicts: characters or words", choices=("char", "word")
    )
    vocabulary: int = _setting(
        10_000, int, "keep this many of the most frequent characters or words; the others become <unk>",
        low=2, high=_LARGE,
    )  # fmt: skip
    cell: str = _setting("lstm", str, "a cell by name (see rnn-gpu info), or your own as module:cell")
    hidden: int = _setting(256, int, "units in each recurrent layer, and size of the embedding", low=1, high=_LARGE)
    layers: int = _setting(1, int, "recurrent layers", low=1, high=1000)
    batch: int = _setting(16, int, "parallel streams into which the text is cut", low=1, high=_LARGE)
    sequence: int = _setting(64, int, "steps over which gradients flow back", low=1, high=_LARGE)
    learning_rate: float = _setting(3e-3, float, "step size of the optimiser at the start", above=0, high=100)
    optimizer: str = _setting("adam", str, "the optimiser", choices=("adam", "rmsprop"))
    clip: float = _setting(1.0, float, "largest norm of the gradient of all parameters together", above=0)
    dropout: float = _setting(
        0.0, float, "probability of dropping a value between embedding, layers and softmax", low=0, below=1
    )
    seed: int = _setting(0, int, "seed of all random numbers", low=0, high=2**63 - 1)
    epochs: int | None = _setting(
        None, int, "stop after this many passes over the training text",
        low=1, high=_LARGE, optional=True, changeable=True,
    )  # fmt: skip
    minutes: float | None = _setting(
        None, float, f"stop after this long ({DEFAULT_MINUTES:g} if --epochs is not given either)",
        above=0, high=1e7, optional=True, changeable=True,
    )  # fmt: skip
    backend: str | None = _setting(
        None, str, "the backend that runs the recurrent layers (see rnn-gpu info); default: the first that can",
        optional=True, changeable=True,
    )  # fmt: skip

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            wanted, value = rule(field.name), getattr(self, field.name)
            if wanted.accepts(value):
                continue
            numeric = isinstance(value, int | float) and not isinstance(value, bool)
            right_kind = numeric if wanted.kind is not str else isinstance(value, str)
            error = ArgumentError if right_kind else ArgumentTypeError
            raise error(field.name, wanted.expected, repr(value))

    @property
    def seconds(self) -> float | None:
        """The time limit, None if there is none."""
        if self.minutes is not None:
            return 60.0 * self.minutes
        return 60.0 * DEFAULT_MINUTES if self.epochs is None else None


def rule(name: str) -> Rule:
    """Return the rule of the setting of this name."""
    found: Rule = Settings.__dataclass_fields__[name].metadata["rule"]
    return found
