"""The plan: what it takes, what it says, that what it takes runs, and that the documents have what it predicts."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.backends import REFERENCE
from support.calls import draw
from support.cases import Case
from support.cells import CELLS
from support.cuda_emulation import HIGHEST_FIRST, SMALL, EmulatedDevice, EmulationError
from support.emulated import backend, run
from support.errors import assert_same_bits, error

from rnn_gpu import cells
from rnn_gpu.errors import ArgumentError, BackendError
from rnn_gpu.kernels.cupy_raw import limits, report, source
from rnn_gpu.kernels.cupy_raw.plan import choose, plan_for, samples
from rnn_gpu.kernels.cupy_raw.presets import PRESETS
from rnn_gpu.kernels.cupy_raw.traits import SequenceKernel
from rnn_gpu.problem import describe
from rnn_gpu.strategies import ENVIRONMENT_VARIABLE, STRATEGIES

DOCUMENT = Path(__file__).parents[2] / "docs" / "design" / "gpu-kernels.md"

gcc = pytest.mark.skipif(shutil.which("g++") is None, reason="the kernels are compiled by g++, and there is none")


def test_the_tables_in_the_document_are_the_models():
    text = DOCUMENT.read_text(encoding="utf-8")
    assert report.placed(text) == text, "run python -m rnn_gpu.kernels.cupy_raw.report docs/design/gpu-kernels.md"


@pytest.mark.parametrize("device", PRESETS.values(), ids=PRESETS)
@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
@pytest.mark.parametrize("name", ["lstm", "gru_2014", "indrnn", "leaky"])
@pytest.mark.parametrize(("B", "H"), [(1, 1), (1, 128), (16, 200), (64, 1024), (8192, 256), (3, 5000)])
def test_what_is_planned_fits_the_device(device, dtype, name, B, H):
    plan = plan_for(CELLS[name], dtype, B, H, device)
    for direction in ("forward", "backward"):
        choice = getattr(plan, direction)
        if choice is None:
            assert plan.verdicts[direction].strategy == "stepwise"
            continue
        traits = choice.kernel.traits
        assert limits.misfit(choice.kernel, device) is None
        assert choice.kernel.shared_bytes <= device.shared_block
        assert min(traits.hidden, traits.blocks * traits.block_units) >= H
        assert choice.tiles * traits.rows >= B
        if traits.strategy == "grid":
            assert choice.teams * traits.blocks <= device.multiprocessors
        if traits.strategy == "cluster":
            assert traits.blocks <= device.max_cluster


def test_a_plan_says_why():
    text = str(plan_for(cells.lstm, "float32", 16, 512, PRESETS["A100"]))
    assert "not cluster: A100 (sm_80) has no thread block clusters" in text
    assert "not block: a block needs" in text
    assert "not stepwise: predicted" in text
    for word in ("flops", "bytes", "exchanges a step", "predicted", "shared memory", "registers", "blocks of"):
        assert word in text


def test_a_strategy_is_taken_by_name(monkeypatch):
    call = draw(cells.lstm, Case("named", H=20))
    problem, _ = describe(call.cell, call.x, call.weights)
    for strategy in STRATEGIES:
        monkeypatch.setenv(ENVIRONMENT_VARIABLE, strategy)
        assert {found.strategy for found in choose(problem, SMALL).verdicts.values()} == {strategy}
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, "blocks")
    with pytest.raises(ArgumentError, match=r"RNN_GPU_STRATEGY.*block, cluster, grid, stepwise.*'blocks'"):
        choose(problem, SMALL)
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, "cluster")
    with pytest.raises(BackendError, match=r"strategy cluster, forward: A100 .* has no thread block clusters"):
        choose(problem, PRESETS["A100"])
    old = backend(device=EmulatedDevice(PRESETS["A100"]))
    assert "no thread block clusters" in str(old.refuses(problem))


def test_no_backward_is_planned_where_nothing_is_kept():
    plan = plan_for(cells.lstm, "float32", 4, 64, PRESETS["H200"], save=False)
    assert plan.backward is None
    assert "backward" not in str(plan)


@pytest.mark.parametrize("name", ["lstm", "gru_2014", "indrnn"])
def test_samples_are_kernels_of_every_strategy(name):
    found = samples(CELLS[name], "float32", PRESETS["H200"])
    strategies = {spec.traits.strategy for spec in found if isinstance(spec, SequenceKernel)}
    assert strategies >= {"block", "cluster", "grid"}
    assert len({spec.entry for spec in found}) == len(found)


LARGER = Case("larger", T=3, B=9, I=5, H=40, lengths=(3, 1, 3, 0, 2, 3, 3, 2, 1), resets=((1, 0), (2, 4)), initial=True)


@gcc
@pytest.mark.parametrize("kind", ["float64", "float32", "tf32", "bfloat16"])
@pytest.mark.parametrize("strategy", STRATEGIES[:-1])
def test_what_is_planned_runs(monkeypatch, strategy, kind):
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, strategy)
    dtype = "float32" if kind == "tf32" else kind
    call = draw(cells.lstm, LARGER, dtype)
    device = EmulatedDevice(order=HIGHEST_FIRST)
    found = run(call, choose, device, tf32=kind == "tf32")
    assert sum(strategy in entry for entry in device.launches) == 2
    clean = draw(cells.lstm, LARGER, dtype, padding=0.0)
    reference = REFERENCE.run(clean.map(lambda array: array.astype(np.float64)))
    limit = {"float64": 16, "float32": 16, "tf32": 2**13, "bfloat16": 2**18}[kind]
    for name, expected in reference.items():
        assert error(found[name], expected) <= limit, name


@gcc
def test_more_blocks_than_the_device_has_are_refused_not_shrunk(monkeypatch):
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, "grid")
    planned_for_more = replace(SMALL, multiprocessors=64)
    call = draw(cells.rnn, Case("wide", H=100))
    with pytest.raises(BackendError, match="cannot run at once"):
        run(call, lambda problem, _: choose(problem, planned_for_more), EmulatedDevice(SMALL))


@gcc
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_running_out_of_memory_leaves_all_usable(monkeypatch, strategy):
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, strategy)
    call = draw(cells.gru_2014, Case("memory", lengths=(5, 2, 0)), "float32")
    device = EmulatedDevice()
    empty, count = device.empty, 10_000

    def until_none_is_left(shape, dtype):
        nonlocal count
        count -= 1
        if count < 0:
            raise MemoryError("no memory is left")
        return empty(shape, dtype)

    monkeypatch.setattr(device, "empty", until_none_is_left)
    expected = run(call, choose, device)
    needed = 10_000 - count
    for available in range(0, needed, 3):
        count = available
        with pytest.raises(MemoryError, match="no memory is left"):
            run(call, choose, device)
    count = 10_000
    assert_same_bits(run(call, choose, device), expected)


@gcc
def test_the_emulation_sees_a_store_outside_an_array():
    device = EmulatedDevice()

    def stray() -> None:
        with device.active():
            array = device.empty((4,), np.dtype(np.float32))
            np.lib.stride_tricks.as_strided(array, (5,), (4,))[4] = 0

    with pytest.raises(EmulationError, match="outside an array"):
        stray()


def test_sources_include_nothing_and_have_ptx_in_one_place():
    names = {*source.HEADERS, *source.HEADERS_OF_SUMS, *source.HEADERS_OF_PACKING}
    for name in names:
        text = (source.FOLDER / f"{name}.cuh").read_text()
        assert "#include" not in text
        assert ("asm" in text) == (name == "arch"), name
    assert {path.stem for path in source.FOLDER.glob("*.cuh")} == names
