"""Launching without a device: what the driver is asked for, and what is refused before it is asked."""

from __future__ import annotations

import contextlib
import ctypes
from dataclasses import replace
from types import SimpleNamespace
from typing import ClassVar

import pytest

from rnn_gpu import cells, dispatch
from rnn_gpu.arrays import _elsewhere
from rnn_gpu.errors import BackendError
from rnn_gpu.kernels.cupy_raw import cupy_device, modules
from rnn_gpu.kernels.cupy_raw.ahead import compile_ahead, kernels_of
from rnn_gpu.kernels.cupy_raw.cupy_device import CupyDevice, bodies_a_graph, largest_cluster
from rnn_gpu.kernels.cupy_raw.device import Kernel, Launch, Properties
from rnn_gpu.kernels.cupy_raw.modules import Modules, _Function
from rnn_gpu.kernels.cupy_raw.parameters import Record, fields
from rnn_gpu.kernels.cupy_raw.plan import plan_for
from rnn_gpu.machine_code import folder
from rnn_gpu.strategies import STRATEGIES

H200 = Properties(
    name="NVIDIA H200", capability=(9, 0), multiprocessors=132, shared_block=232448, shared_multiprocessor=233472,
    registers_multiprocessor=65536, max_cluster=16, cooperative=True, memory=141 << 30, l2=60 << 20, clock=1.98e9,
    bandwidth=4.8e12,
)  # fmt: skip

KERNEL = Kernel("", "sequence_forward")

WORKSPACE = 4096
"""Address of what products use in a CUDA graph."""


class Arguments(Record):
    __slots__ = ()
    _fields_ = (*fields("int", "steps", "rows"), *fields("pointer", "address"))


PARAMETERS = Arguments(7, 9, 1 << 40)


class CUDADriverError(RuntimeError):
    pass


class Driver:
    """What is asked of the driver. Parameters are read as it reads them: through an array of pointers to each."""

    CUDADriverError = CUDADriverError

    def __init__(self, fit=1, error=None):
        self.asked, self.launched, self.fit, self.error = [], [], fit, error

    def funcSetAttribute(self, function, attribute, value):
        self.asked.append((attribute, value))

    def occupancyMaxActiveBlocksPerMultiprocessor(self, function, block, shared):
        self.asked.append("occupancy")
        return self.fit

    def launchKernel(self, function, *shape_and_extra):
        *shape, extra = shape_and_extra
        assert extra == 0
        self._launch("plain", function, *shape)

    def launchCooperativeKernel(self, function, *shape):
        self._launch("cooperative", function, *shape)

    def _launch(self, kind, function, *shape):
        if self.error:
            raise CUDADriverError(self.error)
        *shape, stream, pointers = shape
        address = ctypes.c_void_p.from_address(pointers).value
        assert ctypes.string_at(address, ctypes.sizeof(Arguments)) == bytes(PARAMETERS)
        self.launched.append((kind, function, *shape, stream))


@pytest.fixture
def launch(monkeypatch):
    """(driver, launch) for a driver in the given state; the kernel is loaded at address 99."""

    def make(properties=H200, **state):
        driver = Driver(**state)
        monkeypatch.setattr(modules, "_driver", lambda: driver)
        loaded = Modules(properties)
        loaded._functions[KERNEL] = _Function(99, None)
        defaults = {"grid": 4, "block": 128, "shared": 0, "cluster": 1, "cooperative": False}
        return driver, lambda **shape: loaded.launch(Launch(KERNEL, **defaults | shape), 5, PARAMETERS)

    return make


def test_a_plain_launch(launch):
    driver, run = launch()
    run(grid=300, block=256, shared=1024)
    assert driver.launched == [("plain", 99, 300, 1, 1, 256, 1, 1, 1024, 5)]
    assert driver.asked == []


def test_much_shared_memory_is_asked_for_once(launch):
    driver, run = launch()
    run(shared=49152)
    run(shared=100_000)
    run(shared=90_000)
    run(shared=232448)
    assert driver.asked == [(8, 100_000), (8, 232448)]
    assert [shape[8] for shape in driver.launched] == [49152, 100_000, 90_000, 232448]


def test_large_clusters_are_asked_for_once(launch):
    driver, run = launch()
    run(grid=16, cluster=8)
    run(grid=16, cluster=16)
    run(grid=32, cluster=16)
    assert driver.asked == [(14, 1)]


def test_a_cooperative_launch_that_fits(launch):
    driver, run = launch(fit=2)
    run(grid=264, cooperative=True)
    run(grid=132, cooperative=True)
    assert [(kind, grid) for kind, _, grid, *_ in driver.launched] == [("cooperative", 264), ("cooperative", 132)]
    assert driver.asked == ["occupancy"]


@pytest.mark.parametrize(
    ("state", "shape", "message"),
    [
        ({}, {"grid": 133, "cooperative": True},
         "sequence_forward: 133 blocks must run at once, and NVIDIA H200 (sm_90) holds 132 of them, 1 on each of 132 "
         "multiprocessors"),
        ({"fit": 0}, {"grid": 1, "cooperative": True},
         "sequence_forward: 1 blocks must run at once, and NVIDIA H200 (sm_90) holds 0 of them, 0 on each of 132 "
         "multiprocessors"),
        ({}, {"shared": 232449},
         "sequence_forward needs 232449 bytes of shared memory a block; NVIDIA H200 (sm_90) has 232448"),
        ({}, {"grid": 32, "cluster": 32},
         "sequence_forward needs clusters of 32 blocks; NVIDIA H200 (sm_90) has them up to 16"),
        ({}, {"grid": 12, "cluster": 8}, "sequence_forward: 12 blocks are no whole number of clusters of 8"),
    ],
    ids=["grid", "no block", "shared", "cluster", "part of a cluster"],
)  # fmt: skip
def test_what_does_not_fit_is_refused_and_never_launched(launch, state, shape, message):
    driver, run = launch(**state)
    with pytest.raises(BackendError) as caught:
        run(**shape)
    assert str(caught.value) == message
    assert driver.launched == []


def test_older_devices(launch):
    a100 = replace(H200, name="A100", capability=(8, 0), max_cluster=1)
    _, run = launch(properties=a100)
    with pytest.raises(BackendError, match=r"needs clusters of 2 blocks; A100 \(sm_80\) has none"):
        run(cluster=2)
    _, run = launch(properties=replace(a100, cooperative=False))
    with pytest.raises(BackendError, match=r"A100 \(sm_80\) has no cooperative launch"):
        run(cooperative=True)
    assert [largest_cluster(c) for c in ((8, 0), (8, 9), (9, 0), (10, 0), (12, 0))] == [1, 1, 16, 16, 8]


def test_what_the_driver_refuses(launch):
    _, run = launch(error="CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE: too many blocks in cooperative launch")
    with pytest.raises(BackendError, match="does not fit on NVIDIA H200, 4 blocks of 128 threads and 0 bytes"):
        run(cooperative=True)
    _, run = launch(error="CUDA_ERROR_ILLEGAL_ADDRESS: an illegal memory access was encountered")
    with pytest.raises(CUDADriverError):
        run()


class Stream:
    """A stream on which nothing runs while it is captured."""

    null: Stream
    made: ClassVar[list[Stream]] = []

    def __init__(self, non_blocking=False):
        self.ptr, self.capturing, self.work = 100 + len(Stream.made), False, []
        Stream.made.append(self)

    @classmethod
    def from_external(cls, other):
        _, address = other.__cuda_stream__()
        return next(stream for stream in cls.made if stream.ptr == address)

    def begin_capture(self):
        self.capturing = True

    def end_capture(self):
        self.capturing = False
        return self

    def launch(self, stream):
        assert not self.capturing
        for work in self.work:
            work(stream)


class Runtime:
    """A thread's current device."""

    current = 0

    def getDevice(self):
        return self.current

    def setDevice(self, index):
        self.current = index


@pytest.fixture
def device(monkeypatch):
    """A CupyDevice whose streams are these; `device.callers` is that of the caller."""
    monkeypatch.setattr(Stream, "made", [])
    cuda = SimpleNamespace(Stream=Stream, runtime=Runtime())
    shared = SimpleNamespace(index=0, properties=H200, cuda=cuda)
    memory = SimpleNamespace(empty=lambda shape, dtype: "workspace", address=lambda array: WORKSPACE)
    callers = Stream()
    made = CupyDevice(shared, memory, SimpleNamespace(name="cupy", stream=lambda: callers.ptr))
    made.callers = callers
    return made


def current(device):
    """The stream that work goes to."""
    return next(stream for stream in Stream.made if stream.ptr == device._stream)


@pytest.mark.parametrize("times", [0, 1, 2, 5, 7, 8, 64, 65, 500])
def test_a_body_is_repeated_so_many_times(device, times):
    ran, captured = [], []

    def body():
        stream = current(device)
        assert device._workspace == (WORKSPACE if stream.capturing else 0)
        if stream.capturing:
            captured.append(stream)
            stream.work.append(ran.append)
        else:
            ran.append(stream)

    with device.active():
        device.repeat(body, times)
        assert current(device) is device.callers
    assert ran == [device.callers] * times
    assert len(captured) == bodies_a_graph(times)


def test_graphs_save_the_host_time():
    """The most that the host issues by itself: a graph is made of few bodies where it is replayed seldom."""
    assert [bodies_a_graph(times) for times in (0, 1, 2, 3)] == [0] * 4
    for times, most in ((10, 2), (64, 4), (512, 8), (2048, 13)):
        bodies = bodies_a_graph(times)
        assert 0 < 1 + bodies + (times - 1) % bodies <= most


def test_an_error_while_capturing_ends_the_capture(device):
    streams = []

    def body():
        streams.append(current(device))
        if streams[-1].capturing:
            raise BackendError("does not fit")

    with device.active():
        with pytest.raises(BackendError, match="does not fit"):
            device.repeat(body, 64)
        assert len(streams) == 2
        assert not any(stream.capturing for stream in streams)
        assert current(device) is device.callers
        assert device._workspace == 0


def test_numbas_arrays_are_made_on_its_stream(device):
    """CuPy's pool hands memory to CuPy's current stream, which is made that of Numba meanwhile."""
    entered = []
    Stream.null = contextlib.ExitStack()
    Stream.null.push(lambda *error: entered.append("left"))
    numba = CupyDevice(device._shared, device.memory, SimpleNamespace(name="numba", stream=lambda: 0))
    with numba.active():
        assert entered == []
    assert entered == ["left"]
    assert numba._stream == 0


@pytest.mark.parametrize("callers", [0, 3])
def test_the_callers_device_is_current_again_afterwards(device, callers):
    runtime = device._shared.cuda.runtime
    for error in (None, BackendError):
        runtime.current = callers
        with contextlib.suppress(BackendError), device.active():
            assert runtime.current == 0
            if error:
                raise error
        assert runtime.current == callers


@pytest.mark.parametrize(
    "message",
    [
        "cudaErrorMemoryAllocation: out of memory",
        "CUDA_ERROR_OUT_OF_MEMORY: out of memory",
        "CUBLAS_STATUS_ALLOC_FAILED",
        "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 139.81 GiB",
    ],
)
def test_out_of_memory_is_a_memory_error(device, message):
    with pytest.raises(MemoryError, match=f"^NVIDIA H200: {message}"), device.active():
        raise RuntimeError(message)


def test_other_errors_stay_what_they_are(device):
    with pytest.raises(RuntimeError, match=r"^cudaErrorIllegalAddress"), device.active():
        raise RuntimeError("cudaErrorIllegalAddress: an illegal memory access was encountered")
    with pytest.raises(MemoryError, match=r"^Out of memory allocating"), device.active():
        raise MemoryError("Out of memory allocating 1,024 bytes")


def test_properties_are_read_off_the_device(monkeypatch):
    """CuPy's own names of the attributes, on a device that is an H200."""
    runtime = pytest.importorskip("cupy").cuda.runtime
    values = {
        runtime.cudaDevAttrMultiProcessorCount: 132, runtime.cudaDevAttrMaxSharedMemoryPerBlockOptin: 232448,
        runtime.cudaDevAttrMaxSharedMemoryPerMultiprocessor: 233472, runtime.cudaDevAttrL2CacheSize: 60 << 20,
        runtime.cudaDevAttrMaxRegistersPerMultiprocessor: 65536, runtime.cudaDevAttrCooperativeLaunch: 1,
        runtime.cudaDevAttrClockRate: 1980000, runtime.cudaDevAttrMemoryClockRate: 3201000,
        runtime.cudaDevAttrGlobalMemoryBusWidth: 6144,
    }  # fmt: skip
    told = {"name": b"NVIDIA H200", "major": 9, "minor": 0, "totalGlobalMem": 141 << 30}
    monkeypatch.setattr(runtime, "deviceGetAttribute", lambda attribute, index: values[attribute])
    monkeypatch.setattr(runtime, "getDeviceProperties", lambda index: told)
    found = cupy_device._properties(0)
    assert found == replace(H200, bandwidth=found.bandwidth)
    assert found.bandwidth == pytest.approx(4.9e12, rel=0.01)
    assert found.arch == "sm_90"


def test_kernels_are_compiled_ahead(monkeypatch, tmp_path):
    monkeypatch.setenv("RNN_GPU_CACHE_DIR", str(tmp_path))
    source = 'extern "C" __global__ void k(float* x) {{ x[{}] = 1; }}'
    kernels = [Kernel(source.format(n % 3), name) for n, name in enumerate(("a", "b", "c", "d"))]
    assert compile_ahead(kernels, H200, threads=2) == 3
    assert len(list(folder("cupy_raw").iterdir())) == 3
    assert compile_ahead([Kernel(source.format(9), "k")], H200, stop=lambda: True) == 1
    assert len(list(folder("cupy_raw").iterdir())) == 3
    with pytest.raises(BackendError, match="does not compile"):
        compile_ahead([Kernel("nonsense", "k")], H200)


SUMS = ("bfloat16_bfloat16", "bfloat16_float64", "float64_bfloat16")


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_kernels_of_a_plan(strategy):
    plan = plan_for(cells.gru, "bfloat16", 16, 128, H200, strategy=strategy)
    entries = [kernel.entry for kernel in kernels_of(cells.gru, "bfloat16", plan)]
    sums = [entry for entry in entries if "_column_sums_" in entry]
    assert len(entries) - len(sums) == (1 if strategy == "stepwise" else 2)
    assert all("_step_" in entry or f"_{strategy}_" in entry for entry in entries if entry not in sums)
    assert sums == [f"rnn_gpu_column_sums_{kind}" for kind in SUMS]


def test_a_device_that_is_too_old_is_refused(monkeypatch):
    """By the backend, for arrays on it."""
    monkeypatch.setattr(cupy_device, "_properties", lambda index: replace(H200, name="Tesla T4", capability=(7, 5)))
    cupy_device._shared.cache_clear()
    library = _elsewhere("cupy", "cuda:0")
    problem = SimpleNamespace(library=library, memo={})
    backend = dispatch.BACKENDS["cupy_raw"]
    assert backend.refuses(problem) == "Tesla T4 is sm_75; the kernels need sm_80 or later"
    cupy_device._shared.cache_clear()
