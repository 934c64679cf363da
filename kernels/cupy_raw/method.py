"""How a problem is run on a device, found once for all its calls: the plan, and the launches that follow from it."""

from __future__ import annotations

from dataclasses import dataclass

from rnn_gpu.arrays import dtype_named
from rnn_gpu.kernels.cupy_raw.device import Launch
from rnn_gpu.kernels.cupy_raw.plan import Choice, Plan
from rnn_gpu.kernels.cupy_raw.rows import Rows
from rnn_gpu.kernels.cupy_raw.shapes import Shapes
from rnn_gpu.kernels.cupy_raw.source import kernel
from rnn_gpu.problem import Problem

__all__ = ["Method", "SequenceLaunch", "launch_of", "method_of"]

EXCHANGE_BYTES = 1 << 23
"""In which the teams of a grid exchange, for as many steps as fit: it stays in the L2 cache."""


@dataclass(frozen=True)
class SequenceLaunch:
    """The launch of a sequence kernel over so many tiles of rows.

    The rest is 0 but for a grid, whose teams exchange through global memory, see `GridTeam` in cuda/teams.cuh.
    slots: of each team; an exchange takes one, and when none is left they are used again.
    exchange: bytes of the slots of all teams. counters: of all teams, one each.
    """

    launch: Launch
    tiles: int
    slots: int
    exchange: int
    counters: int


@dataclass(frozen=True)
class Method:
    """forward, backward: None for step by step. rows, shapes: of a call in which all rows have all steps."""

    plan: Plan
    forward: SequenceLaunch | None
    backward: SequenceLaunch | None
    rows: Rows
    shapes: Shapes


def method_of(problem: Problem, plan: Plan, *, packed: bool = False) -> Method:
    """The method of a plan; packed: for rows of which not all have all steps."""
    keeps = (1 if problem.recompute else 2) if problem.save else 0
    launches = [
        None if choice is None else launch_of(choice, problem, lengths=packed, keeps=keeps)
        for choice in (plan.forward, plan.backward)
    ]
    rows = Rows(problem.T, problem.B, problem.T * problem.B)
    return Method(plan, launches[0], launches[1], rows, Shapes(problem, plan, rows.N))


def launch_of(choice: Choice, problem: Problem, *, lengths: bool, keeps: int) -> SequenceLaunch:
    """The launch of a choice for calls with or without these, see `Traits`."""
    spec = choice.kernel.of_call(lengths=lengths, resets=problem.has_resets, keeps=keeps)
    traits = spec.traits
    assert min(traits.hidden, traits.blocks * traits.block_units) >= problem.H, "each hidden unit has an owner"
    slots = exchange = counters = 0
    if traits.strategy == "grid" and spec.products:
        slot = traits.rows * spec.stride * dtype_named(traits.operand).itemsize
        steps = problem.T * -(-choice.tiles // choice.teams)
        of_step = len(spec.products)
        slots = of_step * max(1, min(steps, EXCHANGE_BYTES // (choice.teams * of_step * slot)))
        exchange, counters = choice.teams * slots * slot, choice.teams
    launch = Launch(
        kernel=kernel(spec),
        grid=choice.teams * traits.blocks,
        block=traits.threads,
        shared=spec.shared_bytes,
        cluster=traits.blocks if traits.strategy == "cluster" else 1,
        cooperative=traits.strategy == "grid",
    )
    return SequenceLaunch(launch, choice.tiles, slots, exchange, counters)
