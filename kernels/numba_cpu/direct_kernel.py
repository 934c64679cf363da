"""A call on addresses, compiled: most of the kernel's arguments were written down before, by `direct.py`.

Forward and backward alike: states go in, from the callers' arrays to where the kernel has them, and come out.
"""

from __future__ import annotations

from typing import Any

from numba.extending import intrinsic

from rnn_gpu.kernels.numba_cpu.board import together
from rnn_gpu.kernels.numba_cpu.jit import cached_jit, jit
from rnn_gpu.kernels.numba_cpu.marshal import ROOM, address
from rnn_gpu.kernels.numba_cpu.product import clear, copy, integer
from rnn_gpu.kernels.numba_cpu.simd import array_at, room_for

__all__ = ["call"]


@intrinsic
def _array(typing: Any, like: Any, where: Any, size: Any) -> Any:
    """The array of the type of `like`, of so many elements, at an address."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        data = builder.inttoptr(values[1], context.get_data_type(like.dtype).as_pointer())
        return array_at(context, builder, like, data, values[2])

    return like(like, where, size), generate


@jit
def _move_states(like: Any, theirs: Any, ours: int, out: bool, order: Any, H: int, H_p: int) -> None:
    """States between the callers' arrays [B, H], at `theirs`, and ours [n_states, B, H_p]; in: zeros for address 0.

    order [B]: the caller's row of each of ours.
    """
    n_rows = order.size
    block = _array(like, ours, len(theirs) * n_rows * H_p)
    for k in range(len(theirs)):
        begin = integer(k) * n_rows * H_p
        if theirs[k] == 0:
            if not out:
                clear(block, begin, n_rows * H_p)
            continue
        state = _array(like, theirs[k], n_rows * H)
        for row in range(n_rows):
            if out:
                copy(state, order[row] * H, block, begin + row * H_p, H)
            else:
                copy(block, begin + row * H_p, state, order[row] * H, H)
                clear(block, begin + row * H_p + H, H_p - H)


@cached_jit
def call(
    build: Any, like: Any, code: int, written: Any, sizes: Any, given_places: Any, given: Any, kept_places: Any,
    kept: int, work_places: Any, memory: Any, order: Any, states: Any, out: Any, team: Any, board: Any,
) -> None:  # fmt: skip
    """Run a kernel, each member of the team a share; code: its address. like: an empty array of the working type.

    written [ROOM]: its arguments as `marshal.written` makes them, but for some addresses.
    sizes: H, H_p; the bytes of `memory` to be zeroed, from 0 on; where among the arguments are the states that go in,
    or -1, those that come out, the team's address, and the array that is not written where rows have ended; and how
    many elements of that are to be zeroed, if its address is not 0.
    given_places: where among the arguments the addresses `given` stand, in that order. kept_places, work_places [n, 2]:
    the same for parts of two pieces of memory, the one at an address, the other of bytes, with where each begins.
    order: as `_move_states` has it. states, out: addresses of a [B, H] for each state, before and after; 0 for zeros,
    or where it is not wanted.
    """
    work = address(memory)
    H, H_p, zeroed, place_in, place_out, place_team, place_padded, n_padded = sizes
    numbers = room_for(written, ROOM)
    for k in range(ROOM):
        numbers[k] = written[k]
    for k in range(len(given)):
        numbers[given_places[k]] = given[k]
    for k in range(kept_places.shape[0]):
        numbers[kept_places[k, 0]] = kept + kept_places[k, 1]
    for k in range(work_places.shape[0]):
        numbers[work_places[k, 0]] = work + work_places[k, 1]
    numbers[place_team] = address(team)
    clear(_array(like, work, zeroed // like.itemsize), integer(0), zeroed // like.itemsize)
    if n_padded > 0 and numbers[place_padded] != 0:
        clear(_array(like, numbers[place_padded], n_padded), integer(0), n_padded)
    if place_in >= 0:
        _move_states(like, states, numbers[place_in], False, order, H, H_p)
    together(board, code, numbers, team)
    _move_states(like, out, numbers[place_out], True, order, H, H_p)
