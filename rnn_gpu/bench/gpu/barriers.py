"""What barriers and exchanges cost on this device: of a block, of clusters, of the whole chip, ours and CUDA's own.

Run as a program: `python -m rnn_gpu.bench.gpu.barriers FILE` writes what it measured to the file, and prints it.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from rnn_gpu import files
from rnn_gpu.arrays import library_of
from rnn_gpu.bench import machine
from rnn_gpu.errors import BackendError
from rnn_gpu.kernels.cupy_raw.cupy_device import CupyDevice, device_of, unavailable
from rnn_gpu.kernels.cupy_raw.device import Kernel, Launch, Properties
from rnn_gpu.kernels.cupy_raw.parameters import Record, fields
from rnn_gpu.kernels.cupy_raw.source import FOLDER

__all__ = ["CLUSTERS", "kernels", "main"]

THREADS = 256
SHARED = 1 << 14
"""Bytes of shared memory of a block, more than the buffers of any barrier's team."""

FEW, MANY = 1_000, 11_000
"""Barriers of two launches: the difference of their times is that of the barriers alone."""

SAMPLES = 7
CLUSTERS = (2, 4, 8, 16)
GRIDS = ("grid", "grid_exchange", "grid_exchange_after_barrier")
"""The team's barrier alone; 16 bytes a block exchanged as *grid* does it; the same behind a barrier."""

SLOTS = 2_048
"""In which a grid exchanges: some 4 MiB, which stay in the L2 cache."""

HEADERS = ("arch", "numbers", "marks", "teams")
"""Of the kernels' sources, those that the barriers need."""


class _Arguments(Record):
    """`Arguments` in barriers.cuh."""

    __slots__ = ()
    _fields_ = (
        *fields("long long", "count"),
        *fields("pointer", "exchange", "counters"),
        *fields("int", "slots", "hidden"),
    )


@dataclass(frozen=True)
class _Barrier:
    """blocks: of the launch, and how many of them wait for one another."""

    name: str
    blocks: int
    cluster: int = 1
    cooperative: bool = False


def kernels(properties: Properties) -> dict[str, tuple[Kernel, _Barrier]]:
    """The kernels for a device, by the names of their barriers."""
    definitions = [f"#define RNN_GPU_BLOCKS {properties.multiprocessors}"]
    if properties.max_cluster > 1:
        definitions.append("#define RNN_GPU_CLUSTERS")
    headers = [(FOLDER / f"{name}.cuh").read_text() for name in HEADERS]
    checks = _Arguments.checks("rnn_gpu::barriers::Arguments")
    source = "\n".join([*definitions, *headers, _text("barriers.cuh"), checks, ""])
    barriers = [
        _Barrier("block", properties.multiprocessors),
        *(_Barrier(f"cluster_{size}", size, cluster=size) for size in CLUSTERS if size <= properties.max_cluster),
        *(_Barrier(name, properties.multiprocessors, cooperative=True) for name in GRIDS),
    ]
    return {barrier.name: (Kernel(source, f"rnn_gpu_barrier_{barrier.name}"), barrier) for barrier in barriers}


def main(arguments: list[str]) -> int:
    """Measure, print and write. Returns the exit status."""
    reason = unavailable()
    if reason is not None:
        print(f"barriers cannot be measured here: {reason}", file=sys.stderr)
        return 2
    cupy: Any = importlib.import_module("cupy")
    device = device_of(library_of("x", cupy.empty(0)))
    rows = [dict(row) for row in _measured(cupy, device)]
    for row in rows:
        print(f"{row['barrier']:28} {row['blocks']:4} blocks  {row.get('us', row.get('reason'))}")
    described = machine.describe() | machine.describe_gpu()
    report = {"format": "rnn_gpu barriers", "version": 1, "device": device.properties.name, "machine": described}
    if arguments:
        files.write(Path(arguments[0]), (json.dumps(report | {"rows": rows}, indent=1) + "\n").encode())
    return 0


def _measured(cupy: Any, device: Any) -> Iterator[dict[str, Any]]:
    """One row a barrier: microseconds, or why it was not measured."""
    for kernel, barrier in kernels(device.properties).values():
        row = {"barrier": barrier.name, "blocks": barrier.blocks, "threads": THREADS}
        try:
            yield row | {"us": _microseconds(cupy, _launcher(cupy, device, kernel, barrier))}
        except BackendError as error:
            yield row | {"reason": str(error)}
    row = {"barrier": "cg_grid", "blocks": device.properties.multiprocessors, "threads": THREADS}
    try:
        kernel = cupy.RawKernel(
            _text("barriers_cg.cuh"), "rnn_gpu_barrier_cg_grid", options=("-std=c++17",), enable_cooperative_groups=True
        )
        kernel.compile()
    except (cupy.cuda.compiler.CompileException, RuntimeError) as error:  # CUDA's headers are not installed
        yield row | {"reason": f"cooperative_groups.h does not compile here: {str(error).splitlines()[0]}"}
        return
    shape = ((row["blocks"],), (THREADS,))
    yield row | {"us": _microseconds(cupy, lambda count: kernel(*shape, (np.int64(count),)))}


def _launcher(cupy: Any, device: CupyDevice, kernel: Kernel, barrier: _Barrier) -> Callable[[int], None]:
    exchange, counters = cupy.empty(SLOTS * 4 * barrier.blocks, np.float32), cupy.zeros(1, np.uint32)
    prepared = Launch(kernel, barrier.blocks, THREADS, SHARED, barrier.cluster, barrier.cooperative)

    def launch(count: int) -> None:
        with device.active():
            counters.fill(0)
            numbers = count, exchange.data.ptr, counters.data.ptr, SLOTS, 4 * barrier.blocks
            device.launch(prepared, _Arguments(*numbers))

    return launch


def _microseconds(cupy: Any, launch: Callable[[int], None]) -> float:
    """Of one barrier: the median of several differences."""
    launch(FEW)
    begin, end = cupy.cuda.Event(), cupy.cuda.Event()

    def milliseconds(count: int) -> float:
        begin.record()
        launch(count)
        end.record()
        end.synchronize()
        return float(cupy.cuda.get_elapsed_time(begin, end))

    return 1e3 * median((milliseconds(MANY) - milliseconds(FEW)) / (MANY - FEW) for _ in range(SAMPLES))


def _text(name: str) -> str:
    return resources.files("rnn_gpu.bench.gpu").joinpath(name).read_text()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
