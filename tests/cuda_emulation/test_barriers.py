"""Each barrier is needed: on a copy of the sources without it the emulation finds fault; with all it does not."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass

import numpy as np
import pytest
from support.backends import REFERENCE
from support.calls import draw
from support.cases import Case
from support.cells import CELLS
from support.cuda_emulation import HIGHEST_FIRST, LOWEST_FIRST, RANDOM, EmulatedDevice, EmulationError, compile_units
from support.emulated import awkward, awkward_plan, run
from support.errors import error

from rnn_gpu.kernels.cupy_raw import source
from rnn_gpu.kernels.cupy_raw.traits import DIRECTIONS, SequenceKernel

pytestmark = pytest.mark.skipif(
    shutil.which("g++") is None, reason="the kernels are compiled by g++, and there is none"
)

CASES = (
    ("gru_2014", Case("tiles", T=5, B=11, I=2, H=11, initial=True)),
    ("lstm", Case("ends", T=9, B=11, I=2, H=11, lengths=(9, 9, 9, 9, 8, 8, 1, 1, 1, 1, 1), initial=True)),
    ("lstm", Case("begins", T=8, B=8, I=2, H=11, lengths=(8, 8, 8, 8, 8, 8, 1, 1))),
)
"""Two stages, so that an exchange is followed by another in the same step, and three tiles, the last of them not full,
so that buffers are used again, with more exchanges than a grid has slots. And chunks that have rows in some steps only:
the slot of their last exchange is the one of the next tile's first, forward, or last, backward."""

ORDERS = [(LOWEST_FIRST, 1), (HIGHEST_FIRST, 1), *((RANDOM, seed) for seed in range(1, 6))]

FOUND_IN = {
    "BlockTeam": [("block", "fma")],
    "ClusterTeam": [("cluster", "fma")],
    "GridTeam": [("grid", "fma")],
    "MmaProduct": [("block_splits", "mma")],
    "SequenceForward": [("block", "fma"), ("cluster", "fma"), ("grid", "fma")],
    "SequenceBackward": [("block", "fma"), ("cluster", "fma"), ("grid", "fma")],
}
"""Where barriers are, and the kernels that have them."""


NOTHING_THERE = {
    "block": re.compile(r"\bteam\.(template )?(arrive|restart)\b|\bclear(<.*>)?\(team"),
    "cluster": re.compile(r"\bteam\.restart\b|\bclear(<.*>)?\(team"),
    "grid": re.compile(r"\bif constexpr \(k > 0\) team\b|\bteam\.template arrive<.*inputs\(k\)"),
    "block_splits": re.compile("(?!)"),
}
"""What does nothing in a strategy: a block waits at its barrier alone, a cluster has nothing to clear, and a grid needs
a fence of every other exchange, which is that of the first stage of two."""


@dataclass(frozen=True)
class Barrier:
    """A line of a file, in a struct, that makes threads wait or says that one has come."""

    file: str
    line: int
    struct: str
    text: str

    def __str__(self) -> str:
        return f"{self.struct}_{self.file}_{self.line}"


WAITS = re.compile(
    r"arch::\w+_barrier\(\);|arch::fence\(\);|arch::(arrive_release|expect_bytes|wait_for_bytes)\(|"
    r"while \(.*arch::read_acquire\(|while \(!has_come|\bbarrier\(\);|\bclear(<.*>)?\(team|"
    r"\bteam\.(template )?(arrive|wait|restart)\b"
)


def barriers() -> list[Barrier]:
    """All there are in the drivers; arch.cuh only says what they are made of."""
    found = []
    for name in source.HEADERS:
        struct = ""
        for number, line in enumerate((source.FOLDER / f"{name}.cuh").read_text().splitlines(), 1):
            if named := re.match(r"(?:template <.*> )?struct (\w+) {", line):
                struct = named[1]
            if name != "arch" and WAITS.search(line.partition("//")[0]):
                found.append(Barrier(name, number, struct, line))
    return found


BARRIERS = barriers()


def without(text: str, barrier: Barrier) -> str:
    """A translation unit whose line of the barrier, counted from the file's own `#line 1`, does nothing."""
    lines = text.split("\n")
    place = lines.index(f'#line 1 "{barrier.file}.cuh"') + barrier.line
    assert lines[place] == barrier.text
    lines[place] = "      for (; false;) {" if barrier.text.rstrip().endswith("{") else "{}"
    return "\n".join(lines)


def faults(strategy: str, product: str, barrier: Barrier | None) -> list[str]:
    """What goes wrong, by case and order of threads."""
    dtype = "float32"
    traits = awkward(strategy, product, dtype)
    limit = 64 if product == "fma" else 2**14  # of 2^23: what TF32 rounds off is less
    found = []
    for name, case in CASES:
        cell = CELLS[name]
        specs = tuple(
            SequenceKernel(cell, dtype, direction, traits).of_call(
                lengths=case.lengths is not None, resets=False, keeps=2
            )
            for direction in DIRECTIONS
        )
        text = source.translation_unit(specs)
        (library,) = compile_units([text if barrier is None else without(text, barrier)])
        given = {spec.entry: library for spec in specs}
        reference = REFERENCE.run(draw(cell, case, dtype, padding=0.0).map(lambda array: array.astype(np.float64)))
        for order, seed in ORDERS:
            device = EmulatedDevice(
                order=order, seed=seed, library_of=lambda kernel, given=given: given.get(kernel.entry)
            )
            try:
                result = run(draw(cell, case, dtype), awkward_plan(strategy, product), device, tf32=product == "mma")
            except EmulationError as fault:
                found.append(str(fault))
                continue
            worst = max(error(result[name], reference[name]) for name in reference)
            if not worst <= limit:
                found.append(f"{worst:.3g} rounding errors")
    return found


@pytest.mark.parametrize(("strategy", "product"), sorted({pair for pairs in FOUND_IN.values() for pair in pairs}))
def test_nothing_goes_wrong_with_all_barriers(strategy, product):
    assert faults(strategy, product, None) == []


@pytest.mark.parametrize("barrier", BARRIERS, ids=str)
def test_something_goes_wrong_without_any_one_barrier(barrier):
    for strategy, product in FOUND_IN[barrier.struct]:
        if NOTHING_THERE[strategy].search(barrier.text):
            continue
        assert faults(strategy, product, barrier), f"{strategy} does as well without {barrier.text.strip()!r}"


def test_every_barrier_is_known():
    assert {barrier.struct for barrier in BARRIERS} == set(FOUND_IN)
    assert len(BARRIERS) >= 11
