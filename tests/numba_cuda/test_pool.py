"""The pool of device memory, with memory that only counts."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest

from rnn_gpu.kernels.numba_cuda.device_array import flat
from rnn_gpu.kernels.numba_cuda.pool import Pool, rounded


class OutOfMemoryError(Exception):
    pass


class Device:
    """So many bytes of memory. calls: how often it was asked for some."""

    def __init__(self, size):
        self.left, self.calls, self.next = size, 0, 4096

    def allocate(self, size):
        self.calls += 1
        if size > self.left:
            raise OutOfMemoryError
        self.left -= size
        self.next += size
        return Memory(self, size, self.next - size)

    def pool(self):
        return Pool(self.allocate, lambda error: isinstance(error, OutOfMemoryError))


class Memory:
    def __init__(self, device, size, address):
        self.device_pointer_value = address
        weakref.finalize(self, self.freed, device, size)

    @staticmethod
    def freed(device, size):
        device.left += size


def test_sizes_are_rounded_by_an_eighth_at_most():
    assert [rounded(size) for size in (0, 1, 512, 513, 4096, 4097, 5000)] == [512, 512, 512, 1024, 4096, 4608, 5120]
    for size in range(1, 200_000, 77):
        assert size <= rounded(size) <= max(size * 1.125, size + 511)
        assert rounded(rounded(size)) == rounded(size)
        assert rounded(size) % 512 == 0


def test_what_is_free_is_handed_out_again():
    device = Device(10**6)
    pool = device.pool()
    first = pool.take(1000, stream=0)
    address = first.address
    del first
    assert pool.free_bytes() == 1024
    second = pool.take(1020, stream=0)
    assert second.address == address
    assert second.size >= 1020
    assert pool.take(1000, stream=0).address != address
    assert device.calls == 2


def test_memory_stays_on_its_stream():
    device = Device(10**6)
    pool = device.pool()
    address = pool.take(1000, stream=1).address
    assert pool.take(1000, stream=2).address != address
    assert pool.take(1000, stream=1).address == address


def test_what_is_free_is_given_up_before_memory_runs_out():
    device = Device(10_240)
    pool = device.pool()
    kept = pool.take(4096, stream=0)
    for size in (512, 1024, 4096):
        pool.take(size, stream=0)
    assert pool.free_bytes() == 512 + 1024 + 4096
    large = pool.take(6144, stream=3)
    assert pool.free_bytes() == 0
    with pytest.raises(OutOfMemoryError):
        pool.take(512, stream=0)
    del large
    assert pool.take(512, stream=0).address
    assert kept.address


def test_other_errors_are_raised_at_once():
    def allocate(size):
        raise ValueError("no device")

    pool = Pool(allocate, lambda error: False)
    with pytest.raises(ValueError, match="no device"):
        pool.take(1, stream=0)


def test_a_piece_is_held_by_its_parts():
    device = Device(10**6)
    pool = device.pool()
    piece = pool.take(4000, stream=0)
    array = flat(piece.address, 1000, np.dtype(np.float32), piece)
    part = array[10:20]
    del piece, array
    gc.collect()
    assert pool.free_bytes() == 0
    del part
    assert pool.free_bytes() == rounded(4000)


def test_a_piece_in_a_cycle_comes_back_whole():
    device = Device(10**6)
    pool = device.pool()
    cycle = [pool.take(4000, stream=0)]
    cycle.append(cycle)
    address = cycle[0].address
    del cycle
    gc.collect()
    assert device.left == 10**6 - rounded(4000)
    assert pool.take(4000, stream=0).address == address


def test_large_pieces_are_not_kept():
    device = Device(2**33)
    pool = device.pool()
    pieces = [pool.take(size, stream=0) for size in (2**30, 2**30 + 1)]
    assert device.left == 2**33 - 2**30 - rounded(2**30 + 1)
    del pieces
    assert device.left == 2**33 - 2**30
    assert pool.free_bytes() == 2**30
