"""The kernels that bring rows of different lengths together and apart again, executed on the CPU."""

from __future__ import annotations

import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from support.cuda_emulation import HIGHEST_FIRST, RANDOM, SMALL, EmulatedDevice

from rnn_gpu.arrays import dtype_named
from rnn_gpu.kernels.cupy_raw.packing import pack, unpack
from rnn_gpu.kernels.cupy_raw.parameters import Parameters
from rnn_gpu.kernels.cupy_raw.rows import rows_of

pytestmark = pytest.mark.skipif(
    shutil.which("g++") is None, reason="the kernels are compiled by g++, and there is none"
)

KINDS = [("float64", "float64"), ("float32", "float32"), ("float16", "float16"), ("bfloat16", "bfloat16"),
         ("bfloat16", "float32"), ("float32", "float16")]  # fmt: skip

LENGTHS = [(5, 0, 3, 3, 1), (0, 0, 0), (7,), (4, 6)]


def numbering(device: EmulatedDevice, T: int, lengths: tuple[int, ...]):
    """The numbering, and parameters with it; the array that they point into."""
    B = len(lengths)
    rows = rows_of(SimpleNamespace(T=T, B=B), SimpleNamespace(lengths=np.array(lengths)))
    table = device.upload(rows.table)
    parameters = Parameters(T, B)
    parameters.starts = device.address(table)
    parameters.ends = parameters.starts + 8 * (T + 1)
    parameters.order = parameters.ends + 4 * B
    return rows, parameters, table


@pytest.mark.parametrize("columns", [1, 33])
@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
@pytest.mark.parametrize(("dtype", "other"), KINDS)
def test_rows_come_together_and_apart(dtype, other, lengths, columns):
    T, B = 8, len(lengths)
    given = np.random.default_rng(0).integers(-100, 100, (T, B, columns)).astype(dtype_named(dtype))
    device = EmulatedDevice(order=RANDOM, seed=columns)
    with device.active():
        rows, parameters, table = numbering(device, T, lengths)
        source = device.upload(given)
        packed = device.empty((rows.N, columns), dtype_named(other))
        pack(device, parameters, columns, *[(device.address(each), each.dtype) for each in (source, packed)])
        back = device.empty((T, B, columns), dtype_named(dtype))
        unpack(device, parameters, columns, *[(device.address(each), each.dtype) for each in (packed, back)])
        order = table[T + 1 :].view(np.int32)[B:]
    of_steps = [given[t, row] for t in range(T) for row in order if t < lengths[row]]
    assert sum(lengths) == rows.N
    assert_array_equal(packed, np.array(of_steps, dtype_named(other)).reshape(rows.N, columns))
    exists = np.arange(T)[:, None] < np.array(lengths)
    assert_array_equal(back, np.where(exists[..., None], given, 0).astype(back.dtype))


def test_few_warps_do_all_rows():
    lengths, T = tuple(range(1, 60)), 59
    given = np.random.default_rng(0).normal(size=(T, 59, 3)).astype(np.float32)
    device = EmulatedDevice(replace(SMALL, multiprocessors=1))
    with device.active():
        rows, parameters, _ = numbering(device, T, lengths)
        source, packed = device.upload(given), device.empty((rows.N, 3), np.dtype(np.float32))
        pack(device, parameters, 3, *[(device.address(each), each.dtype) for each in (source, packed)])
    assert packed[:59].tolist() == given[0, ::-1].tolist()


def test_nothing_is_launched_for_nothing():
    device = EmulatedDevice(order=HIGHEST_FIRST)
    with device.active():
        _, parameters, _ = numbering(device, 3, (1, 2))
        pack(device, parameters, 0, (0, np.dtype(np.float32)), (0, np.dtype(np.float32)))
    assert device.launches == []
