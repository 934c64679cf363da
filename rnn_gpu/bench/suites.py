"""The suites of `rnn-gpu bench`: which cases, how long each is measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

from rnn_gpu import cells
from rnn_gpu.bench.shapes import Case, Mode, Shape
from rnn_gpu.bench.timing import Plan
from rnn_gpu.compiler.cell import Cell

__all__ = ["GROWTH_LIMIT", "PRODUCT_TARGET", "SUITES", "Suite", "grown", "has_product_rate"]

GROWTH = 4
"""How many times more steps a growth case has than the shape it grows from."""

GROWTH_LIMIT = 4.3
"""How many times more time they may cost."""

PRODUCT_TARGET = 0.85
"""The share of a large product's rate that products are to reach where they dominate a case."""


@dataclass(frozen=True)
class Suite:
    """What is measured.

    cells, shapes, modes: every combination is a case, compared with each peer.
    growth: shapes at which time is compared with that of GROWTH times as many steps.
    steps: shapes of streaming; T is the number of calls in a run. step_cells: cells that stream.
    backend: the one of ours that is measured. peers: whom it is compared with, by name.
    modules: ours are the modules of rnn_gpu.torch, in place of the functions on arrays.
    """

    backend: str
    cells: Sequence[Cell]
    shapes: Sequence[Shape]
    modes: Sequence[Mode]
    growth: Sequence[Shape]
    growth_cells: Sequence[Cell]
    steps: Sequence[Shape]
    step_cells: Sequence[Cell]
    peers: Sequence[str]
    plan: Plan
    modules: bool = False

    def groups(self) -> list[list[Case]]:
        """The cases; those of a group differ in the mode alone, and so share their numbers."""
        return [[Case(cell, shape, mode) for mode in self.modes] for cell in self.cells for shape in self.shapes]

    def growth_cases(self) -> list[Case]:
        """The cases to grow."""
        return [Case(cell, shape, mode) for cell in self.growth_cells for shape in self.growth for mode in self.modes]

    def step_groups(self) -> list[list[Case]]:
        """Streaming cases, with frozen weights and without."""
        return [
            [Case(cell, shape, "step", frozen=frozen) for frozen in (True, False)]
            for cell in self.step_cells
            for shape in self.steps
        ]

    def narrowed(
        self, cells: Sequence[Cell] | None, shapes: Sequence[Shape] | None, modes: Sequence[Mode] | None
    ) -> Self:
        """The suite with these cells, shapes and modes in place of its own; None leaves them.

        Given shapes are all that is measured: nothing grows, and they stream only if "step" is among given modes.
        """
        suite = self
        if cells is not None:
            suite = replace(suite, cells=cells, growth_cells=cells, step_cells=cells)
        if shapes is not None:
            suite = replace(suite, shapes=shapes, growth=(), steps=shapes if modes and "step" in modes else ())
        if modes is not None:
            steps = suite.steps if "step" in modes else ()
            suite = replace(suite, modes=tuple(mode for mode in modes if mode != "step"), steps=steps)
        return suite


def grown(case: Case) -> Case:
    """The case with GROWTH times as many steps."""
    shape = case.shape._replace(T=case.shape.T * GROWTH)
    return Case(case.cell, shape, case.mode, case.dtype, case.frozen)


def has_product_rate(case: Case) -> bool:
    """Whether products dominate the case, so that its rate is compared with that of a large product."""
    return case.shape.H >= 512 and case.shape.B >= 32 and case.mode != "step"


_CPU = Suite(
    backend="numba_cpu",
    cells=(cells.rnn, cells.lstm, cells.gru),
    shapes=(
        Shape(10, 32, 1, 50),
        Shape(100, 1, 64, 64),
        Shape(100, 1, 256, 256),
        Shape(64, 16, 128, 128),
        Shape(64, 32, 256, 256),
        Shape(64, 64, 512, 512),
        Shape(50, 64, 1024, 1024),
        Shape(1000, 1, 32, 32),
        Shape(128, 8, 128, 512),
        Shape(31, 3, 17, 129),
        Shape(256, 256, 64, 64),
    ),
    modes=("forward", "train"),
    growth=(Shape(64, 32, 256, 256),),
    growth_cells=(cells.rnn, cells.lstm, cells.gru),
    steps=(Shape(16, 1, 256, 256),),
    step_cells=(cells.lstm,),
    peers=("torch", "onnxruntime", "numpy_cpu"),
    plan=Plan(seconds=0.5, least=5, turn=0.1),
)

_CPU_QUICK = replace(
    _CPU,
    cells=(cells.lstm, cells.gru),
    shapes=(Shape(10, 32, 1, 50), Shape(100, 1, 64, 64), Shape(64, 32, 256, 256), Shape(64, 64, 512, 512)),
    growth=(Shape(64, 16, 128, 128),),
    growth_cells=(cells.lstm,),
    plan=Plan(seconds=0.1, least=3, turn=0.03),
)

_TORCH, _TORCH_QUICK = (
    replace(suite, peers=("torch",), growth=(), steps=(), modules=True) for suite in (_CPU, _CPU_QUICK)
)

SUITES: dict[str, tuple[Suite, Suite]] = {"cpu": (_CPU, _CPU_QUICK), "torch": (_TORCH, _TORCH_QUICK)}
"""By name: the whole suite, and the quick one."""
