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

from rnn_gpu.kernels.cupy_raw import method, source
from rnn_gpu.kernels.cupy_raw.traits import DIRECTIONS, SequenceKernel

pytestmark = pytest.mark.skipif(
    shutil.which("g++") is None, reason="the kernels are compiled by g++, and there is none"
)

CELL = CELLS["gru_2014"]
"""Two stages, so that an exchange is followed by another in the same step."""

CASE = Case("tiles", T=4, B=11, I=2, H=11, initial=True)
"""Three tiles, the last of them not full, so that buffers are used again."""

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
    r"arch::\w+_barrier\(\);|arch::(arrive_release|expect_bytes|wait_for_bytes)\(|while \(.*arch::read_acquire\(|"
    r"while \(missing\)|\bmeet\(p\);|\bteam\.(template )?(?P<done>arrive|wait)\b"
)

NOTHING_IS_DONE_BY = {"arrive": ("block", "grid")}
"""The strategies whose team has it because others do."""


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
    lines[place] = barrier.text.replace("while (", "while (false && ") if "while (" in barrier.text else "{}"
    return "\n".join(lines)


@pytest.fixture(autouse=True)
def exchange_of_one_step(monkeypatch):
    """Teams of a grid meet before each step."""
    monkeypatch.setattr(method, "EXCHANGE_BYTES", 1)


def faults(strategy: str, product: str, barrier: Barrier | None) -> list[str]:
    """What goes wrong, by order of threads."""
    dtype = "float32"
    traits = awkward(strategy, product, dtype)
    specs = tuple(
        SequenceKernel(CELL, dtype, direction, traits).of_call(lengths=False, resets=False, keeps=2)
        for direction in DIRECTIONS
    )
    text = source.translation_unit(specs)
    (library,) = compile_units([text if barrier is None else without(text, barrier)])
    entries = {spec.entry for spec in specs}
    call = draw(CELL, CASE, dtype)
    reference = REFERENCE.run(call.map(lambda array: array.astype(np.float64)))
    limit = 64 if product == "fma" else 2**14  # of 2^23: what TF32 rounds off is less
    found = []
    for order, seed in ORDERS:
        device = EmulatedDevice(
            order=order, seed=seed, library_of=lambda kernel: library if kernel.entry in entries else None
        )
        try:
            result = run(call, awkward_plan(strategy, product), device, tf32=product == "mma")
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
    done = WAITS.search(barrier.text)["done"]
    for strategy, product in FOUND_IN[barrier.struct]:
        if strategy in NOTHING_IS_DONE_BY.get(done, ()):
            continue
        assert faults(strategy, product, barrier), f"{strategy} does as well without {barrier.text.strip()!r}"


def test_every_barrier_is_known():
    assert {barrier.struct for barrier in BARRIERS} == set(FOUND_IN)
    assert len(BARRIERS) >= 11
