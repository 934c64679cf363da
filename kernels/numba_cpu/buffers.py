"""The buffers that each thread of a kernel has: a value for each, such as its size, or its place among them."""

from __future__ import annotations

from typing import Any, NamedTuple

__all__ = ["BACKWARD", "FORWARD", "ROOMS", "BackwardBuffers", "ForwardBuffers", "RoomBuffers"]


class ForwardBuffers(NamedTuple):
    """Of forward: X [limit, I] and P [limit, p_row], x and W x + b_ih of some steps; R, C, Q, S, N as
    `cells.forward_step` has them."""

    X: Any
    P: Any
    R: Any
    C: Any
    Q: Any
    S: Any
    N: Any


class BackwardBuffers(NamedTuple):
    """Of backward: S, C, T, D, E as `cells.backward_step` has them; Q, and the rest, forward's for as many rows as are
    rebuilt at a time."""

    S: Any
    C: Any
    T: Any
    D: Any
    E: Any
    Q: Any
    X: Any
    P: Any
    R: Any
    C_block: Any
    S_block: Any
    N_block: Any


class RoomBuffers(NamedTuple):
    """Of the gradients' products: a block of dx, packed A and B, zeros, as `gradients_of_rows` and `backward_step` have
    them."""

    dx_block: Any
    a_packed: Any
    b_packed: Any
    zeros: Any


FORWARD = ForwardBuffers(*range(len(ForwardBuffers._fields)))
BACKWARD = BackwardBuffers(*range(len(BackwardBuffers._fields)))
ROOMS = RoomBuffers(*range(len(RoomBuffers._fields)))
"""Their places."""
