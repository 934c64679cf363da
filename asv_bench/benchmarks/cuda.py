"""Kernels on a CUDA device: medians of the device's time, as `rnn-gpu bench --suite gpu` measures them.

Inputs are taken in turns, the L2 cache is flushed before each run, and where torch is there its results are what ours
are compared with first.
"""

from functools import cache

from rnn_gpu import cells, dispatch
from rnn_gpu.bench.gpu import torch_peer
from rnn_gpu.bench.gpu.measure import measure
from rnn_gpu.bench.gpu.platform import CupyPlatform
from rnn_gpu.bench.gpu.results import Results, Row
from rnn_gpu.bench.gpu.suites import PARTS, TF32
from rnn_gpu.bench.shapes import Case, Mode, Shape

from .common import GATED

BACKENDS = tuple(name for name, backend in dispatch.BACKENDS.items() if backend.device_kind == "cuda")
CORE = PARTS["core"]
SHAPES = tuple(Shape(CORE.steps[0], rows, units, units) for rows, units in ((1, 128), (16, 256), (64, 512)))
MODES: tuple[Mode, ...] = ("forward", "train")


class Device:
    params = (BACKENDS, GATED, ("float32", TF32, "bfloat16"), SHAPES, MODES)
    param_names = ("backend", "cell", "type", "shape", "mode")
    unit = "seconds"
    timeout = 600

    def setup(self, backend: str, cell: str, kind: str, shape: Shape, mode: Mode) -> None:
        reason = dispatch.BACKENDS[backend].unavailable()
        if reason is not None:
            raise NotImplementedError(f"{backend} cannot be used here: {reason}")
        dtype = "float32" if kind == TF32 else kind
        self.row = measured(Case(cells.ALL[cell], shape, mode, dtype=dtype, tf32=kind == TF32), backend)
        if self.row.status in ("refused", "out of memory"):
            raise NotImplementedError(f"{backend}: {self.row.remark}")

    def track_median(self, backend: str, cell: str, kind: str, shape: Shape, mode: Mode) -> float:
        if self.row.ours_s is None:
            raise RuntimeError(f"the result is {self.row.status}: error {self.row.error}, allowed {self.row.bound}")
        return self.row.ours_s


@cache
def measured(case: Case, backend: str) -> Row:
    """The case's row."""
    platform = CupyPlatform()
    peer = None if torch_peer.unavailable() else torch_peer
    results = Results(platform.name, measured={}, machine={})
    measure([[case]], platform, backend, peer, results)
    return results.rows[0]
