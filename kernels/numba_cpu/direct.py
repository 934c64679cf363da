"""Calls on addresses, for callers whose arrays are not NumPy's and who call often: torch's modules.

What NumPy's arrays cost, to be made, looked at and handed on, is for small layers as much as the kernels. Here the
kernels' arguments are written down once for a problem, and those that follow from where rows end once for each such
batch; a call adds the addresses of its arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from rnn_gpu.dispatch import Ends
from rnn_gpu.kernels.numba_cpu import backward_kernel, crew, direct_kernel, forward_kernel, memory
from rnn_gpu.kernels.numba_cpu.constants import constant_arguments, layout_arguments
from rnn_gpu.kernels.numba_cpu.forward_kernel import PACK
from rnn_gpu.kernels.numba_cpu.host import CACHE_LINE
from rnn_gpu.kernels.numba_cpu.jit import BUILD, entry_of
from rnn_gpu.kernels.numba_cpu.layout import Layout, full_layout, packed_layout, ragged_layout
from rnn_gpu.kernels.numba_cpu.marshal import FIVE, ROOM, Later, places, written
from rnn_gpu.kernels.numba_cpu.packing import nothing
from rnn_gpu.kernels.numba_cpu.plan import Plan, plan_of
from rnn_gpu.kernels.numba_cpu.shares import Share, backward_shares, forward_shares, members_for
from rnn_gpu.kernels.numba_cpu.team import ALONE
from rnn_gpu.problem import Array, Problem
from rnn_gpu.recent import Recent

__all__ = ["Direct", "direct_of"]

_FORWARD, _BACKWARD = places(forward_kernel.ARGUMENTS), places(backward_kernel.ARGUMENTS)

MOST_TABLES = 32
"""Tables that are kept of calls whose rows end before the last step: they do so in many ways. A stack of layers has
some for each layer and direction."""


class _Base(NamedTuple):
    """What all tables of a kernel have in common.

    place: where its arguments are written, by name. numbers: those that follow from the problem alone, written, and
    `held`, the arrays that they point to. given: as `direct_kernel.call` has it.
    """

    place: Mapping[str, int]
    numbers: list[int]
    given: Array
    held: Mapping[str, Any]

    @classmethod
    def of(cls, place: Mapping[str, int], values: Mapping[str, Any], given: tuple[int, ...]) -> _Base:
        return cls(place, _filled([0] * ROOM, place, values), np.array(given, np.int64), values)


class _Table(NamedTuple):
    """A kernel's arguments for a layout and so many members, as `direct_kernel.call` has them; held: what they need."""

    entry: Callable[..., None]
    code: int
    written: Array
    sizes: tuple[int, ...]
    given: Array
    kept: Array
    work: Array
    work_bytes: int
    members: int
    held: tuple[Any, ...]


class Direct:
    """A problem's calls. Addresses are those of contiguous arrays of the working type; 0 stands for None.

    ends: where the rows end, as dispatch.Direct has them. The plan of a packed batch is that of a problem of any T: the
    layout has the steps.
    """

    def __init__(self, plan: Plan) -> None:
        problem = plan.problem
        self._plan, self._full = plan, full_layout(problem.T, problem.B)
        self._tables: dict[tuple[bool, int], _Table] = {}
        self._like = nothing(problem.real)

    def kept_bytes(self, ends: Ends | None = None) -> int:
        """The bytes of what backward needs of a forward call, which the caller keeps."""
        return sum(map(_padded, self._kept_parts(self._layout_of(ends)).values()))

    def _kept_parts(self, layout: Layout) -> dict[str, int]:
        plan, problem = self._plan, self._plan.problem
        n_rows, row = layout.n_rows, plan.sizes.H_p * problem.real.itemsize
        after = n_rows * plan.n_states * row if problem.save else 0
        values = n_rows * plan.n_saved * row if problem.save and not problem.recompute else 0
        initial = problem.B * plan.n_states * row if problem.has_initial else 0
        return {"after": after, "values": values} | ({"initial": initial} if initial else {})

    def _layout_of(self, ends: Ends | None) -> Layout:
        if ends is None:
            return self._full
        if ends.packed:
            return packed_layout(ends.numbers.tobytes())
        return ragged_layout(self._plan.problem.T, ends.numbers.tobytes())

    def maker(self, shape: tuple[int, ...]) -> Callable[[], Array]:
        """What makes such arrays, yet to be written; memory of large ones comes back when the last view is gone."""
        return memory.maker(shape, self._like.dtype)

    def forward(
        self, weights: tuple[int, ...], x: int, y: int, states: tuple[int, ...], last: tuple[int, ...], kept: int,
        ends: Ends | None = None, resets: int = 0,
    ) -> None:  # fmt: skip
        """Run the sequence. weights: w_ih, w_hh, b_ih, b_hh. states, last: a [B, H] for each state, before and after.

        kept: room for `kept_bytes`.
        """
        layout = self._layout_of(ends)
        self._run(layout, False, (*weights, x, resets, y), states, last, kept)

    def backward(
        self, weights: tuple[int, ...], x: int, dy: int, dlast: tuple[int, ...], gradients: tuple[int, ...],
        d_initial: tuple[int, ...], kept: int, ends: Ends | None = None, resets: int = 0,
    ) -> None:  # fmt: skip
        """Run it back. gradients: of x, unless that is 0, w_ih, w_hh, b_ih, b_hh; kept: what forward has written."""
        problem, layout = self._plan.problem, self._layout_of(ends)
        dy_size = layout.n_given * problem.H if dy else 0
        dx_size = layout.n_given * problem.I if gradients[0] else 0
        self._run(layout, True, (*weights, x, resets, dy, dy_size, dx_size, *gradients), dlast, d_initial, kept)

    def _run(
        self, layout: Layout, backward: bool, given: tuple[int, ...], states: tuple[int, ...], out: tuple[int, ...],
        kept: int,
    ) -> None:  # fmt: skip
        table: _Table | None = None  # until the call has ended, whoever forgets it meanwhile

        def prepare(most: int) -> crew.Task:
            nonlocal table
            table = self._table_of(layout, backward, most)
            arguments = (
                BUILD, self._like, table.code, table.written, table.sizes, table.given, given, table.kept, kept,
                table.work, memory.empty(table.work_bytes, _BYTE), layout.order, states, out,
            )  # fmt: skip
            return table.entry, arguments, table.members

        crew.run(members_for(self._plan, layout, backward), prepare)

    def _table_of(self, layout: Layout, backward: bool, members: int) -> _Table:
        make = self._made_backward if backward else self._made_forward
        if layout is self._full:
            table = self._tables.get((backward, members))
            return table or self._tables.setdefault((backward, members), make(layout, members))
        key = self, layout, backward, members
        return _ragged.get(key) or _ragged.add(key, make(layout, members))

    @cached_property
    def _forward(self) -> _Base:
        plan, problem, place = self._plan, self._plan.problem, _FORWARD
        values = constant_arguments(plan, forward_kernel.ARGUMENTS) | {
            "raw": self._raw, "packed": tuple(map(Later, plan.room)), "pack": PACK, "initial": self._initial,
            "y": Later(0), "last_states": Later(self._states_size), "keep_states": problem.save,
            "keep_saved": problem.save and not problem.recompute,
        }  # fmt: skip
        return _Base.of(place, values, (*_raw_places(place), place["x"], place["resets"], place["y"]))

    def _made_forward(self, layout: Layout, members: int) -> _Table:
        plan, problem, place = self._plan, self._plan.problem, _FORWARD
        share = forward_shares(plan, layout, members)
        of_layout = layout_arguments(plan, layout, share) | {
            "in_order": layout.in_order and not problem.reverse, "work": Later(share.work), "ahead": share.ahead,
        }  # fmt: skip
        parts = dict(zip(_five(place, "packed"), plan.room, strict=True))
        parts |= {place["work"]: share.work, place["last_states"]: self._states_size}
        initial = place["initial"] if problem.has_initial else -1
        places_of = (initial, place["last_states"], place["team"], place["y"], _unwritten(layout, problem.H))
        return self._table(self._forward, plan.forward_code, layout, share, of_layout, {}, parts, places_of)

    @cached_property
    def _backward(self) -> _Base:
        plan, problem, rooms, place, none = self._plan, self._plan.problem, self._plan.gradients, _BACKWARD, Later(0)
        as_wanted_w, as_wanted_u = rooms.as_wanted
        n_w_ih, n_w_hh, *n_biases = rooms.wanted
        values = constant_arguments(plan, backward_kernel.ARGUMENTS) | {
            "raw": self._raw, "packed": tuple(map(Later, rooms.packed)), "pack": True, "made": (none,) * FIVE,
            "gates_back": plan.blocks.back_gates, "stages_back": plan.blocks.back_stages, "initial": self._initial,
            "recompute": problem.recompute, "dy": none, "d_states": Later(self._states_size), "DV": none,
            "gradients": (
                none, none, none, Later(0 if as_wanted_w else n_w_ih), Later(0 if as_wanted_u else n_w_hh)
            ),
            "d_b_ih": Later(n_biases[0]), "d_b_hh": Later(n_biases[1]), "input_sums": none, "recurrent_sums": none,
            "dr_row": rooms.dr_row, "dp_row": rooms.dp_row, "dw_row": rooms.dw_row, "du_row": rooms.du_row,
            "merged": rooms.merged, "work": none, "rooms": none, "n_stages": plan.n_stages,
        }  # fmt: skip
        dx, dw, du, d_w_ih, d_w_hh = _five(place, "gradients")
        given = (
            *_raw_places(place), place["x"], place["resets"], place["dy"], place["dy"] + 1, dx + 1, dx,
            dw if as_wanted_w else d_w_ih, du if as_wanted_u else d_w_hh, place["d_b_ih"], place["d_b_hh"],
        )  # fmt: skip
        return _Base.of(place, values, given)

    def _made_backward(self, layout: Layout, members: int) -> _Table:
        plan, problem, rooms, place = self._plan, self._plan.problem, self._plan.gradients, _BACKWARD
        share = backward_shares(plan, layout, members)
        of_layout = layout_arguments(plan, layout, share) | {
            "flat_rows": layout.flat_rows, "ring": share.ring, "most": share.most, "room_offsets": share.room_offsets,
        }  # fmt: skip
        rows = share.ring * share.rings
        DR, DP = rows * rooms.dr_row, 0 if plan.kernel.shared else rows * rooms.dp_row
        as_wanted_w, as_wanted_u = rooms.as_wanted
        dx, dw, du, *_ = _five(place, "gradients")
        U_t, W_t, of_DR, of_DP, of_O = _five(place, "made")
        parts = {
            U_t: rooms.transposed[0], W_t: rooms.transposed[1], of_DR: DR,
            of_O: rows * plan.n_stages * plan.sizes.H_p, place["work"]: share.work, place["rooms"]: share.rooms,
            place["d_states"]: self._states_size,
        }  # fmt: skip
        parts |= {of_DP: DP} if DP else {}
        parts |= {} if as_wanted_w else {dw: rooms.padded[0]}
        parts |= {} if as_wanted_u else {du: rooms.padded[1]}
        parts |= zip(_five(place, "packed"), rooms.packed, strict=True)
        sums = {place["input_sums"]: plan.n_gates * problem.H}
        if not rooms.merged:
            sums |= {place["recurrent_sums"]: plan.n_recurrent * problem.H}
        places_of = (place["d_states"], place["d_states"], place["team"], dx, _unwritten(layout, problem.I))
        return self._table(
            self._backward, plan.backward_code, layout, share, of_layout, sums, parts, places_of,
            {of_DP: of_DR} if not DP else {}, {place["recurrent_sums"]: place["input_sums"]} if rooms.merged else {},
        )  # fmt: skip

    def _table(
        self, base: _Base, code: int, layout: Layout, share: Share, of_layout: Mapping[str, Any],
        sums: Mapping[int, int], parts: Mapping[int, int], places_of: tuple[int, ...], *the_same: Mapping[int, int],
    ) -> _Table:  # fmt: skip
        """of_layout: the arguments that `base` has not.

        sums, parts: by their place, elements of what lies in the memory of a call: float64, zeroed, and the rest.
        places_of: the last of the kernel's `sizes`, from the states that go in on.
        the_same: for places, those that have the same address.
        """
        problem = self._plan.problem
        assert len(base.held) + len(of_layout) == len(base.place), "each argument is written"
        numbers = np.array(_filled(base.numbers.copy(), base.place, of_layout), np.int64)
        in_work, zeroed = _laid_out({at: count * 8 for at, count in sums.items()})
        rest, work_bytes = _laid_out({at: count * problem.real.itemsize for at, count in parts.items()}, zeroed)
        begins = dict([*in_work, *rest])
        aliases = [(at, begins[other]) for pairs in the_same for at, other in pairs.items()]
        kept, _ = _laid_out({base.place[name]: size for name, size in self._kept_parts(layout).items()})
        sizes = (problem.H, self._plan.sizes.H_p, zeroed, *places_of)
        of_kept, of_work = _pairs(kept), _pairs([*in_work, *rest, *aliases])
        none = (0,) * self._plan.n_states
        arguments = (
            BUILD, self._like, 0, numbers, sizes, base.given, (0,) * base.given.size, of_kept, 0, of_work,
            np.zeros(0, _BYTE), layout.order, none, none, ALONE, ALONE,
        )  # fmt: skip
        entry = entry_of(direct_kernel.call, (problem.real, base.given.size, len(none)), arguments)
        n_bytes, held = max(work_bytes, memory.SMALLEST), (base, of_layout)
        return _Table(entry, code, numbers, sizes, base.given, of_kept, of_work, n_bytes, len(share.offsets), held)

    @property
    def _raw(self) -> tuple[Later, ...]:
        """The sizes of w_ih, w_hh, b_ih, b_hh and of the vectors, which there are none of."""
        n_w_ih, n_w_hh, n_b_ih, n_b_hh = self._plan.gradients.wanted
        return tuple(map(Later, (n_w_ih, n_w_hh, n_b_ih, n_b_hh, 0)))

    @property
    def _initial(self) -> Array | Later:
        """The states before the first step: zeros, or those that are kept."""
        return Later(self._states_size) if self._plan.problem.has_initial else self._plan.no_states

    @property
    def _states_size(self) -> int:
        return self._plan.n_states * self._plan.problem.B * self._plan.sizes.H_p


_ragged: Recent[tuple[Direct, Layout, bool, int], _Table] = Recent(MOST_TABLES)

_BYTE = np.dtype(np.uint8)


def direct_of(problem: Problem) -> Direct | None:
    """The problem's calls on addresses; None where it is one that needs more than these give."""
    if problem.real is not problem.dtype or problem.projected or problem.cell.vectors:
        return None
    if 0 in (problem.T, problem.B, problem.I):
        return None
    return Direct(plan_of(problem))


def _unwritten(layout: Layout, width: int) -> int:
    """Elements of an array of rows so wide that are not all written, as rows end before the last step; else 0."""
    return 0 if layout.in_order else layout.n_given * width


def _filled(numbers: list[int], place: Mapping[str, int], values: Mapping[str, Any]) -> list[int]:
    """The numbers, with these arguments at their places."""
    for name, value in values.items():
        part, at = written((value,)), place[name]
        numbers[at : at + len(part)] = part
    return numbers


def _five(place: Mapping[str, int], name: str) -> list[int]:
    """The places of the addresses of a tuple of arrays."""
    return [place[name] + 2 * k for k in range(FIVE)]


def _raw_places(place: Mapping[str, int]) -> list[int]:
    """Those of the weights but for the vectors."""
    return _five(place, "raw")[: FIVE - 1]


def _padded(n_bytes: int) -> int:
    """In whole lines of the cache."""
    return -(-n_bytes // CACHE_LINE) * CACHE_LINE


def _laid_out(sizes: Mapping[int, int], begin: int = 0) -> tuple[list[tuple[int, int]], int]:
    """For each key, with where parts of so many bytes begin, one after the other, and where the last ends."""
    found = []
    for key, n_bytes in sizes.items():
        found.append((key, begin))
        begin += _padded(n_bytes)
    return found, begin


def _pairs(found: list[tuple[int, int]]) -> Array:
    return np.array(found, np.int64).reshape(-1, 2)
