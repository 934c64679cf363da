"""The GPU backend, executed on the CPU: every strategy, cell, case and dtype against the float64 reference."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from support.backends import REFERENCE
from support.calls import Call, draw
from support.cases import CASES, DTYPES, Case
from support.cells import CELLS
from support.cuda_emulation import HIGHEST_FIRST, LOWEST_FIRST, RANDOM, EmulatedDevice
from support.emulated import FMA, MMA, awkward_plan, run, stepwise
from support.errors import assert_close, assert_same_bits, error
from support.unusual import UNUSUAL

from rnn_gpu.arrays import dtype_named
from rnn_gpu.kernels.cupy_raw import backward, method

pytestmark = pytest.mark.skipif(
    shutil.which("g++") is None, reason="the kernels are compiled by g++, and there is none"
)

LIMIT = 16
"""Rounding errors in float64; as in tests/test_grid.py."""

LUCK = 4
"""Rounding errors that are allowed where a plain implementation happens to make next to none."""

LUCK_MMA = 0.01
"""The same on tensor cores, of the largest value: two roundings of bfloat16, and float32 sums in another order may turn
either way one that is a tie or nearly."""

FEW = {"lstm", "gru_2014", "leaky"}
"""One stage and two, one state and two, vectors."""

BY_DTYPE = [(cell, "float64") for cell in CELLS] + [(cell, dtype) for cell in sorted(FEW) for dtype in DTYPES[1:]]

CASES_UNUSUAL = [case for case in CASES if case.name in ("resets", "everything")]


@pytest.fixture(autouse=True)
def exchange_of_few_steps(monkeypatch):
    """Teams of a grid use what they exchange in again, some at each step and others later."""
    monkeypatch.setattr(method, "EXCHANGE_BYTES", 1 << 12)


def plan_of(strategy: str, product: str):
    return stepwise(product) if strategy == "stepwise" else awkward_plan(strategy, product)


def device_for(number: int) -> EmulatedDevice:
    """Threads in another order from case to case."""
    return EmulatedDevice(order=(LOWEST_FIRST, HIGHEST_FIRST, RANDOM)[number % 3], seed=number)


def expected(cell, case: Case, dtype: str) -> tuple[Call, dict[str, np.ndarray]]:
    """The call without NaN in the padding, and the reference's results in float64."""
    clean = draw(cell, case, dtype, padding=0.0)
    return clean, REFERENCE.run(clean.map(lambda array: array.astype(np.float64)))


def check(found, cell, case: Case, dtype: str) -> None:
    clean, reference = expected(cell, case, dtype)
    if dtype == "float64":
        assert_close(found, reference, LIMIT)
        return
    plain = REFERENCE.run(clean)
    assert list(found) == list(reference)
    for name, array in found.items():
        assert_close({name: array}, {name: reference[name]}, max(2 * error(plain[name], reference[name]), LUCK))


@pytest.mark.parametrize("number", range(len(CASES)), ids=[str(case) for case in CASES])
@pytest.mark.parametrize(("name", "dtype"), BY_DTYPE)
@pytest.mark.parametrize("strategy", FMA)
def test_results_are_those_of_the_reference(strategy, name, dtype, number):
    case, cell = CASES[number], CELLS[name]
    if (case.layout, dtype) == ("foreign", "bfloat16"):
        pytest.skip("ml_dtypes' bfloat16 has no foreign byte order")
    call = draw(cell, case, dtype)
    found = run(call, plan_of(strategy, "fma"), device_for(number))
    check(found, cell, case, dtype)
    assert not found["y"][call.padding()].any()
    assert not found["d_x"][call.padding()].any()
    assert found["y"].dtype == dtype_named(dtype)
    assert found[f"last_{cell.states[0]}"].dtype == (np.float64 if dtype == "float64" else np.float32)


@pytest.mark.parametrize("case", CASES_UNUSUAL, ids=str)
@pytest.mark.parametrize("name", UNUSUAL)
@pytest.mark.parametrize("strategy", ["block", "stepwise"])
def test_cells_that_no_paper_has(strategy, name, case):
    found = run(draw(UNUSUAL[name], case), plan_of(strategy, "fma"), device_for(1), recompute=strategy == "stepwise")
    check(found, UNUSUAL[name], case, "float64")


@pytest.mark.parametrize("case", [case for case in CASES if case.layout != "foreign"], ids=str)
@pytest.mark.parametrize(
    ("name", "dtype"), [("lstm", "bfloat16"), ("gru_2014", "float32"), ("gru_2014", "float16"), ("leaky", "bfloat16")]
)
@pytest.mark.parametrize(
    ("product", "strategy"),
    [("mma", name) for name in MMA] + [("fma_kept", name) for name in FMA if name != "stepwise"],
)
def test_what_is_kept_in_16_bits_errs_as_plain_rounding_of_operands_does(product, strategy, name, dtype, case):
    """The measure is a product a step, whose operands are rounded in the same places."""
    cell, tf32 = CELLS[name], dtype == "float32"
    _, reference = expected(cell, case, dtype)
    call = draw(cell, case, dtype)
    found = run(call, plan_of(strategy, product), device_for(len(case.name)), tf32=tf32)
    plain = run(call, plan_of("stepwise", "mma"), tf32=tf32)
    assert list(found) == list(reference)
    for key, array in found.items():
        limit = 2 * error(plain[key], reference[key]) + LUCK_MMA * 2**23
        assert_close({key: array}, {key: reference[key]}, limit)


@pytest.mark.parametrize("strategy", FMA)
@pytest.mark.parametrize("name", sorted(FEW))
def test_what_is_made_again_is_what_was_kept(strategy, name):
    case = next(case for case in CASES if case.name == "everything")
    call = draw(CELLS[name], case, "float32")
    kept = run(call, plan_of(strategy, "fma"))
    again = run(call, plan_of(strategy, "fma"), recompute=True)
    check(again, CELLS[name], case, "float32")
    same = ("y", *(f"last_{state}" for state in CELLS[name].states))
    assert_same_bits({key: again[key] for key in same}, {key: kept[key] for key in same})


@pytest.mark.parametrize("product", ["fma_kept", "mma"])
@pytest.mark.parametrize("name", ["lstm", "gru_2014"])
def test_what_is_made_again_in_16_bits_is_what_was_kept_up_to_rounding(name, product):
    case = next(case for case in CASES if case.name == "everything")
    call = draw(CELLS[name], case, "bfloat16")
    _, reference = expected(CELLS[name], case, "bfloat16")
    kept = run(call, plan_of("cluster", product))
    again = run(call, plan_of("cluster", product), recompute=True)
    for key, array in again.items():
        assert error(array, reference[key]) <= 2 * error(kept[key], reference[key]) + LUCK_MMA * 2**23, key
    if product == "mma":
        assert_same_bits(again, kept)


@pytest.mark.parametrize("bytes_at_a_time", [1, 2000])
@pytest.mark.parametrize("strategy", FMA)
def test_it_is_made_again_in_pieces(strategy, bytes_at_a_time, monkeypatch):
    case = next(case for case in CASES if case.name == "everything")
    call = draw(CELLS["lstm_peephole"], case, "float64")
    at_once = run(call, plan_of(strategy, "fma"), recompute=True)
    monkeypatch.setattr(backward, "RECOMPUTED_BYTES", bytes_at_a_time)
    check(run(call, plan_of(strategy, "fma"), recompute=True), CELLS["lstm_peephole"], case, "float64")
    assert_same_bits({"y": at_once["y"]}, {"y": run(call, plan_of(strategy, "fma"), recompute=True)["y"]})


@pytest.mark.parametrize("strategy", FMA)
def test_the_order_of_threads_changes_no_bit(strategy):
    case = next(case for case in CASES if case.name == "everything")
    call = draw(CELLS["gru_2014"], case, "float32")
    orders = [EmulatedDevice(order=LOWEST_FIRST), EmulatedDevice(order=HIGHEST_FIRST)]
    orders += [EmulatedDevice(order=RANDOM, seed=seed) for seed in range(1, 8)]
    results = [run(call, plan_of(strategy, "fma"), device) for device in orders]
    for result in results[1:]:
        assert_same_bits(result, results[0])
