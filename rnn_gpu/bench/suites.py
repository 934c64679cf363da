"""The suites of `rnn-gpu bench`: which cases, how long each is measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self

from rnn_gpu import cells
from rnn_gpu.bench.shapes import Case, Mode, Shape
from rnn_gpu.bench.timing import Plan
from rnn_gpu.compiler.cell import Cell

__all__ = ["GROWTH_LIMIT", "PRODUCT_TARGET", "SUITES", "Axis", "Options", "Suite", "grown", "has_product_rate"]

Axis = Literal["T", "B", "H"]
"""What grows; I is H as that grows."""

GROWTH = 4
"""How many times more steps a growth case has than the shape it grows from."""

GROWTH_LIMIT = 4.3
"""How many times more time they may cost."""

SWEEP_SHAPE = Shape(64, 16, 128, 128)
"""The sizes of the axes that do not grow."""

SWEEP_PLAN = Plan(seconds=0.1, least=3, turn=0.03)

PRODUCT_TARGET = 0.85
"""The share of a large product's rate that products are to reach where they dominate a case."""


@dataclass(frozen=True)
class Options:
    """Fields of a `Case` besides cell, shape and mode, by name, and the modes in which they are measured."""

    fields: Mapping[str, Any]
    modes: Sequence[Mode] = ("forward", "train")


@dataclass(frozen=True)
class Suite:
    """What is measured.

    cells, shapes, modes: every combination is a case, compared with each peer.
    growth: shapes at which time is compared with that of GROWTH times as many steps.
    steps: shapes of streaming; T is the number of calls in a run. step_cells: cells that stream.
    variants: options that are measured at the shapes variant_shapes, with the cells variant_cells.
    sweeps: sizes of an axis at which time is measured, the other axes as in sweep_shape, with the cells sweep_cells;
    sweep_plan: how long for each.
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
    variants: Sequence[Options] = ()
    variant_shapes: Sequence[Shape] = ()
    variant_cells: Sequence[Cell] = ()
    sweeps: Mapping[Axis, Sequence[int]] = field(default_factory=dict)
    sweep_shape: Shape = SWEEP_SHAPE
    sweep_cells: Sequence[Cell] = ()
    sweep_plan: Plan = SWEEP_PLAN
    modules: bool = False

    def groups(self) -> list[list[Case]]:
        """The cases; those of a group differ in the mode alone, and so share their numbers."""
        return [[Case(cell, shape, mode) for mode in self.modes] for cell in self.cells for shape in self.shapes]

    def variant_groups(self) -> list[list[Case]]:
        """Cases with options; those of a group differ in the mode alone."""
        groups = [
            [Case(cell, shape, mode, **options.fields) for mode in options.modes if mode in self.modes]
            for cell in self.variant_cells
            for shape in self.variant_shapes
            for options in self.variants
        ]
        return [group for group in groups if group]

    def sweep_groups(self) -> list[tuple[Axis, list[Case]]]:
        """An axis and the cases of one size of it, which differ in the mode alone."""
        return [
            (axis, [Case(cell, sized(self.sweep_shape, axis, size), mode) for mode in self.modes])
            for axis, sizes in self.sweeps.items()
            for cell in self.sweep_cells
            for size in sizes
        ]

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

        Given shapes are all that is measured: nothing grows, there are no variants, and they stream only if "step" is
        among given modes.
        """
        suite = self
        if cells is not None:
            suite = replace(
                suite, cells=cells, growth_cells=cells, step_cells=cells, variant_cells=cells, sweep_cells=cells
            )
        if shapes is not None:
            steps = shapes if modes and "step" in modes else ()
            suite = replace(suite, shapes=shapes, growth=(), steps=steps, variants=(), sweeps={})
        if modes is not None:
            steps = suite.steps if "step" in modes else ()
            suite = replace(suite, modes=tuple(mode for mode in modes if mode != "step"), steps=steps)
        return suite


def sized(shape: Shape, axis: Axis, size: int) -> Shape:
    """The shape with this size of an axis; I is H."""
    return shape._replace(I=size, H=size) if axis == "H" else shape._replace(**{axis: size})


def grown(case: Case) -> Case:
    """The case with GROWTH times as many steps."""
    shape = case.shape._replace(T=case.shape.T * GROWTH)
    return Case(case.cell, shape, case.mode, case.dtype, case.frozen)


def has_product_rate(case: Case) -> bool:
    """Whether products dominate the case, so that its rate is compared with that of a large product."""
    return case.shape.H >= 512 and case.shape.B >= 32 and case.mode != "step"


_RAGGED = Options({"ragged": True})

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
    variants=(
        _RAGGED,
        Options({"frozen": True}, modes=("forward",)),
        Options({"resets": 0.01}),
        Options({"recompute": True}, modes=("train",)),
    ),
    variant_shapes=(Shape(64, 32, 256, 256),),
    variant_cells=(cells.lstm, cells.gru),
    sweeps={"T": (16, 64, 256, 1024), "B": (1, 4, 16, 64, 256), "H": (32, 64, 128, 256, 512)},
    sweep_cells=(cells.lstm, cells.gru),
)

_CPU_QUICK = replace(
    _CPU,
    cells=(cells.lstm, cells.gru),
    shapes=(Shape(10, 32, 1, 50), Shape(100, 1, 64, 64), Shape(64, 32, 256, 256), Shape(64, 64, 512, 512)),
    growth=(Shape(64, 16, 128, 128),),
    growth_cells=(cells.lstm,),
    plan=Plan(seconds=0.1, least=3, turn=0.03),
    variant_shapes=(Shape(64, 16, 128, 128),),
    variant_cells=(cells.lstm,),
    sweeps={"T": (16, 64, 256, 1024)},
    sweep_cells=(cells.lstm,),
)

_TORCH, _TORCH_QUICK = (
    replace(suite, peers=("torch",), growth=(), steps=(), variants=(_RAGGED,), sweeps={}, modules=True)
    for suite in (_CPU, _CPU_QUICK)
)

SUITES: dict[str, tuple[Suite, Suite]] = {"cpu": (_CPU, _CPU_QUICK), "torch": (_TORCH, _TORCH_QUICK)}
"""By name: the whole suite, and the quick one."""
