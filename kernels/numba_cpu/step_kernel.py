"""One step, compiled: the forward kernel on arguments that were written down before, all but a few."""

from __future__ import annotations

from typing import Any

from rnn_gpu.kernels.numba_cpu.board import together
from rnn_gpu.kernels.numba_cpu.forward_kernel import ARGUMENTS
from rnn_gpu.kernels.numba_cpu.jit import cached_jit
from rnn_gpu.kernels.numba_cpu.marshal import FIVE, address, places
from rnn_gpu.kernels.numba_cpu.product import copy

__all__ = ["step"]

_PLACES = places(ARGUMENTS)
_RAW, _X, _LAST, _TEAM = (_PLACES[name] for name in ("raw", "x", "last_states", "team"))


@cached_jit
def step(
    build: Any, code: int, numbers: Any, raw: Any, x: Any, states: Any, initial: Any, last: Any, team: Any, board: Any
) -> None:
    """Run one step, each member of the team a share; code: `address_of_forward` of the cell.

    numbers: the kernel's arguments as `numbers_of` makes them, of which those that follow are written anew.
    raw: the weights as `pack_forward` has them. x [B, I], states, a [B, H] each, flat.
    last [n_states, B, H_p]: the states after the step.
    initial [n_states, B, H_p], one of the arguments: filled with `states`.
    """
    for k in range(FIVE):
        numbers[_RAW + 2 * k] = address(raw[k])
    numbers[_X], numbers[_LAST], numbers[_TEAM] = address(x), address(last), address(team)
    _, n_batch, H_p = last.shape
    for k in range(len(states)):
        state = states[k]
        H = state.size // max(n_batch, 1)
        for row in range(n_batch):
            copy(initial, (k * n_batch + row) * H_p, state, row * H, H)
    together(board, code, numbers, team)
