"""Running a case on a backend of ours."""

from __future__ import annotations

import importlib
from typing import Any

from rnn_gpu.bench.calls import Call
from rnn_gpu.bench.peers.torch import module_runner
from rnn_gpu.bench.runner import Results, Runner
from rnn_gpu.functional import backward, forward, step

__all__ = ["runner"]


def runner(call: Call, backend: str, modules: bool = False) -> Runner:
    """The call on this backend, by the public functions or, with `modules`, by those of rnn_gpu.torch.

    Raises BackendError, when run, where the backend cannot.
    """
    if modules:
        return module_runner(call, importlib.import_module("rnn_gpu.torch"), backend=backend)
    cell, x, weights = call.case.cell, call.x, call.weights
    options: dict[str, Any] = {
        "lengths": call.lengths,
        "resets": call.resets,
        "tf32": call.case.tf32,
        "backend": backend,
    }

    def run_forward() -> Any:
        return forward(cell, x, weights, **options, save=False)

    def run_keep() -> Any:
        return forward(cell, x, weights, **options, recompute=call.case.recompute)

    def run_train() -> Any:
        y, last, tape = forward(cell, x, weights, **options, recompute=call.case.recompute)
        return y, last, backward(tape, call.dy)

    def run_steps() -> Any:
        state = None
        for x_t in x:
            state = step(cell, x_t, weights, state, backend=backend)
        return state

    def named(y: Any, last: Any) -> dict[str, Any]:
        return {"y": y} | {f"last_{name}": array for name, array in zip(cell.states, last, strict=True)}

    def results(ran: Any) -> Results:
        match call.case.mode:
            case "forward" | "keep":
                return named(ran.y, ran.last)
            case "train":
                y, last, gradients = ran
                return named(y, last) | {
                    f"d_{name}": array for name, array in (("x", gradients.x), *gradients.weights.items())
                }
            case "step":
                return named(ran[0], ran)

    runs = {"forward": run_forward, "keep": run_keep, "train": run_train, "step": run_steps}
    return Runner(runs[call.case.mode], results)
