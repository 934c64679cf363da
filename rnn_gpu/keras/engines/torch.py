"""On Keras' torch backend: the operators of rnn_gpu.torch."""

from __future__ import annotations

from typing import Any

from rnn_gpu.compiler.cell import Cell
from rnn_gpu.torch.execution import Call, Given, key_of
from rnn_gpu.torch.operators import run as run_stack

__all__ = ["run"]


def run(cell: Cell, x: Any, weights: dict[str, Any], initial: list[Any], lengths: Any) -> tuple[Any, list[Any]]:
    """See `rnn_gpu.keras.engines.run`."""
    call = Call(key_of(cell), " ".join(weights), hidden=initial[0].shape[1])
    states = [state.unsqueeze(0) for state in initial]
    y, last, _ = run_stack(Given(x, list(weights.values()), states, lengths, None, None, call))
    return y, [state[0] for state in last]
