"""One step, compiled: the forward kernel on arguments that were written down before, all but a few."""

from __future__ import annotations

from typing import Any

from rnn_gpu.kernels.numba_cpu.board import together
from rnn_gpu.kernels.numba_cpu.forward_kernel import ARGUMENTS
from rnn_gpu.kernels.numba_cpu.jit import cached_jit
from rnn_gpu.kernels.numba_cpu.marshal import FIVE, address, places
from rnn_gpu.kernels.numba_cpu.product import copy
from rnn_gpu.kernels.numba_cpu.simd import flattened

__all__ = ["step"]

_PLACES = places(ARGUMENTS)
_RAW, _X, _TEAM = (_PLACES[name] for name in ("raw", "x", "team"))


@cached_jit
def step(
    build: Any, code: int, numbers: Any, raw: Any, x: Any, states: Any, new: Any, initial: Any, last: Any, team: Any,
    board: Any,
) -> None:  # fmt: skip
    """Run one step, each member of the team a share; code: the cell's `forward_share`.

    numbers: the kernel's arguments as `marshal.written` makes them, of which raw, x and team are written anew.
    raw: the weights as `pack_forward` has them. x [1, B, I]; states, new: a [B, H] each, those before and after.
    initial, last [n_states, B, H_p], flat, two of the arguments: where the kernel has the states.
    """
    for k in range(FIVE):
        numbers[_RAW + 2 * k] = address(raw[k])
    numbers[_X], numbers[_TEAM] = address(x), address(team)
    n_rows, H = states[0].shape
    H_p = initial.size // max(len(states) * n_rows, 1)
    for k in range(len(states)):
        state = flattened(states[k])
        for row in range(n_rows):
            copy(initial, (k * n_rows + row) * H_p, state, row * H, H)
    together(board, code, numbers, team)
    for k in range(len(new)):
        state = flattened(new[k])
        for row in range(n_rows):
            copy(state, row * H, last, (k * n_rows + row) * H_p, H)
