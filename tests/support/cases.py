"""The cases that every backend runs every cell on: awkward on purpose."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["CASES", "DTYPES", "Case"]

DTYPES = ("float64", "float32", "float16", "bfloat16")


@dataclass(frozen=True)
class Case:
    """What a call looks like, without its numbers.

    T, B, I, H: time steps, rows, inputs, hidden units.
    lengths: a length for each row, or None; resets: (t, row) of each reset; biases: which of b_ih, b_hh there are.
    projected: x is W x_t already, and there is no w_ih.
    layout: of every array in memory: "plain"; "strided": negative steps, and gaps full of NaN; "foreign": byte order.
    """

    name: str
    T: int = 5
    B: int = 3
    I: int = 4
    H: int = 6
    lengths: tuple[int, ...] | None = None
    resets: tuple[tuple[int, int], ...] = ()
    reverse: bool = False
    initial: bool = False
    biases: tuple[str, ...] = ("b_ih", "b_hh")
    projected: bool = False
    layout: str = "plain"

    def __str__(self) -> str:
        return self.name


_PRIMES = {"T": 7, "B": 5, "I": 3, "H": 11}
_ENDS = ((0, 0), (4, 0), (0, 2), (2, 1), (4, 2))
"""Resets at the first and the last of five steps."""

CASES = (
    Case("plain"),
    Case("one_step", T=1),
    Case("one_row", B=1),
    Case("one_input", I=1),
    Case("one_unit", H=1),
    Case("ones", T=1, B=1, I=1, H=1, initial=True),
    Case("primes", **_PRIMES, initial=True),
    Case("no_rows", B=0, initial=True),
    Case("no_rows_lengths", B=0, lengths=()),
    Case("no_steps", T=0, initial=True),
    Case("no_steps_lengths", T=0, lengths=(0, 0, 0), reverse=True),
    Case("initial", initial=True),
    Case("lengths", B=4, lengths=(5, 0, 3, 1), initial=True),
    Case("lengths_reverse", B=4, lengths=(0, 5, 2, 5), initial=True, reverse=True),
    Case("lengths_all_0", lengths=(0, 0, 0), initial=True),
    Case("resets", resets=_ENDS, initial=True),
    Case("resets_reverse", resets=_ENDS, initial=True, reverse=True),
    Case("resets_everywhere", T=3, B=2, resets=tuple((t, row) for t in range(3) for row in range(2))),
    Case("reverse", reverse=True, initial=True),
    Case("no_biases", biases=()),
    Case("only_b_ih", biases=("b_ih",)),
    Case("only_b_hh", biases=("b_hh",)),
    Case("projected", projected=True, initial=True),
    Case("projected_no_biases", projected=True, biases=()),
    Case("strided", layout="strided", initial=True, lengths=(2, 5, 0), resets=_ENDS),
    Case("foreign", layout="foreign", initial=True, lengths=(2, 5, 0), resets=_ENDS),
    Case(
        "everything",
        **_PRIMES,
        lengths=(0, 7, 4, 1, 6),
        resets=((0, 1), (6, 1), (3, 2), (4, 2), (2, 4), (0, 0)),
        reverse=True,
        initial=True,
    ),
)
