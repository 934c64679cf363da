"""The text that kernels are compiled from: the drivers in cuda/, the emitted cells, the traits, and the entry points.

The text includes nothing, so that it alone says what is compiled, whichever compiler reads it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, lru_cache
from pathlib import Path

from rnn_gpu.compiler.cell import Cell
from rnn_gpu.kernels.cupy_raw.device import Kernel
from rnn_gpu.kernels.cupy_raw.parameters import ColumnSums, PackedRows, Parameters, Record
from rnn_gpu.kernels.cupy_raw.traits import CPP_TYPES, SequenceKernel, StepKernel

__all__ = [
    "FOLDER", "HEADERS", "HEADERS_OF_PACKING", "HEADERS_OF_SUMS", "THREADS", "Spec", "column_sums", "drivers", "kernel",
    "packed_rows", "step_kernels", "translation_unit",
]  # fmt: skip

Spec = SequenceKernel | StepKernel

FOLDER = Path(__file__).with_name("cuda")

HEADERS = (
    "arch", "numbers", "mathematics", "parameters", "cell", "rows", "prefetch", "product_fma", "product_mma", "marks",
    "teams", "backward_step", "sequence_forward", "sequence_backward", "step_forward", "step_backward",
)  # fmt: skip
"""The drivers, each after those it needs."""

HEADERS_OF_SUMS = ("arch", "numbers", "column_sums")
HEADERS_OF_PACKING = ("arch", "numbers", "packed_rows")
"""The same of the kernels that have no cell."""

THREADS = 256
"""Of a block of an elementwise kernel, and of one that sums columns or copies rows."""


@lru_cache(maxsize=256)
def kernel(spec: Spec) -> Kernel:
    """The kernel, with the others of its cell that are used with it where they are small."""
    together: list[Spec] = [spec]
    if isinstance(spec, StepKernel):
        together = step_kernels(spec.cell, spec.dtype, spec.kept)
    return Kernel(translation_unit(tuple(together)), spec.entry)


def step_kernels(cell: Cell, dtype: str, kept: str) -> list[Spec]:
    """All elementwise kernels of a cell."""
    forward, backward = range(len(cell.stages) + 1), range(len(cell.program.backward_stages) + 1)
    return [
        *(StepKernel(cell, dtype, "forward", kept, segment) for segment in forward),
        *(StepKernel(cell, dtype, "forward", kept, segment, replay=True) for segment in forward),
        *(StepKernel(cell, dtype, "backward", kept, segment) for segment in backward),
    ]


@lru_cache(maxsize=256)
def translation_unit(specs: Sequence[Spec]) -> str:
    """The whole text for these kernels."""
    cells = {spec.cell.digest: spec.cell for spec in specs}
    traits = {spec.traits.digest: spec.traits for spec in specs if isinstance(spec, SequenceKernel)}
    parts = [drivers(), '#line 1 "cells"', "namespace rnn_gpu {"]
    for digest, cell in cells.items():
        parts += [f"namespace cells {{\nnamespace of_{digest[:8]} {{", cell.source("cuda"), "}\n}"]
    parts += [found.source(f"Traits_{digest}") for digest, found in traits.items()]
    parts += ["}  // namespace rnn_gpu", '#line 1 "entries"']
    parts += [_sequence(spec) if isinstance(spec, SequenceKernel) else _step(spec) for spec in specs]
    return "\n".join(parts) + "\n"


@cache
def column_sums(dtype: str, out: str) -> Kernel:
    """The kernel that sums the columns of matrices of `dtype`; results are of dtype `out`."""
    driver = f"rnn_gpu::ColumnSums<{_named(dtype)}, {_named(out)}>"
    return _without_cell(HEADERS_OF_SUMS, driver, ColumnSums, f"rnn_gpu_column_sums_{dtype}_{out}", "run")


@cache
def packed_rows(dtype: str, out: str, which: str) -> Kernel:
    """The kernel that copies rows of `dtype` to where they are of dtype `out`: "pack" or "unpack"."""
    driver = f"rnn_gpu::PackedRows<{_named(dtype)}, {_named(out)}>"
    return _without_cell(HEADERS_OF_PACKING, driver, PackedRows, f"rnn_gpu_{which}_rows_{dtype}_{out}", which)


def _without_cell(headers: tuple[str, ...], driver: str, arguments: type[Record], entry: str, function: str) -> Kernel:
    parts = [
        drivers(headers),
        '#line 1 "entries"',
        f"using Driver = {driver};",
        arguments.checks("Driver::Arguments"),
        f"RNN_GPU_KERNEL({entry}, {THREADS}, Driver::Arguments) {{ Driver::{function}(p); }}",
    ]
    return Kernel("\n".join(parts) + "\n", entry)


@cache
def drivers(headers: tuple[str, ...] = HEADERS) -> str:
    """The text of these headers, with which every kernel that needs them begins."""
    return "\n".join(f'#line 1 "{name}.cuh"\n{(FOLDER / f"{name}.cuh").read_text()}' for name in headers)


def _cell(spec: Spec) -> str:
    return f"rnn_gpu::cells::of_{spec.cell.digest[:8]}::{spec.cell.name}"


def _named(dtype: str) -> str:
    return CPP_TYPES[dtype] if dtype in ("float64", "float32") else f"rnn_gpu::{CPP_TYPES[dtype]}"


def _sequence(spec: SequenceKernel) -> str:
    traits, driver = f"rnn_gpu::Traits_{spec.traits.digest}", f"driver_{spec.entry}"
    arguments, product = f"{_cell(spec)}, {_named(spec.dtype)}", f"{spec.traits.product.title()}Product"
    head = f"RNN_GPU_KERNEL({spec.entry}, {spec.traits.threads}, {driver}::Arguments)"
    if spec.traits.strategy == "cluster":
        numbers = f"{spec.traits.threads}, {spec.traits.blocks}"
        head = f"RNN_GPU_CLUSTER_KERNEL({spec.entry}, {numbers}, {driver}::Arguments)"
    return "\n".join(
        [
            f"using {driver} = rnn_gpu::Sequence{spec.direction.title()}<{arguments}, {traits}, rnn_gpu::{product}>;",
            f'static_assert({driver}::shared_bytes == {spec.shared_bytes}, "traits.py");',
            f'static_assert({driver}::Multiply::block_units == {spec.traits.block_units}, "traits.py");',
            Parameters.checks(f"{driver}::Arguments"),
            f"{head} {{ {driver}::run(p); }}",
        ]
    )


def _step(spec: StepKernel) -> str:
    driver = f"driver_{spec.entry}"
    arguments = f"{_cell(spec)}, {_named(spec.dtype)}, {_named(spec.kept)}, {spec.segment}"
    return "\n".join(
        [
            f"using {driver} = rnn_gpu::Step{spec.direction.title()}<{arguments}>;",
            Parameters.checks(f"{driver}::Arguments"),
            f"RNN_GPU_KERNEL({spec.entry}, {THREADS}, {driver}::Arguments)"
            f" {{ {driver}::{'replay' if spec.replay else 'run'}(p); }}",
        ]
    )
