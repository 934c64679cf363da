"""A small case of every kernel on the device, compared with the reference: first of all, and under compute-sanitizer.

    python tests/gpu/sanitized.py [--small]

Every strategy is forced in turn; where a device cannot, that is said. --small: fewer cells and dtypes, as each tool of
compute-sanitizer makes a kernel many times slower. CuPy's memory pool is left out, so that the tools see every array.
The teams of a grid have memory for one step alone, so that they use it again.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.calls import draw
from support.cases import Case
from support.errors import error

import rnn_gpu
from rnn_gpu import cells, dispatch
from rnn_gpu.strategies import ENVIRONMENT_VARIABLE, STRATEGIES

BACKEND = "cupy_raw"

CASE = Case("small", T=5, B=5, I=7, H=33, lengths=(5, 0, 3, 1, 4), resets=((0, 0), (2, 2), (3, 4)), initial=True)
FEW = {"cells": ("lstm", "gru_2014"), "dtypes": ("float32", "bfloat16")}
MANY = {"cells": tuple(cells.ALL), "dtypes": ("float32", "bfloat16", "float16", "float64")}

LIMIT = {"float32": 64.0, "float64": 64.0, "float16": 3e4, "bfloat16": 3e5}
"""Rounding errors of the working type. 16-bit operands of products are rounded at every step."""


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Run a small case of every kernel.")
    parser.add_argument("--small", action="store_true", help="fewer cells and dtypes")
    chosen = FEW if parser.parse_args(arguments).small else MANY
    reason = dispatch.BACKENDS[BACKEND].unavailable()
    if reason is not None:
        print(f"{BACKEND}: {reason}", file=sys.stderr)
        return 2
    import cupy  # noqa: PLC0415

    from rnn_gpu.kernels.cupy_raw import method  # noqa: PLC0415

    method.EXCHANGE_BYTES = 1
    prepare(chosen)
    cupy.cuda.set_allocator(None)
    wrong = ran = 0
    for strategy in STRATEGIES:
        os.environ[ENVIRONMENT_VARIABLE] = strategy
        for name in chosen["cells"]:
            for dtype in chosen["dtypes"]:
                call = draw(cells.ALL[name], CASE, dtype, padding=0.0)
                wide = call.map(lambda array: array.astype(np.float64))
                expected = results(wide, "numpy_cpu", np.asarray)
                try:
                    found = results(call.map(cupy.asarray), BACKEND, cupy.asnumpy)
                except rnn_gpu.errors.BackendError as refusal:
                    print(f"{strategy} {name} {dtype}: not run: {refusal}")
                    continue
                ran += 1
                worst = max((error(array, expected[key]), key) for key, array in found.items())
                wrong += not worst[0] <= LIMIT[dtype]
                print(f"{strategy} {name} {dtype}: {worst[1]} is {worst[0]:.1f} rounding errors away")
    print(f"{ran} ran, {wrong} wrong")
    return 0 if ran and not wrong else 1


def prepare(chosen):
    """Compile all of it on all processors first."""
    import cupy  # noqa: PLC0415

    from rnn_gpu.arrays import library_of  # noqa: PLC0415
    from rnn_gpu.kernels.cupy_raw import ahead, cupy_device, plan  # noqa: PLC0415

    properties = cupy_device.device_of(library_of("x", cupy.empty(0))).properties
    kernels = []
    for name in chosen["cells"]:
        for dtype in chosen["dtypes"]:
            for strategy in STRATEGIES:
                try:
                    found = plan.plan_for(cells.ALL[name], dtype, CASE.B, CASE.H, properties, strategy=strategy)
                except rnn_gpu.errors.BackendError:
                    continue
                kernels += ahead.kernels_of(cells.ALL[name], dtype, found, lengths=True, resets=True)
    print(f"{ahead.compile_ahead(kernels, properties)} kernels are compiled", flush=True)


def results(call, backend, get):
    y, last, tape = rnn_gpu.forward(*call.arguments(), backend=backend)
    gradients = rnn_gpu.backward(tape, call.dy, call.dlast)
    found = {"y": y, "d_x": gradients.x} | {f"last_{k}": array for k, array in enumerate(last)}
    found |= {f"d_{name}": array for name, array in gradients.weights.items()}
    found |= {f"d_initial_{k}": array for k, array in enumerate(gradients.initial)}
    return {name: get(array) for name, array in found.items()}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
