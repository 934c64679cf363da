"""What every benchmark runs on. Shapes, numbers and what one run is are those of `rnn-gpu bench`."""

from collections.abc import Callable
from typing import Any

from rnn_gpu import cells, dispatch
from rnn_gpu.bench import ours
from rnn_gpu.bench.calls import draw
from rnn_gpu.bench.shapes import Case, Mode, Shape
from rnn_gpu.bench.suites import SUITES
from rnn_gpu.errors import BackendError

WHOLE, QUICK = SUITES["cpu"]

CELLS = tuple(cell.name for cell in WHOLE.cells)
BACKENDS = tuple(name for name, backend in dispatch.BACKENDS.items() if backend.device_kind == "cpu")
SEQUENCES = tuple(QUICK.shapes)
STEPS = tuple(shape._replace(T=1) for shape in (*QUICK.steps, *QUICK.shapes))


def prepared(cell: str, backend: str, shape: Shape, mode: Mode, *, frozen: bool = False) -> Callable[[], Any]:
    """One run of a case, with everything it reads made and everything it needs compiled.

    Raises NotImplementedError, by which asv skips, where the backend cannot run it.
    """
    run = ours.runner(draw(Case(cells.ALL[cell], shape, mode, frozen=frozen)), backend).run
    try:
        run()
    except BackendError as reason:
        raise NotImplementedError(str(reason)) from reason
    return run
