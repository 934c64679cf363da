"""What every benchmark runs on: the cases, numbers, runs and timing of `rnn-gpu bench`."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, ClassVar

from rnn_gpu import cells, dispatch
from rnn_gpu.bench import ours, timing
from rnn_gpu.bench.calls import draw
from rnn_gpu.bench.shapes import Case, Mode, Shape
from rnn_gpu.bench.suites import SUITES
from rnn_gpu.errors import BackendError

WHOLE, QUICK = SUITES["cpu"]

CELLS = tuple(cell.name for cell in WHOLE.cells)
GATED = tuple(cell.name for cell in WHOLE.variant_cells)
BACKENDS = tuple(name for name, backend in dispatch.BACKENDS.items() if backend.device_kind == "cpu")
SEQUENCES = tuple(QUICK.shapes)
ONE = QUICK.variant_shapes[0]
MODES: tuple[Mode, ...] = ("forward", "train")


class Timed:
    """How asv times: as the quick suite does, in one process.

    asv runs `setup` before each sample; what it prepares is made once in a process.
    """

    warmup_time = timing.WARM_UP_S
    repeat: ClassVar = (QUICK.plan.least, 1000, QUICK.plan.seconds)
    rounds = 1
    timeout = 300

    run: Callable[[], Any]

    def prepare(self, cell: str, backend: str, shape: Shape, mode: Mode, **options: Any) -> None:
        self.run = prepared(Case(cells.ALL[cell], shape, mode, **options), backend)


@lru_cache(maxsize=1)
def prepared(case: Case, backend: str) -> Callable[[], Any]:
    """One run of a case, with everything it reads made and everything it needs compiled.

    Raises NotImplementedError, by which asv skips, where the backend cannot run it.
    """
    run = ours.runner(draw(case), backend).run
    try:
        run()
    except BackendError as reason:
        raise NotImplementedError(str(reason)) from reason
    return run
