"""Every kind of kernel compiled by NVRTC for every architecture, without a driver; what became of it, from its cubin.

A run takes each combination of strategy, dtype, TF32 and direction once an architecture, with another cell each time.
With RNN_GPU_TEST_KERNELS=all in the environment it takes all the kernels that the plan takes for a few sizes of every
cell, which is thousands, and hours on a few cores.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import cycle, product

import pytest
from support.cells import CELLS
from support.cubin import resources

from rnn_gpu.bench.gpu import barriers
from rnn_gpu.errors import BackendError
from rnn_gpu.kernels.cupy_raw import packing, plan, sums
from rnn_gpu.kernels.cupy_raw.compilation import compiled, target_for
from rnn_gpu.kernels.cupy_raw.presets import PRESETS
from rnn_gpu.kernels.cupy_raw.source import kernel, step_kernels
from rnn_gpu.kernels.cupy_raw.traits import DIRECTIONS, SequenceKernel
from rnn_gpu.machine_code import Target

ALL = os.environ.get("RNN_GPU_TEST_KERNELS") == "all"

DEVICES = {"sm_80": PRESETS["A100"], "sm_90": PRESETS["H200"], "sm_100": PRESETS["B200"]}

TYPES = {"float64": ("float64", False), "float32": ("float32", False), "tf32": ("float32", True),
         "float16": ("float16", False), "bfloat16": ("bfloat16", False)}  # fmt: skip
"""dtype, and whether products are in TF32."""

SIZES = ((16, 128), (4, 96), (1, 64))
"""B and H, tried in this order: not every strategy takes every size in every dtype."""

TIGHT = (
    ("gru", "bfloat16", 64, 1024, "forward"), ("gru", "float16", 128, 768, "forward"),
    ("gru", "bfloat16", 20, 768, "forward"), ("lstm", "bfloat16", 64, 384, "backward"),
    ("lstm", "float16", 16, 384, "backward"),
)  # fmt: skip
"""Cell, dtype, B and H whose kernels on an H200 take nearly all registers that there are."""

every_device = pytest.mark.parametrize("arch", DEVICES)


@cache
def chosen(arch: str) -> tuple[SequenceKernel, ...]:
    """The sequence kernels to compile for an architecture."""
    properties = DEVICES[arch]
    if ALL:
        found = [
            spec for cell in CELLS.values() for dtype in plan_dtypes() for spec in plan.samples(cell, dtype, properties)
        ]
        return tuple(spec for spec in found if isinstance(spec, SequenceKernel))
    with_products = cycle(cell for cell in CELLS.values() if cell.stages)
    kinds = [
        (strategy, kind, direction)
        for strategy in ("block", "cluster", "grid")
        for kind in TYPES
        for direction in DIRECTIONS
        if strategy != "cluster" or properties.max_cluster > 1
    ]
    made = [one(next(with_products), *kind, arch) for kind in kinds]
    for name, dtype, B, H, direction in TIGHT if arch == "sm_90" else ():
        spec = getattr(plan.plan_for(CELLS[name], dtype, B, H, DEVICES[arch]), direction).kernel
        made += [spec.of_call(lengths=False, resets=False, keeps=keeps) for keeps in (0, 2)]
    return tuple(dict.fromkeys(made))


def one(cell, strategy: str, kind: str, direction: str, arch: str) -> SequenceKernel:
    """What the plan takes of this kind for this cell."""
    dtype, tf32 = TYPES[kind]
    for B, H in SIZES:
        try:
            found = plan.plan_for(cell, dtype, B, H, DEVICES[arch], strategy=strategy, tf32=tf32)
        except BackendError:
            continue
        return getattr(found, direction).kernel
    raise AssertionError(f"{cell.name}: {strategy} runs none of {SIZES} in {kind} on {arch}")


def plan_dtypes() -> Iterable[str]:
    return dict.fromkeys(dtype for dtype, _ in TYPES.values())


def all_of(function, specs):
    """function(spec) of each, on all processors; NVRTC leaves Python alone meanwhile."""
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        return list(pool.map(function, specs))


@every_device
def test_sequence_kernels_keep_everything_in_registers(arch):
    """No register is spilled and no array lies in local memory, however large the kernel."""
    target = target_for(DEVICES[arch].capability)
    assert target == Target(arch)

    def used(spec):
        found = resources(compiled(kernel(spec).source, target))
        assert list(found) == [spec.entry]
        return found[spec.entry]

    made = chosen(arch)
    kinds = {(spec.traits.strategy, spec.traits.operand, spec.dtype, spec.direction) for spec in made}
    assert len(kinds) >= (20 if arch == "sm_80" else 30) - 6  # TF32 reads float32, and is no kind of its own here
    found = dict(zip((spec.entry for spec in made), all_of(used, made), strict=True))
    assert {entry: each for entry, each in found.items() if each.stack} == {}
    for spec in made:
        limit = min(255, DEVICES[arch].registers_multiprocessor // spec.traits.threads)
        assert found[spec.entry].registers <= limit, spec.entry


@every_device
def test_step_kernels_keep_everything_in_registers(arch):
    """All the elementwise kernels of a cell are one translation unit. Every cell, and some on other architectures."""
    cells = list(CELLS.values())[:: 1 if arch == "sm_90" else 4]
    chosen = product(plan_dtypes(), CELLS.values()) if ALL else zip(cycle(plan_dtypes()), cells, strict=False)
    units = {}
    for dtype, cell in chosen:
        kept = dtype if cell.stages or not dtype.endswith("16") else "float32"
        specs = step_kernels(cell, dtype, kept)
        units[kernel(specs[0]).source] = {spec.entry for spec in specs}
    found = all_of(lambda source: resources(compiled(source, Target(arch))), list(units))
    for entries, used in zip(units.values(), found, strict=True):
        assert entries == set(used)
        assert all(each.stack == 0 for each in used.values()), used


@every_device
@pytest.mark.parametrize("cell", [CELLS["lstm_peephole"], CELLS["gru"]], ids=lambda cell: cell.name)
def test_sums_keep_everything_in_registers(cell, arch):
    for dtype in plan_dtypes():
        for each in sums.kernels_of(cell, dtype, dtype):
            assert resources(compiled(each.source, Target(arch)))[each.entry].stack == 0


@every_device
def test_packing_keeps_everything_in_registers(arch):
    for dtype in plan_dtypes():
        for each in packing.kernels_of(dtype, "float64" if dtype == "float64" else "float32"):
            assert resources(compiled(each.source, Target(arch)))[each.entry].stack == 0


def test_float32_kernels_hold_no_float64_instruction():
    """In PTX, before anything is optimised away; of 16-bit kernels too, whose working type is float32."""
    narrow = [spec for spec in chosen("sm_90") if spec.dtype != "float64"]
    wide = next(spec for spec in chosen("sm_90") if spec.dtype == "float64")

    def text(spec):
        return compiled(kernel(spec).source, Target("compute_90")).decode()

    assert ".f64" in text(wide)
    for spec, ptx in zip(narrow, all_of(text, narrow), strict=True):
        found = re.findall(r"^.*\.f64.*$", ptx, re.MULTILINE)
        assert not found, f"{spec.entry}: {found[0].strip()}"


@every_device
def test_benchmarks_of_barriers_compile(arch):
    made = barriers.kernels(DEVICES[arch])
    found = {name: resources(compiled(spec.source, Target(arch))) for name, (spec, _) in made.items()}
    assert {name for name in found if name.startswith("cluster")} == (
        set() if arch == "sm_80" else {f"cluster_{size}" for size in barriers.CLUSTERS}
    )
    for name, used in found.items():
        assert used[f"rnn_gpu_barrier_{name}"].stack == 0


def test_local_memory_is_seen():
    """What the tests above find missing is found where it is there."""
    source = """
    extern "C" __global__ void spills(const float* x, float* y) {
      float kept[300];
      #pragma unroll
      for (int i = 0; i < 300; ++i) kept[i] = x[i * blockDim.x + threadIdx.x];
      #pragma unroll
      for (int i = 0; i < 300; ++i) y[i * blockDim.x + threadIdx.x] = kept[i] * kept[(i * 7 + 3) % 300];
    }
    extern "C" __global__ void fits(float* y) { y[threadIdx.x] = 1; }
    """
    for arch in DEVICES:
        found = resources(compiled(source, Target(arch)))
        assert found["spills"].stack > 0
        assert (found["fits"].stack, 0 < found["fits"].registers <= 32) == (0, True)
