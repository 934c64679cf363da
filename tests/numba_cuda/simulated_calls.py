"""Calls in Numba's simulator: what holds bit for bit, arrays that stay on the device, plans, faults, and training."""

from __future__ import annotations

import re
from dataclasses import replace

import ml_dtypes
import numpy as np
import pytest
from numba import cuda
from support.backends import Target
from support.calls import draw
from support.cases import CASES, Case
from support.cells import CELLS
from support.errors import assert_close, assert_same_bits
from support.unusual import UNUSUAL

import rnn_gpu
from rnn_gpu import cells, cli, dispatch
from rnn_gpu.errors import ArgumentError, BackendError
from rnn_gpu.kernels.numba_cuda import memory, product
from rnn_gpu.kernels.numba_cuda.cells import segments_of
from rnn_gpu.kernels.numba_cuda.device import Properties
from rnn_gpu.kernels.numba_cuda.plan import parts_of, plan
from rnn_gpu.kernels.numba_cuda.traits import DEVICE

HOST = Target("numba_cuda")
ON_DEVICE = Target("numba_cuda", put=cuda.to_device, get=lambda array: array.copy_to_host())
CPU = Target("numpy_cpu")
H200 = Properties("H200", (9, 0), 132, True, 4.8e12, 1.98e9, 232448)
EVERYTHING = next(case for case in CASES if case.name == "everything")
AWKWARD = ["lstm_peephole", "gru_2014", "leaky", "indrnn"]


@pytest.mark.parametrize("name", AWKWARD)
def test_strategies_give_the_same_bits(name, monkeypatch):
    call = draw(CELLS[name], EVERYTHING, "float32")
    expected = HOST.run(call)
    for strategy in ("grid", "stepwise") if call.cell.recurrent_gates else ("stepwise",):
        monkeypatch.setenv("RNN_GPU_STRATEGY", strategy)
        assert_same_bits(HOST.run(call), expected)


@pytest.mark.parametrize("name", AWKWARD)
def test_a_call_gives_the_same_bits_again(name):
    call = draw(CELLS[name], EVERYTHING, "float32")
    assert_same_bits(HOST.run(call), HOST.run(call))


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
@pytest.mark.parametrize("name", AWKWARD)
def test_recomputing_gives_the_same_bits(name, dtype):
    call = draw(CELLS[name], EVERYTHING, dtype)
    y, last, tape = rnn_gpu.forward(*call.arguments(), "numba_cuda", recompute=True)
    assert tape.saved.values is None
    found = HOST.named(call, y, last, rnn_gpu.backward(tape, call.dy, call.dlast))
    assert_same_bits(found, HOST.run(call))
    assert_same_bits(HOST.named(call, y, last, rnn_gpu.backward(tape, call.dy, call.dlast)), found)


@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
def test_steps_are_the_forward_pass(cell):
    call = draw(cell, Case("steps", T=3, B=3, initial=True, projected=True), "float32")
    y, last, _ = rnn_gpu.forward(*call.arguments(), "numba_cuda", save=False)
    state = call.initial
    for t in range(3):
        state = HOST.step(call, t, state)
        assert_same_bits({"y": state[0]}, {"y": y[t]})
    assert_same_bits(dict(enumerate(state)), dict(enumerate(last)))


@pytest.mark.parametrize("name", ["lstm_peephole", "gru_2014"])
def test_rows_do_not_depend_on_the_others(name):
    call = draw(CELLS[name], EVERYTHING, "float32")
    whole, some = HOST.run(call), HOST.run(call.rows([3, 1]))
    of_rows = [key for key in whole if key in ("y", "d_x") or key.removeprefix("last_") in call.cell.states]
    assert_same_bits({key: some[key] for key in of_rows}, {key: whole[key][..., [3, 1], :] for key in of_rows})


def test_pieces_that_carry_the_state_are_the_whole():
    call = draw(cells.gru_2014, Case("pieces", T=5, initial=True, projected=True), "float32")
    y, last, _ = rnn_gpu.forward(*call.arguments(), "numba_cuda")
    first, state, _ = rnn_gpu.forward(*call.steps(0, 2).arguments(), "numba_cuda")
    second, state, _ = rnn_gpu.forward(*replace(call.steps(2, 5), initial=state).arguments(), "numba_cuda")
    assert_same_bits({"y": np.concatenate([first, second]), "h": state[0]}, {"y": y, "h": last[0]})


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_and_infinity_stay_in_their_row(bad):
    call = draw(cells.lstm, Case("bad", B=3), "float32")
    clean = HOST.run(call)
    call.x[2, 1, 0] = bad
    found = HOST.run(call)
    assert np.isnan(found["y"][:, 1]).any() == np.isnan(bad)  # a sigmoid of infinity is a number
    assert not np.array_equal(found["y"][:, 1], clean["y"][:, 1])
    for name in ("y", "d_x", "last_h", "last_c", "d_h", "d_c"):
        assert_same_bits({name: found[name][..., [0, 2], :]}, {name: clean[name][..., [0, 2], :]})


@pytest.mark.parametrize("cell", UNUSUAL.values(), ids=UNUSUAL)
def test_unusual_cells(cell):
    call = draw(cell, Case("unusual", T=3, B=2, H=4, lengths=(3, 2), resets=((1, 0),), initial=True), "float64")
    expected = CPU.run(draw(cell, Case("unusual", T=3, B=2, H=4, lengths=(3, 2), resets=((1, 0),), initial=True),
                            padding=0.0))  # fmt: skip
    assert_close(HOST.run(call), expected, 64)


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_arrays_on_the_device_come_and_go(dtype):
    call = draw(cells.lstm_peephole, EVERYTHING, dtype)
    assert_same_bits(ON_DEVICE.run(call), HOST.run(call))


def test_a_step_on_the_device():
    call = draw(cells.lstm, Case("step", T=1, B=3, initial=True), "float32")
    there = call.map(cuda.to_device)
    x_t = cuda.to_device(call.x[0])
    for resets in (None, np.array([True, False, True])):
        expected = rnn_gpu.step(call.cell, call.x[0], call.weights, call.initial, resets=resets, backend="numba_cuda")
        given = None if resets is None else cuda.to_device(resets)
        found = rnn_gpu.step(there.cell, x_t, there.weights, there.initial, resets=given, backend="numba_cuda")
        assert_same_bits(dict(enumerate(map(ON_DEVICE.get, found))), dict(enumerate(expected)))


def test_nothing_is_copied_that_need_not_be():
    call = draw(cells.lstm, Case("plain", initial=True), "float32").map(cuda.to_device)
    tape = rnn_gpu.forward(*call.arguments(), "numba_cuda").tape
    prepared = tape.saved.prepared
    assert np.shares_memory(prepared.x._ary, call.x._ary)
    assert np.shares_memory(prepared.weights.w_hh._ary, call.weights.w_hh._ary)


def test_the_callers_arrays_are_not_written():
    call = draw(cells.lstm, EVERYTHING, "float32")
    there = call.map(cuda.to_device)
    ON_DEVICE.run(call)
    HOST.run(call)
    fresh = draw(cells.lstm, EVERYTHING, "float32")
    arrays = [fresh.x, fresh.dy, *fresh.initial, *fresh.dlast, *(array for _, array in fresh.weights.items())]
    y, _, tape = rnn_gpu.forward(*there.arguments())
    rnn_gpu.backward(tape, there.dy, there.dlast)
    same = [there.x, there.dy, *there.initial, *there.dlast, *(array for _, array in there.weights.items())]
    assert_same_bits(dict(enumerate(array.copy_to_host() for array in same)), dict(enumerate(arrays)))
    assert tape.backend.name == "numba_cuda"
    assert isinstance(y, type(there.x))


def test_frozen_weights_are_packed_once():
    call = draw(cells.gru, Case("plain"), "float32")
    weights = call.weights.frozen()
    first = rnn_gpu.forward(call.cell, call.x, weights, backend="numba_cuda").tape.saved.prepared.weights
    second = rnn_gpu.forward(call.cell, call.x, weights, backend="numba_cuda").tape.saved.prepared.weights
    assert first is second
    assert list(first.packed) == [("forward", 6)]
    device = call.weights.map(cuda.to_device).frozen()
    call.weights.w_hh[:] = 0
    y = rnn_gpu.forward(call.cell, cuda.to_device(call.x), device).y.copy_to_host()
    assert_same_bits({"y": y}, {"y": rnn_gpu.forward(call.cell, call.x, weights, backend="numba_cuda").y})


def test_resets_on_the_device():
    call = draw(cells.gru, EVERYTHING, "float32")
    there = replace(call.map(cuda.to_device), resets=cuda.to_device(call.resets))
    y, last, tape = rnn_gpu.forward(*there.arguments())
    found = ON_DEVICE.named(there, y, last, rnn_gpu.backward(tape, there.dy, there.dlast))
    assert_same_bits(found, HOST.run(call))


def test_a_device_array_picks_the_device_and_a_host_array_does_not():
    call = draw(cells.rnn, Case("plain"), "float32")
    there = call.map(cuda.to_device)
    assert rnn_gpu.explain(*call.arguments()).chosen in ("numba_cpu", "numpy_cpu")
    explanation = rnn_gpu.explain(*there.arguments())
    assert explanation.chosen == "numba_cuda"
    assert "forward: block, as U fits in the shared memory of one block" in str(explanation)
    named = str(rnn_gpu.explain(*call.arguments(), "numba_cuda"))
    assert "runs this call, as asked for" in named
    assert "x is copied to the device, and the results back" in named
    with pytest.raises(BackendError, match=r"numpy_cpu: x is a numba array on cuda:0; this backend takes host arrays"):
        rnn_gpu.forward(*there.arguments(), "numpy_cpu")


def problem_of(cell, T, B, H, dtype="float32"):
    shape = (T, B, 1)
    x = np.lib.stride_tricks.as_strided(np.zeros(1, dtype), shape, (0, 0, 0))
    weights = rnn_gpu.init_weights(cell, 1, H, dtype=dtype)
    return rnn_gpu.explain(cell, x, weights, backend="numpy_cpu").problem


@pytest.mark.parametrize(
    ("cell", "T", "B", "H", "dtype", "strategy", "refused"),
    [
        (cells.lstm, 100, 16, 32, "float32", "block", {}),
        (cells.rnn, 100, 4096, 64, "float64", "block", {}),
        (cells.indrnn, 100, 16, 200, "float32", "block", {}),
        (
            cells.lstm,
            100,
            16,
            128,
            "float32",
            "grid",
            {"block": "bytes of shared memory, and a block has 232448"},
        ),
        (cells.lstm, 100, 16, 512, "float32", "grid", {"block": "bytes of shared memory, and a block has 232448"}),
        (
            cells.gru_2014,
            100,
            512,
            512,
            "float32",
            "stepwise",
            {"block": "", "grid": "512 rows x 512 units in .* parts"},
        ),
        (cells.lstm, 1, 16, 32, "float32", "stepwise", {}),
    ],
)
@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_plans(direction, cell, T, B, H, dtype, strategy, refused):
    problem = problem_of(cell, T, B, H, dtype)
    chosen = plan(problem, direction, H200, DEVICE)
    tile = chosen.tile
    assert chosen.strategy == strategy
    assert list(chosen.refused) == list(refused)
    for name, reason in refused.items():
        assert re.search(reason, chosen.refused[name])
    assert tile.threads <= (DEVICE.threads_block if strategy == "block" else DEVICE.threads)
    assert tile.shared <= (DEVICE.shared if strategy == "stepwise" else H200.shared)
    assert tile.width * tile.row_tiles >= B > tile.width * (tile.row_tiles - 1)
    assert tile.units * tile.unit_tiles >= H > tile.units * (tile.unit_tiles - 1)
    if strategy == "grid":
        assert tile.row_tiles * tile.unit_tiles <= H200.multiprocessors
    text = str(chosen)
    assert f"{direction}: {strategy}, " in text
    assert "bytes and" in text
    assert "us by bandwidth" in text


def test_parts_of_a_sum_do_not_depend_on_the_batch():
    segments = segments_of(cells.lstm, "backward")
    assert [parts_of(segments, hidden, 4, H200, DEVICE) for hidden in (8, 16, 64, 128, 1024)] == [4, 8, 8, 8, 8]


def test_where_u_fits_in_a_block_a_sum_has_as_many_parts_as_the_block_has_threads():
    segments = segments_of(cells.rnn, "forward")
    small = replace(H200, shared=48 * 1024)
    assert [parts_of(segments, hidden, 4, H200, DEVICE) for hidden in (64, 128, 200, 512)] == [8, 4, 2, 8]
    assert [parts_of(segments, hidden, 4, small, DEVICE) for hidden in (64, 128, 200, 512)] == [8, 8, 8, 8]
    assert plan(problem_of(cells.rnn, 100, 16, 200), "forward", H200, DEVICE).strategy == "block"
    assert plan(problem_of(cells.rnn, 100, 16, 200), "forward", small, DEVICE).strategy == "grid"


def test_a_strategy_that_is_named_runs_or_says_why_not(monkeypatch):
    call = draw(cells.lstm, Case("plain", B=400), "float32")
    monkeypatch.setenv("RNN_GPU_STRATEGY", "grid")
    with pytest.raises(BackendError, match=r"RNN_GPU_STRATEGY: grid cannot run .* need 600 threads on each of 1 multi"):
        rnn_gpu.forward(*call.arguments(), "numba_cuda")
    with pytest.raises(BackendError, match="the cell has no recurrent product"):
        rnn_gpu.forward(*draw(cells.indrnn, Case("plain"), "float32").arguments(), "numba_cuda")
    monkeypatch.setenv("RNN_GPU_STRATEGY", "clusters")
    with pytest.raises(
        ArgumentError, match=r"RNN_GPU_STRATEGY: expected one of block, cluster, grid, stepwise, got 'clusters'"
    ):
        rnn_gpu.forward(*call.arguments(), "numba_cuda")


@pytest.mark.parametrize(("M", "K", "N"), [(1, 1, 1), (17, 40, 33), (5, 0, 3), (3, 70, 2)])
@pytest.mark.parametrize(
    ("over", "listed", "transposed"),
    [
        ("m", False, False),
        ("m", True, False),
        ("m", False, True),
        ("m", True, True),
        ("k", False, False),
        ("k", True, False),
    ],
)
def test_products(M, K, N, over, listed, transposed):
    """transposed: b as it lies in W x. Over k, a is one: rows of steps are rows of both operands."""
    rng = np.random.default_rng(0)
    queue = memory.Queue(problem_of(cells.rnn, 1, 1, 1))
    a, b, bias = rng.normal(size=(M, K)), rng.normal(size=(K, N)), rng.normal(size=N)
    rows = rng.permutation(2 * (M if over == "m" else K))[: M if over == "m" else K]
    expected = a @ b + bias
    if listed and over == "m":
        spread = np.full((2 * M, K), np.nan)
        spread[rows] = a
        a = spread
    elif listed:
        spread_a, spread_b = np.full((M, 2 * K), np.nan), np.full((2 * K, N), np.nan)
        spread_a[:, rows], spread_b[rows] = a, b
        a, b = spread_a, spread_b
    out = queue.zeros(2 * M * N)
    product.multiply(
        queue,
        product.Matrix(out, 0, N, 1),
        matrix(queue, a, transposed=over == "k"),
        matrix(queue, b, transposed=transposed),
        (M, K, N),
        bias=None if over == "k" else queue.upload(bias.astype(np.float32)),
        rows=queue.upload(rows.astype(np.int64)) if listed else None,
        over=over,
    )
    found = out.copy_to_host().reshape(-1, N)
    wanted = expected - (bias if over == "k" else 0)
    np.testing.assert_allclose(found[rows] if listed and over == "m" else found[:M], wanted, rtol=0, atol=1e-5)


def matrix(queue, values, *, transposed):
    """The matrix on the device, stored by rows, or by columns."""
    down, across = (1, max(values.shape[0], 1)) if transposed else (values.shape[1], 1)
    stored = queue.upload((values.T if transposed else values).astype(np.float32))
    return product.Matrix(stored, 0, down, across)


@pytest.mark.parametrize("n_rows", [0, 1, 5, 100])
def test_sums_of_columns_lose_nothing(n_rows):
    queue = memory.Queue(problem_of(cells.rnn, 1, 1, 1))
    a = np.random.default_rng(0).normal(size=(n_rows, 3)).astype(np.float32) + np.float32(1000)
    out = queue.empty(3)
    product.sum_columns(queue, out, 0, product.Matrix(queue.upload(a), 0, 3, 1), n_rows, 3, None)
    np.testing.assert_allclose(out.copy_to_host(), a.astype(np.float64).sum(axis=0), rtol=2e-7)


def test_16_bits_are_rounded_as_numpy_rounds():
    values = np.random.default_rng(0).normal(size=200).astype(np.float32) * np.float32(2.0) ** np.arange(
        -100, 100, dtype=np.float32
    )
    values = np.concatenate([values, np.float32([np.nan, np.inf, -np.inf, 0, -0.0, 3.4e38, 1.00390625, 1.01171875])])
    for dtype in (ml_dtypes.bfloat16, np.float16):
        queue = memory.Queue(problem_of(cells.rnn, 1, 1, 1, np.dtype(dtype)))
        with np.errstate(over="ignore"):
            expected = values.astype(dtype)
        found = queue.stored(queue.upload(values)).copy_to_host().view(dtype)
        same = (found.view(np.uint16) == expected.view(np.uint16)) | (np.isnan(found) & np.isnan(expected))
        assert same.all()


def test_running_out_of_memory_is_a_memory_error(monkeypatch):
    class CudaAPIError(Exception):
        pass

    def out_of_memory(self, size, dtype=None):
        raise CudaAPIError("[2] Call to cuMemAlloc results in CUDA_ERROR_OUT_OF_MEMORY")

    call = draw(cells.rnn, Case("plain"), "float32")
    with monkeypatch.context() as patch:
        patch.setattr(memory, "_driver_errors", lambda: (CudaAPIError,))
        patch.setattr(memory.Queue, "empty", out_of_memory)
        with pytest.raises(MemoryError, match=r"numba_cuda: not enough memory on the device for rnn, T=5"):
            rnn_gpu.forward(*call.arguments(), "numba_cuda")
    HOST.run(call)


def test_training(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text("the cat sat on the mat. " * 40)
    monkeypatch.setenv("RNN_GPU_BACKEND", "numba_cuda")
    ran = []
    forward = type(dispatch.BACKENDS["numba_cuda"]).forward
    monkeypatch.setattr(
        type(dispatch.BACKENDS["numba_cuda"]), "forward", lambda *arguments: ran.append(1) or forward(*arguments)
    )
    status = cli.main("train text.txt --hidden 4 --batch 2 --sequence 4 --minutes 0.05 --out model".split())
    assert status == 0, capsys.readouterr().err
    assert ran
    assert "bits/char" in capsys.readouterr().out
