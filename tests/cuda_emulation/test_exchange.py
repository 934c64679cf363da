"""What the blocks of a grid exchange through global memory: slots that are used again, numbers that look like none."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from support.calls import draw
from support.cases import Case
from support.cells import CELLS
from support.cuda_emulation import HIGHEST_FIRST, LOWEST_FIRST, RANDOM, EmulatedDevice
from support.emulated import awkward_plan, run
from support.errors import assert_same_bits

from rnn_gpu.kernels.cupy_raw import method

pytestmark = pytest.mark.skipif(
    shutil.which("g++") is None, reason="the kernels are compiled by g++, and there is none"
)

CASE = Case("slots", T=5, B=11, I=2, H=11, lengths=(5, 2, 4, 0, 5, 3, 1, 1, 2, 4, 1), initial=True)

ORDERS = [(LOWEST_FIRST, 1), (HIGHEST_FIRST, 1), (RANDOM, 1), (RANDOM, 2)]


class Watched(EmulatedDevice):
    """Knows how many slots each launch had."""

    def __init__(self, order: int = LOWEST_FIRST, seed: int = 1) -> None:
        super().__init__(order=order, seed=seed)
        self.slots: list[int] = []

    def launch(self, launch, parameters):
        if launch.cooperative:
            self.slots.append(parameters.slots)
        super().launch(launch, parameters)


@pytest.mark.parametrize(("name", "stages"), [("gru_2014", 2), ("lstm", 1)])
@pytest.mark.parametrize(
    ("strategy", "product", "dtype"), [("grid", "fma", "float64"), ("grid_splits", "mma", "float16")]
)
def test_any_number_of_slots_gives_the_same(name, stages, strategy, product, dtype, monkeypatch):
    plan_of = awkward_plan(strategy, product)
    call = draw(CELLS[name], CASE, dtype)
    device = Watched()
    expected = run(call, plan_of, device)
    tiles = 1 if product == "mma" else 2  # of a team
    assert device.slots == [stages * CASE.T * tiles] * 2  # one for each exchange
    found = set()
    for size in (1, 2**13, 2**14):
        monkeypatch.setattr(method, "EXCHANGE_BYTES", size)
        for order, seed in ORDERS:
            device = Watched(order, seed)
            assert_same_bits(run(call, plan_of, device), expected)
            found.update(device.slots)
    assert min(found) == stages  # a step's
    assert any(stages < slots < stages * CASE.T * tiles for slots in found)


@pytest.mark.parametrize(
    ("strategy", "product", "dtype"),
    [
        *(("grid", "fma", dtype) for dtype in ("float64", "float32", "float16", "bfloat16")),
        *(("grid_splits", "mma", dtype) for dtype in ("float32", "float16", "bfloat16")),
    ],
)
def test_a_nan_with_all_bits_set_is_a_number(strategy, product, dtype):
    """It is what marks numbers that have not been published."""
    plan_of = awkward_plan(strategy, product)
    case = Case("nan", T=3, B=6, I=2, H=11, initial=True)
    call = draw(CELLS["gru"], case, dtype)
    tf32 = product == "mma" and dtype == "float32"
    expected = run(call, plan_of, tf32=tf32)
    bits = np.full(case.H, -1, {2: np.int16, 4: np.int32, 8: np.int64}[call.initial[0].itemsize])
    call.initial[0][4] = bits.view(call.initial[0].dtype)
    call.dlast[0][2] = bits.view(call.dlast[0].dtype)
    found = run(call, plan_of, tf32=tf32)
    assert np.isnan(np.asarray(found["y"], np.float64)[:, 4]).all()
    assert np.isnan(np.asarray(found["d_h"], np.float64)[2]).all()
    whole = [0, 1, 2, 3, 5]
    assert_same_bits({"y": found["y"][:, whole]}, {"y": expected["y"][:, whole]})
