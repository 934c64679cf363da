"""Machine code by way of Numba and nvJitLink, kept on disk by what a kernel is. No driver is needed."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections import namedtuple

import numpy as np
import pytest
from support import numba_device
from support.cells import CELLS
from support.cubin import resources

from rnn_gpu import machine_code
from rnn_gpu.errors import BackendError
from rnn_gpu.kernels.numba_cuda.device import missing_library

if importlib.util.find_spec("numba_cuda") is None or (MISSING := missing_library()):
    pytest.skip(
        "numba-cuda, NVVM, NVRTC and nvJitLink, of the extra `test`, are not all there", allow_module_level=True
    )

from numba import cuda, types

from rnn_gpu.kernels.numba_cuda import block, cells, compilation, grid, stepwise
from rnn_gpu.kernels.numba_cuda.compilation import ENTRY, target_for
from rnn_gpu.kernels.numba_cuda.identity import digest_of
from rnn_gpu.kernels.numba_cuda.jit import device, executed, kernel

SM_90 = target_for((9, 0))
FLOATS = (types.float32[::1],)
FLOAT32, FLOAT64 = np.dtype("float32"), np.dtype("float64")


def scaled(factor, threads=None):
    """A kernel that closes over a device function, which closes over a number."""

    @device
    def times(value):
        return value * factor

    def scale(x):
        x[cuda.threadIdx.x] = times(x[cuda.threadIdx.x])

    return kernel(scale, threads=threads)


@pytest.fixture
def compilations(monkeypatch, tmp_path):
    """An empty cache, and what was compiled so far."""
    monkeypatch.setenv(machine_code.CACHE_VARIABLE, str(tmp_path))
    made = []
    real = compilation.ptx
    monkeypatch.setattr(compilation, "ptx", lambda *given: made.append(given) or real(*given))
    with numba_device.pretended((9, 0)):
        yield made


def kept():
    return sorted(machine_code.folder("numba_cuda").iterdir())


def test_a_kernel_made_anew_is_read_back(compilations):
    code = compilation.binary(scaled(np.float32(2)), FLOATS, SM_90)
    assert list(resources(code)) == [ENTRY]
    assert compilation.binary(scaled(np.float32(2)), FLOATS, SM_90) == code
    assert len(compilations) == len(kept()) == 1


def test_whatever_changes_the_code_is_kept_apart(compilations):
    made = scaled(np.float32(2))
    codes = [
        compilation.binary(made, FLOATS, SM_90),
        compilation.binary(scaled(np.float32(3)), FLOATS, SM_90),
        compilation.binary(scaled(np.float32(2), threads=32), FLOATS, SM_90),
        compilation.binary(made, (types.float64[::1],), SM_90),
        compilation.binary(made, FLOATS, target_for((8, 0))),
    ]
    assert len(compilations) == len(kept()) == len(codes) == len(set(codes))


def test_a_kernel_that_waits_for_its_grid_is_linked_with_what_it_needs(compilations):
    def wait(x):
        x[0] += x[1]
        cuda.cg.this_grid().sync()
        x[1] += x[0]

    code = compilation.binary(kernel(wait, cooperative=True), FLOATS, SM_90)
    assert ENTRY in resources(code)
    with pytest.raises(AssertionError, match="cooperative if it waits for its grid"):
        compilation.binary(kernel(wait), FLOATS, SM_90)


def test_what_cannot_be_linked_says_why(compilations):
    with pytest.raises(BackendError, match="numba_cuda: nvJitLink links no kernel for sm_90: "):
        compilation.linked(scaled(np.float32(2)), "nonsense", SM_90)


@pytest.mark.parametrize(
    ("capability", "message"),
    [((5, 0), "this CUDA toolkit compiles for sm_75 and later, and the device is sm_50"),
     ((99, 0), r"this CUDA toolkit compiles for compute_\d+ and older, and the device is sm_990")],
)  # fmt: skip
def test_devices_that_nothing_is_compiled_for(capability, message):
    with pytest.raises(BackendError, match=message):
        target_for(capability)


MAKERS = {"block": block.make, "stepwise": stepwise.make, "grid": grid.make}


def made(strategy, cell, dtype, direction, sizes):
    """The kernel, made anew with all that it calls."""
    return MAKERS[strategy].__wrapped__(cells.compiled.__wrapped__(cell, dtype, direction, 2), *sizes)


@pytest.mark.parametrize("strategy", ["block", "stepwise", "grid"])
def test_kernels_of_other_cells_types_directions_and_sizes_are_others(strategy):
    before = (True,) if strategy == "grid" else ()
    lstm = (strategy, CELLS["lstm"], FLOAT32, "forward")
    digests = [digest_of(made(*lstm, (*before, *sizes)).function) for sizes in ((32, 4), (16, 4), (32, 8))]
    digests += [
        digest_of(made(strategy, cell, dtype, direction, (*before, 32, 4)).function)
        for cell in CELLS.values()
        for dtype in (FLOAT32, FLOAT64)
        for direction in ("forward", "backward")
    ]
    assert len(digests) - len(set(digests)) == 1, "the first, made twice"


_DIGEST = """
import numpy as np
from rnn_gpu import cells as models
from rnn_gpu.kernels.numba_cuda import block, cells
from rnn_gpu.kernels.numba_cuda.identity import digest_of
for name, cell in models.ALL.items():
    made = block.make(cells.compiled(cell, np.dtype("float32"), "backward", 2), 32, 4)
    print(digest_of(made.function))
"""


def test_a_kernel_is_the_same_in_every_process():
    found = [
        subprocess.run(
            [sys.executable, "-c", _DIGEST],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
        for seed in ("1", "2")
    ]
    assert found[0] == found[1]
    assert len(set(found[0])) == len(found[0]) > 10


ONE, TWO = 1, 2


def uses_one(x):
    return x + ONE


def uses_two(x):
    return x + TWO


def test_globals_and_defaults_and_constants_are_told_apart():
    def with_default(x, step=1):
        return x + step

    def with_another(x, step=2):
        return x + step

    functions = [uses_one, uses_two, with_default, with_another, lambda x: x + 1, lambda x: x + 1.0, lambda x: x - 1]
    emitted = [executed(f"def f(x):\n    return {text}", "test", {})["f"].py_func for text in ("x", "-x")]
    digests = {digest_of(function) for function in [*functions, *emitted]}
    assert len(digests) == len(functions) + len(emitted)
    assert digest_of(lambda x: x + 1) in digests


def test_functions_that_call_each_other_have_an_end():
    def even(n):
        return n == 0 or odd(n - 1)

    def odd(n):
        return n != 0 and even(n - 1)

    assert digest_of(even) != digest_of(odd)


def test_what_is_not_in_a_functions_code_is_told_apart():
    def with_keyword(x, *, step=1):
        return x + step

    def with_another(x, *, step=2):
        return x + step

    digests = [digest_of(with_keyword), digest_of(with_another)]
    for fields in ("a b", "b a"):
        pair = namedtuple("pair", fields)(1, 2)
        digests.append(digest_of(lambda x, pair=pair: x + pair.a))
    for value in (True, np.bool_(True), 1, np.int64(1), 1.0, np.float64(1), FLOAT64):
        digests.append(digest_of(lambda x, value=value: x + value))
    assert len(set(digests)) == len(digests)


class Sizes:
    """A class whose attributes are not told apart."""

    H = 3


module = sys.modules[__name__]


def of_class(x):
    return x + Sizes.H


def of_module(x):
    return x + module.ONE


@pytest.mark.parametrize(("function", "name"), [(of_class, "Sizes"), (of_module, "module")])
def test_what_may_change_under_the_same_name_is_refused(function, name):
    with pytest.raises(TypeError, match=f"{name}: a kernel refers to <.*, and nothing here tells"):
        digest_of(function)


def test_a_value_that_cannot_be_told_apart_is_refused():
    sizes = {"H": 3}

    def kernel_of(x):
        x[0] = sizes["H"]

    with pytest.raises(TypeError, match=r"sizes: a kernel refers to {'H': 3}, and nothing here tells dict values"):
        digest_of(kernel_of)
