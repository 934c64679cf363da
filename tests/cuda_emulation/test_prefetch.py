"""What kernels ask of the L2 cache is what they load some steps later, each number once."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from support.calls import draw
from support.cases import Case
from support.cells import CELLS
from support.cuda_emulation import EmulatedDevice
from support.emulated import awkward_plan, run

pytestmark = pytest.mark.skipif(
    shutil.which("g++") is None, reason="the kernels are compiled by g++, and there is none"
)

T, B, H = 9, 7, 8

AHEAD, AHEAD_OF_LENGTHS = 4, 2
"""Steps from one to that which is asked for while it is done."""


def asked(strategy: str, dtype: str, case: Case) -> list[np.ndarray]:
    """Forward's and backward's [address, bytes]."""
    device = EmulatedDevice()
    run(draw(CELLS["lstm"], case, dtype), awkward_plan(strategy, "fma"), device)
    return [found for name, found in zip(device.launches, device.prefetches, strict=True) if f"_{strategy}_" in name]


def ranges(found: np.ndarray, itemsize: int) -> list[int]:
    """How many numbers each run of neighbours has; each number is there once."""
    addresses = np.sort(found[:, 0])
    steps = np.diff(addresses)
    assert (steps > 0).all(), "twice"
    ends = np.flatnonzero(steps != itemsize)
    return sorted(np.diff([-1, *ends, len(addresses) - 1]).tolist())


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("strategy", ["block", "cluster", "grid"])
def test_each_number_of_the_steps_to_come_is_asked_for_once(strategy, dtype, reverse):
    cell, itemsize = CELLS["lstm"], np.dtype(dtype).itemsize
    forward, backward = asked(strategy, dtype, Case("plain", T=T, B=B, H=H, reverse=reverse))
    numbers = (T - AHEAD) * B * H
    assert ranges(forward, itemsize) == [numbers * len(cell.input_gates)]
    kept = sorted(numbers * count for count in (1, len(cell.states), len(cell.saved)))  # of dy, the states, the others
    assert ranges(backward, itemsize) == kept


@pytest.mark.parametrize("strategy", ["block", "cluster", "grid"])
def test_rows_that_have_ended_are_not_asked_for(strategy):
    lengths, cell = (9, 0, 3, 2, 9, 1, 5), CELLS["lstm"]
    forward, backward = asked(strategy, "float32", Case("ragged", T=T, B=B, H=H, lengths=lengths))
    of_rows = [found[found[:, 1] == 1] for found in (forward, backward)]
    numbers = H * sum(max(length - AHEAD_OF_LENGTHS, 0) for length in lengths)
    assert ranges(of_rows[0], 4) == [numbers * len(cell.input_gates)]
    assert sum(ranges(of_rows[1], 4)) >= H * len(cell.saved)
    small = [found[found[:, 1] > 1] for found in (forward, backward)]
    assert [each[:, 1].tolist() for each in small] == [[8 * (T + 1)]] * 2


def test_resets_are_asked_for_at_once():
    forward, _ = asked("block", "float32", Case("resets", T=T, B=B, H=H, resets=((1, 2), (4, 0))))
    assert forward[forward[:, 1] > 1][:, 1].tolist() == [T * B]
