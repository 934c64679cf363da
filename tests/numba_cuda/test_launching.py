"""Launches without a device: what is passed to the driver, against what Numba itself would pass."""

from __future__ import annotations

import ctypes
import functools
import gc
import importlib.util
import inspect
import threading
import time
import weakref
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest

if importlib.util.find_spec("numba_cuda") is None:
    pytest.skip("numba-cuda, of the extra `test`, is not installed", allow_module_level=True)

from numba.cuda.cudadrv.devicearray import DeviceNDArray
from numba.cuda.dispatcher import _Kernel
from numba.cuda.typing.typeof import Purpose, typeof

from rnn_gpu.kernels.numba_cuda import compilation, device, launching
from rnn_gpu.kernels.numba_cuda.device_array import DeviceArray, flat, of_cupy, of_numba, of_torch
from rnn_gpu.kernels.numba_cuda.jit import Kernel
from rnn_gpu.kernels.numba_cuda.libraries import is_out_of_memory
from rnn_gpu.machine_code import Target

DTYPES = [np.dtype(name) for name in ("float32", "float64", "float16", "uint8", "uint16", "uint32", "int32", "int64")]


class Sizes(NamedTuple):
    T: int
    has_lengths: int


class Pair(NamedTuple):
    first: object
    second: object


def numba_array(array):
    """Numba's own device array in the place of one of ours, whose memory nobody looks at."""
    memory = SimpleNamespace(device_ctypes_pointer=ctypes.c_size_t(array.address), device_pointer=array.address)
    return DeviceNDArray(array.shape, array.strides, array.dtype, gpu_data=memory)


def as_numba(argument):
    if isinstance(argument, DeviceArray):
        return numba_array(argument)
    return type(argument)(*map(as_numba, argument)) if isinstance(argument, tuple) else argument


def numbers(arguments):
    """What Numba passes, as numbers."""
    passed = []
    kernel = _Kernel.__new__(_Kernel)
    kernel.extensions = []
    for argument in arguments:
        kernel._prepare_args(typeof(argument, Purpose.argument), argument, 0, [], passed)
    for value in passed:
        assert isinstance(value, int) or ctypes.sizeof(value) == 8
    return [getattr(value, "value", value) for value in passed]


ARGUMENTS = [
    *((flat(4096 * k, 7, dtype, None), 3) for k, dtype in enumerate(DTYPES, 1)),
    (Pair(flat(4096, 7, DTYPES[0], None), flat(8192, 1, DTYPES[0], None)), Sizes(5, 0)),
    (Pair(flat(4096, 7, DTYPES[0], None), flat(8192, 2, DTYPES[3], None)), Sizes(5, 1), 0, -1),
    (DeviceArray(4096, (3, 4), (64, 8), DTYPES[0], None),),
    (DeviceArray(4096, (3, 4, 5), (160, 40, 8), DTYPES[1], None), 2**40),
    (DeviceArray(4096, (3, 4, 5), (-240, -40, -8), DTYPES[1], None), 2**31),
]


@pytest.mark.parametrize("arguments", ARGUMENTS)
def test_arguments_are_passed_as_numba_passes_them(arguments):
    theirs = tuple(map(as_numba, arguments))
    kinds, words = [], []
    launching.flattened(kinds, words, arguments)
    assert words == numbers(theirs)
    assert launching.signature(arguments) == tuple(typeof(argument, Purpose.argument) for argument in theirs)


def test_arguments_of_other_types_are_other_kernels():
    def kinds(*arguments):
        found = []
        launching.flattened(found, [], arguments)
        return tuple(found)

    array, other = flat(4096, 7, DTYPES[0], None), flat(8192, 9, DTYPES[0], None)
    assert kinds(array, 1, Sizes(1, 0)) == kinds(other, 2, Sizes(3, True))
    wide = flat(4096, 7, DTYPES[1], None)
    strided = DeviceArray(4096, (7,), (8,), DTYPES[0], None)
    square = DeviceArray(4096, (7, 1), (4, 4), DTYPES[0], None)
    different = [kinds(array), kinds(wide), kinds(strided), kinds(square), kinds(Pair(array, array)), kinds(1)]
    assert len(set(different)) == len(different)


def test_arrays_of_a_device():
    array = flat(1000, 10, DTYPES[0], "owner")
    part = array[2:5]
    assert (part.address, part.size, part.owner, part.kind) == (1008, 3, "owner", array.kind)
    assert array[8:20].size == 2
    assert array.view(np.uint32).dtype == np.uint32
    cube = DeviceArray(1000, (2, 3, 4), (48, 16, 4), DTYPES[0], None)
    assert cube.is_c_contiguous()
    assert (cube.reshape(-1).size, cube.reshape(-1).shape) == (24, (24,))
    gaps = DeviceArray(1000, (2, 3, 4), (96, 16, 4), DTYPES[0], None)
    assert not gaps.is_c_contiguous()
    with pytest.raises(AssertionError, match="with gaps"):
        gaps.reshape(-1)


def test_arrays_of_libraries_are_seen():
    theirs = numba_array(DeviceArray(4096, (3, 4), (64, 8), DTYPES[0], None))
    found = of_numba(theirs)
    assert (found.address, found.strides, found.owner) == (4096, (64, 8), theirs)

    flags = SimpleNamespace(c_contiguous=True)
    cupy = SimpleNamespace(shape=(1, 5), strides=(999, 2), dtype=np.dtype(np.float16), flags=flags)
    cupy.data = SimpleNamespace(ptr=512)
    found = of_cupy(cupy)
    assert (found.address, found.strides, found.dtype) == (512, (10, 2), np.float16)

    torch = pytest.importorskip("torch")
    tensor = torch.zeros((4, 6), dtype=torch.bfloat16)[:, ::2]
    found = of_torch(tensor)
    assert (found.address, found.strides, found.dtype) == (tensor.data_ptr(), (12, 4), np.uint16)


REAL_DRIVER = launching.driver


def called_as_the_real_one(function):
    """Its arguments are as many as the driver's own function of that name takes."""

    @functools.wraps(function)
    def checked(self, *arguments):
        inspect.signature(getattr(REAL_DRIVER, function.__name__)).bind(*arguments)
        return function(self, *arguments)

    return checked


class Driver:
    """A driver that writes down what it is asked."""

    class CUfunction_attribute:
        CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES = "shared"
        CU_FUNC_ATTRIBUTE_NUM_REGS = "registers"

    CUfunction = CUkernel = CUstream = CUdevice = staticmethod(int)

    def __init__(self, n_words):
        self.n_words, self.status = n_words, launching._SUCCESS
        self.loaded, self.launched, self.allowed, self.asked = [], [], [], []

    @called_as_the_real_one
    def cuLibraryLoadData(self, code, *options):
        assert options == ([], [], 0, [], [], 0)
        self.loaded.append(code)
        return self.status, 7

    @called_as_the_real_one
    def cuLibraryGetKernel(self, library, name):
        assert (library, name) == (7, b"rnn_gpu_kernel")
        return self.status, 77

    @called_as_the_real_one
    def cuKernelGetAttribute(self, attribute, kernel, device):
        assert (attribute, kernel) == ("registers", 77)
        return self.status, 40

    @called_as_the_real_one
    def cuOccupancyMaxActiveBlocksPerMultiprocessor(self, function, threads, shared):
        self.asked.append((function, threads, shared))
        return self.status, 2

    @called_as_the_real_one
    def cuLaunchKernel(self, function, *rest):
        *sizes, shared, stream, parameters, extra = rest
        pointers = (ctypes.c_void_p * self.n_words).from_address(parameters)
        words = [ctypes.c_int64.from_address(pointer).value for pointer in pointers]
        self.launched.append((function, sizes, shared, stream, words))
        assert extra == 0
        return (self.status,)

    @called_as_the_real_one
    def cuLaunchCooperativeKernel(self, *arguments):
        self.cuLaunchKernel(*arguments, 0)  # which has one argument more
        self.launched.append("cooperatively")
        return (self.status,)

    @called_as_the_real_one
    def cuKernelSetAttribute(self, *arguments):
        self.allowed.append(arguments)
        return (self.status,)


def nothing():
    """The Python of a kernel that nobody compiles."""


@pytest.fixture
def driver(monkeypatch):
    found = Driver(9)
    h200 = device.Properties("H200", (9, 0), 132, True, 4.8e12, 1.98e9, 232_448)
    monkeypatch.setattr(launching, "driver", found)
    monkeypatch.setattr(launching, "_COMPILED", weakref.WeakKeyDictionary())
    monkeypatch.setattr(device, "properties", lambda index: h200)
    monkeypatch.setattr(compilation, "target_for", lambda capability: Target("sm_{}{}".format(*capability)))
    monkeypatch.setattr(compilation, "binary", lambda kernel, signature, target: (kernel, signature, target.name))
    return found


ARRAY = flat(4096, 7, DTYPES[0], None)


def test_a_kernel_is_compiled_once_and_launched_with_each_of_the_last_integers(driver):
    kernel = Kernel(nothing, 32, False)
    for _ in range(2):
        launching.launch_each(0, 5, kernel, (3, 2), (32,), 100, (ARRAY,), [(0, -1), (0, 0), (1, 0)])
    assert driver.loaded == [(kernel, launching.signature((ARRAY, 0, -1)), "sm_90")]
    first = [0, 0, 7, 4, 4096, 7, 4]
    sizes = [3, 2, 1, 32, 1, 1]
    assert driver.launched[:3] == [(77, sizes, 100, 5, [*first, *last]) for last in ((0, -1), (0, 0), (1, 0))]
    assert len(driver.launched) == 6
    assert driver.allowed == []


def test_a_kernel_that_waits_for_its_grid_is_launched_cooperatively(driver):
    kernel = Kernel(nothing, 256, True)
    launching.launch_each(0, 5, kernel, (3, 2), (32, 2, 4), 0, (ARRAY, 1, 2), [()])
    assert driver.launched[-1] == "cooperatively"
    compiled = launching.compiled(0, kernel, (ARRAY, 1, 2))
    assert compiled.registers == 40
    assert [compiled.most_blocks(256, 1000) for _ in range(3)] == [2 * 132] * 3
    assert driver.asked == [(77, 256, 1000)]
    assert len(driver.loaded) == 1


def test_what_was_compiled_goes_with_its_kernel(driver):
    kernel = Kernel(nothing, None, False)
    launching.launch_each(0, 5, kernel, (3,), (32,), 0, (ARRAY, 1, 2), [()])
    assert len(launching._COMPILED) == 1
    del kernel
    driver.loaded.clear()
    gc.collect()
    assert len(launching._COMPILED) == 0


def test_shared_memory_beyond_the_usual_is_asked_for_once(driver):
    kernel = Kernel(nothing, None, False)
    for shared in (48 * 1024, 48 * 1024 + 4, 48 * 1024 + 4, 200_000, 100_000):
        launching.launch_each(1, 5, kernel, (3,), (32,), shared, (ARRAY, 1, 2), [()])
    assert driver.allowed == [("shared", 48 * 1024 + 4, 77, 1), ("shared", 200_000, 77, 1)]


def test_a_launch_that_fails_raises_numbas_error(driver):
    kernel = Kernel(nothing, None, False)
    launching.compiled(0, kernel, (ARRAY, 1, 2))
    driver.status = type("Status", (), {"name": "CUDA_ERROR_OUT_OF_MEMORY"})()
    with pytest.raises(
        launching.CudaAPIError, match="the launch of a kernel results in CUDA_ERROR_OUT_OF_MEMORY"
    ) as caught:
        launching.launch_each(0, 5, kernel, (3,), (32,), 0, (ARRAY, 1, 2), [()])
    assert is_out_of_memory(caught.value)


def test_a_kernel_that_cannot_be_loaded_raises_numbas_error(driver):
    driver.status = type("Status", (), {"name": "CUDA_ERROR_NO_BINARY_FOR_GPU"})()
    with pytest.raises(launching.CudaAPIError, match="cuLibraryLoadData results in CUDA_ERROR_NO_BINARY_FOR_GPU"):
        launching.launch_each(0, 5, Kernel(nothing, None, False), (3,), (32,), 0, (ARRAY, 1, 2), [()])
    assert driver.launched == []


def test_threads_launch_with_their_own_parameters(driver):
    kernel = Kernel(nothing, None, False)

    def launch(first):
        for k in range(200):
            launching.launch_each(0, first, kernel, (1,), (32,), 0, (ARRAY,), [(first, k)])

    threads = [threading.Thread(target=launch, args=(first,)) for first in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(driver.launched) == 600
    assert all(words[-2] == stream for _, _, _, stream, words in driver.launched)


def test_threads_that_want_more_shared_memory_do_not_take_it_from_each_other(driver, monkeypatch):
    limits = [0]

    def allow(attribute, shared, *rest):
        limits.append(shared)
        time.sleep(0.05 if shared == 100_000 else 0.0)  # the other thread comes in between
        return (launching._SUCCESS,)

    monkeypatch.setattr(driver, "cuKernelSetAttribute", allow)
    kernel, wanted = Kernel(nothing, None, False), (100_000, 60_000)
    launching.compiled(0, kernel, (ARRAY, 1, 2))

    def launch(shared):
        time.sleep(0.02 if shared == 60_000 else 0.0)
        launching.launch_each(0, 5, kernel, (1,), (32,), shared, (ARRAY, 1, 2), [()])

    threads = [threading.Thread(target=launch, args=(shared,)) for shared in wanted]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    launch(100_000)
    assert limits[-1] >= 100_000
