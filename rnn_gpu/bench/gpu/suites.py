"""The parts of the GPU suite: which cells, sizes, dtypes and modes each has."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from rnn_gpu import cells
from rnn_gpu.bench.shapes import Case, Mode, Shape
from rnn_gpu.compiler.cell import Cell

__all__ = ["MODES", "PARTS", "Part", "cases_of"]

MODES: tuple[Mode, ...] = ("forward", "keep", "train")

TF32 = "tf32"
"""float32 arrays, products in TF32."""


@dataclass(frozen=True)
class Part:
    """Every combination is a case. I is H.

    types: dtypes, and "tf32"; ragged, resets, projected: as a `Case` has them, every one of those given.
    """

    title: str
    cells: Sequence[Cell]
    hidden: Sequence[int]
    rows: Sequence[int]
    steps: Sequence[int]
    types: Sequence[str]
    modes: Sequence[Mode] = MODES
    ragged: bool = False
    resets: Sequence[float] = (0.0,)
    projected: Sequence[bool] = (False,)

    def groups(self) -> Iterable[list[Case]]:
        """The cases; those of a group differ in the mode alone, and so share their numbers and their reference."""
        for steps in self.steps:
            for hidden in self.hidden:
                for rows in self.rows:
                    for cell in self.cells:
                        for kind in self.types:
                            for resets in self.resets:
                                for projected in self.projected:
                                    yield self._group(cell, Shape(steps, rows, hidden, hidden), kind, resets, projected)

    def _group(self, cell: Cell, shape: Shape, kind: str, resets: float, projected: bool) -> list[Case]:
        inputs = len(cell.input_gates) * shape.H if projected else shape.I
        case = Case(
            cell, shape._replace(I=inputs), self.modes[0], dtype="float32" if kind == TF32 else kind,
            ragged=self.ragged, resets=resets, projected=projected, tf32=kind == TF32,
        )  # fmt: skip
        return [replace(case, mode=mode) for mode in self.modes]


_NETS = (cells.rnn, cells.gru, cells.lstm)
_GATED = (cells.gru, cells.lstm)

PARTS: dict[str, Part] = {
    "core": Part(
        "Whole sequences",
        _NETS, (64, 128, 160, 256, 384, 512, 768, 1024), (1, 8, 16, 20, 64, 128), (128, 1024),
        ("float32", TF32, "bfloat16", "float16"),
    ),
    "large": Part("Many hidden units", _NETS, (1536, 2048), (1, 16, 64), (512,), ("bfloat16", "float16")),
    "flashrnn": Part(
        "The width and length of FlashRNN's figures, with and without the input product",
        (cells.lstm,), (16, 32, 64, 128, 256, 768), (16,), (1024,), ("bfloat16", "float16"), projected=(False, True),
    ),
    "varlen": Part(
        "Rows of different lengths", _GATED, (128, 256, 512), (32, 128), (100, 1000, 4000), (TF32, "bfloat16"),
        modes=("forward", "train"), ragged=True,
    ),
    "reset": Part(
        "Resets inside the sequence", _GATED, (128, 256, 512), (32, 128), (100, 1000), (TF32, "bfloat16"),
        modes=("forward", "train"), resets=(0.0, 0.01, 0.1),
    ),
    "rl": Part(
        "Many short rows", _GATED, (128, 256, 512), (1024, 8192), (16, 64), (TF32, "bfloat16"),
        modes=("forward", "train"),
    ),
}  # fmt: skip
"""By name, in the order in which they are measured."""


def cases_of(part: Part, *, quick: bool) -> list[list[Case]]:
    """The part's groups of cases, in an order of chance, the same each time: what a time limit allows is a fair sample.

    quick: only those of one length and every other size, without float16.
    """
    if quick:
        kept = [kind for kind in part.types if kind != "float16"]
        middle = part.steps[len(part.steps) // 2]
        part = replace(part, hidden=part.hidden[1::2], rows=part.rows[::2], steps=(middle,), types=kept)
    groups = list(part.groups())
    random.Random(0).shuffle(groups)
    return groups
