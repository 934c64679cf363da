"""How a sequence is run: which strategy, cut into what tiles, and why not the others.

The strategies in the order of preference are block, grid and stepwise; a single step is always run stepwise, as there
is nothing to keep on the chip for. All three add up a sum in the same order, so that a row's result does not depend on
which one runs it, nor on the rows beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from rnn_gpu.errors import BackendError
from rnn_gpu.kernels.numba_cuda.cells import segments_of
from rnn_gpu.kernels.numba_cuda.device import Properties
from rnn_gpu.kernels.numba_cuda.emit_segments import Segments
from rnn_gpu.kernels.numba_cuda.traits import Traits
from rnn_gpu.problem import Problem
from rnn_gpu.strategies import ENVIRONMENT_VARIABLE, asked_for

__all__ = ["Plan", "Tile", "parts_of", "plan", "planned", "tile_of_step"]


@dataclass(frozen=True)
class Tile:
    """What one block owns, and how many there are.

    units, groups, parts: threads of a block, x, y and z; rows: batch rows of a thread.
    row_tiles, unit_tiles: blocks. resident: U stays in shared memory. shared: bytes of shared memory a block.
    """

    units: int
    groups: int
    parts: int
    rows: int
    row_tiles: int
    unit_tiles: int
    resident: bool
    shared: int

    @property
    def width(self) -> int:
        """Batch rows of a block."""
        return self.groups * self.rows

    @property
    def threads(self) -> int:
        return self.units * self.groups * self.parts


@dataclass(frozen=True)
class Plan:
    """How one direction of a problem is run.

    why: the reason for the strategy; refused: by strategy, why not each that comes before it.
    bytes_a_step: what a step moves between the chip and its memory; flops_a_step: of its recurrent products.
    floor: seconds that one step takes at least, by the device's bandwidth; 0 where that is not known.
    """

    direction: str
    strategy: str
    tile: Tile
    launches: int
    why: str
    refused: Mapping[str, str]
    bytes_a_step: int
    flops_a_step: int
    floor: float

    def __str__(self) -> str:
        tile = self.tile
        uses = f"{tile.shared / 1024:.1f} KB shared memory a block" + (", U resident" if tile.resident else "")
        floor = f", at least {self.floor * 1e6:.2f} us by bandwidth" if self.floor else ""
        lines = [
            f"{self.direction}: {self.strategy}, {self.why}",
            f"  tile of {tile.width} rows x {tile.units} units; {tile.row_tiles} x {tile.unit_tiles} blocks of "
            f"{tile.units} x {tile.groups} x {tile.parts} threads, {tile.rows} rows a thread",
            f"  {uses}; {self.launches} launches; {self.bytes_a_step} bytes and {self.flops_a_step} flops a step"
            + floor,
        ]
        return "\n".join(lines + [f"  not {name}: {reason}" for name, reason in self.refused.items()])


def plan(problem: Problem, direction: str, device: Properties, traits: Traits) -> Plan:
    """Choose a strategy for one direction, "forward" or "backward".

    Raises ArgumentError if RNN_GPU_STRATEGY names none that there is, BackendError if the one it names cannot run.
    """
    segments = segments_of(problem.cell, direction)
    makers: dict[str, Callable[[], Tile | str]] = {
        "block": lambda: _block(problem, segments, device, traits),
        "grid": lambda: _grid(problem, segments, device, traits),
        "stepwise": lambda: tile_of_step(problem, segments, problem.B, device, traits),
    }
    named = asked_for()
    if named and named not in makers:
        raise BackendError(f"{ENVIRONMENT_VARIABLE}: numba_cuda has {', '.join(makers)}, and not {named}")
    if named:
        tile = makers[named]()
        if isinstance(tile, str):
            raise BackendError(f"{ENVIRONMENT_VARIABLE}: {named} cannot run {problem}, {direction}: {tile}")
        return _plan(problem, direction, segments, device, named, tile, "as asked for", {})
    if problem.T == 1:
        tile = tile_of_step(problem, segments, problem.B, device, traits)
        return _plan(problem, direction, segments, device, "stepwise", tile, "as it is one step", {})
    refused: dict[str, str] = {}
    for strategy, make in makers.items():
        tile = make()
        if not isinstance(tile, str):
            return _plan(problem, direction, segments, device, strategy, tile, _WHY[strategy], refused)
        refused[strategy] = tile
    raise AssertionError("stepwise runs everything")


def planned(problem: Problem, direction: str, device: Properties, traits: Traits) -> Plan:
    """`plan`, made once for a problem and the strategy that is named, if any."""
    key = ("numba_cuda", direction, asked_for())
    if key not in problem.memo:
        problem.memo[key] = plan(problem, direction, device, traits)
    found: Plan = problem.memo[key]
    return found


_WHY = {
    "block": "as U fits in the shared memory of one block",
    "grid": "as all tiles are on the device at once",
    "stepwise": "which has no limits",
}


def parts_of(segments: Segments, hidden: int, item: int, device: Properties, traits: Traits) -> int:
    """Shares of a recurrent sum, a power of two; where U fits in one block, as many as its threads.

    item: bytes of the working type. The batch does not matter, as this is part of a sum's bits.
    """
    longest, parts, most = max(segments.depth, default=0) * hidden, 1, traits.parts
    if hidden <= traits.threads_block and _shared_of_block(segments, hidden, item, most, 1) <= device.shared:
        most = min(most, traits.threads_block // hidden)
    while 2 * parts <= most and parts * traits.chain < longest:
        parts *= 2
    return parts


def _shared_of_block(segments: Segments, hidden: int, item: int, parts: int, width: int) -> int:
    """Bytes of shared memory of a block that has all of U and `width` rows."""
    sums = parts * max(segments.outputs, default=0) * width * hidden if parts > 1 else 0
    return item * (segments.area * hidden * hidden + 2 * sum(segments.depth) * hidden * width + sums)


def _block(problem: Problem, segments: Segments, device: Properties, traits: Traits) -> Tile | str:
    hidden, item = problem.H, problem.real.itemsize
    parts = parts_of(segments, hidden, item, device, traits)

    def shared(width: int) -> int:
        return _shared_of_block(segments, hidden, item, parts, width)

    units = hidden if segments.n_stages else min(hidden, traits.units_stepwise)  # nothing keeps units together
    if shared(1) > device.shared:
        return f"U and one row take {shared(1)} bytes of shared memory, and a block has {device.shared}"
    if units * parts > traits.threads_block:
        return f"H = {hidden} units in {parts} parts are more than {traits.threads_block} threads"
    wanted = -(-problem.B // device.multiprocessors)
    rows, groups = _rows_of(wanted, item, traits.row_bytes), 1
    while rows > 1 and shared(rows) > device.shared:
        rows //= 2
    most = traits.threads_block // (units * parts)
    while groups * rows < wanted and groups < most and shared((groups + 1) * rows) <= device.shared:
        groups += 1
    row_tiles, unit_tiles = -(-problem.B // (groups * rows)), -(-hidden // units)
    return Tile(units, groups, parts, rows, row_tiles, unit_tiles, True, shared(groups * rows))


def _grid(problem: Problem, segments: Segments, device: Properties, traits: Traits) -> Tile | str:
    hidden, item = problem.H, problem.real.itemsize
    if not device.cooperative:
        return f"{device.name} cannot launch a kernel whose blocks wait for one another"
    if not segments.n_stages:
        return "the cell has no recurrent product, and nothing to wait for"
    parts, widest = parts_of(segments, hidden, item, device, traits), max(segments.outputs)
    units = min(hidden, max(traits.units, -(-hidden // device.multiprocessors)))
    unit_tiles = -(-hidden // units)
    row_tiles = max(1, min(problem.B, device.multiprocessors // unit_tiles))
    wanted = max(1, -(-problem.B // row_tiles))
    rows = _rows_of(wanted, item, traits.row_bytes)
    groups = -(-wanted // rows)
    row_tiles = -(-problem.B // (groups * rows))
    threads = units * groups * parts
    if threads > traits.threads:
        return (
            f"{problem.B} rows x {hidden} units in {parts} parts need {threads} threads on each of "
            f"{device.multiprocessors} multiprocessors, and a block has {traits.threads}"
        )
    staged = item * groups * rows * (traits.chunk + (parts * widest * units if parts > 1 else 0))
    if staged > device.shared:
        return f"a tile takes {staged} bytes of shared memory, and a block has {device.shared}"
    resident = item * segments.area * hidden * units
    fits = staged + resident <= device.shared
    return Tile(units, groups, parts, rows, row_tiles, unit_tiles, fits, staged + (resident if fits else 0))


def tile_of_step(problem: Problem, segments: Segments, n_rows: int, device: Properties, traits: Traits) -> Tile:
    """The tile of the stepwise strategy for `n_rows` rows."""
    item = problem.real.itemsize
    parts, widest = parts_of(segments, problem.H, item, device, traits), max(segments.outputs, default=0)
    units = min(problem.H, max(traits.units_shared, traits.units_stepwise // parts))
    unit_tiles, most = -(-problem.H // units), traits.threads // (units * parts)

    def tile(rows: int) -> Tile:
        row_bytes = item * rows * (traits.chunk + (parts * widest * units if parts > 1 else 0))
        groups = max(1, min(most, -(-n_rows // rows), traits.shared // row_bytes))
        row_tiles = -(-n_rows // (groups * rows))
        return Tile(units, groups, parts, rows, row_tiles, unit_tiles, False, groups * row_bytes)

    # The more rows a thread owns, the less often U is read, by fewer blocks.
    rows = _rows_of(n_rows, item, traits.row_bytes_stepwise)
    found = tile(rows)
    while rows > 1 and (found.shared > traits.shared or found.row_tiles * unit_tiles < device.multiprocessors):
        rows //= 2
        found = tile(rows)
    return found


def _rows_of(wanted: int, item: int, row_bytes: int) -> int:
    """Rows a thread owns, a power of two, where a block wants so many."""
    rows = 1
    while rows * item < row_bytes and rows < wanted:
        rows *= 2
    return rows


def _plan(
    problem: Problem, direction: str, segments: Segments, device: Properties, strategy: str, tile: Tile, why: str,
    refused: Mapping[str, str],
) -> Plan:  # fmt: skip
    cell, hidden, item = problem.cell, problem.H, problem.real.itemsize
    states, kept = len(cell.states), 0 if not problem.save or problem.recompute else len(cell.saved)
    gates, recurrent = len(cell.input_gates), len(cell.recurrent_gates)
    if direction == "forward":
        moved = gates + 1 + (states if problem.save else 0) + kept
    else:
        moved = 2 * states + len(cell.saved) + 1 + recurrent + (0 if cell.program.shares_gradient else gates)
    moved *= problem.B * hidden * item
    if not tile.resident:
        moved += segments.area * hidden * hidden * item
    launches = problem.T * max(1, segments.n_stages) + (segments.n_stages > 0) if strategy == "stepwise" else 1
    floor = moved / device.bandwidth if device.bandwidth else 0.0
    flops = 2 * segments.area * hidden * hidden * problem.B
    return Plan(direction, strategy, tile, launches, why, refused, moved, flops, floor)
