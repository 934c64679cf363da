"""Which kernels run a call, and why not others: one search over all strategies, by the estimates of `step_time.py`.

A plan depends on the problem's sizes, cell and dtype and on the device's properties alone; no device is needed to make
one. RNN_GPU_STRATEGY names a strategy to be used in place of the one estimated to be the fastest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import Any

import numpy as np

from rnn_gpu.arrays import dtype_named
from rnn_gpu.compiler.cell import Cell
from rnn_gpu.errors import BackendError
from rnn_gpu.kernels.cupy_raw import step_time
from rnn_gpu.kernels.cupy_raw.device import Properties
from rnn_gpu.kernels.cupy_raw.divisions import divisions, filled, most_teams
from rnn_gpu.kernels.cupy_raw.limits import misfit, registers_of
from rnn_gpu.kernels.cupy_raw.step_time import Cost
from rnn_gpu.kernels.cupy_raw.traits import DIRECTIONS, SequenceKernel, StepKernel, itemsize
from rnn_gpu.problem import Problem
from rnn_gpu.strategies import STRATEGIES, asked_for

__all__ = [
    "Choice",
    "Plan",
    "Verdict",
    "choose",
    "kept_of",
    "plan_for",
    "samples",
    "verdict",
]

SMALLEST_MMA = 16
"""H from which 16-bit products run on tensor cores: below, a fragment would be mostly padding."""


@dataclass(frozen=True)
class Choice:
    """A sequence kernel, and how many teams of its blocks share the tiles of rows."""

    kernel: SequenceKernel
    tiles: int
    teams: int
    cost: Cost

    def __str__(self) -> str:
        kernel, traits = self.kernel, self.kernel.traits
        if traits.product == "mma":
            shares = f"{traits.splits} warps share {8 * traits.units} units"
        else:
            shares = f"{traits.lanes} threads share {traits.units} unit{'s' * (traits.units > 1)}"
        return (
            f"{self.teams} x {traits.blocks} blocks of {traits.threads} threads, {traits.product} of {traits.operand}; "
            f"{traits.block_units} units a block, {shares}; {self.tiles} tile{'s' * (self.tiles > 1)} of "
            f"{traits.rows} rows in chunks of {traits.chunk}; {kernel.shared_bytes} bytes of shared memory, about "
            f"{registers_of(kernel)} registers, {kernel.weight_registers} of them weights; {_step(self.cost)}"
        )


@dataclass(frozen=True)
class Verdict:
    """A strategy for one direction: its kernel, None for step by step; its cost; why each other one is not taken."""

    strategy: str
    choice: Choice | None
    cost: Cost
    refused: Mapping[str, str]


@dataclass(frozen=True)
class Plan:
    """How a call is run. forward, backward: the sequence kernels, None for step by step.

    kept: dtype in which operands and gradients of products are kept for the products over all steps. Products of a
    step by cuBLAS and on tensor cores read it, too; multiply-adds read the working type. tf32: of float32 products.
    verdicts: by direction, what was found.
    """

    forward: Choice | None
    backward: Choice | None
    kept: np.dtype[Any]
    tf32: bool
    verdicts: Mapping[str, Verdict]

    def __str__(self) -> str:
        lines = []
        for direction, found in self.verdicts.items():
            step_by_step = f"a product of {self.kept.name} and a kernel a step; {_step(found.cost)}"
            lines.append(f"{direction}: {found.strategy}: {found.choice or step_by_step}")
            lines += [f"  not {strategy}: {reason}" for strategy, reason in found.refused.items()]
        return "\n".join(lines)


def _step(cost: Cost) -> str:
    return (
        f"{cost.flops} flops, {cost.bytes} bytes, {cost.exchanges} exchanges a step, "
        f"predicted {cost.seconds * 1e6:.2f} us a step"
    )


def choose(problem: Problem, properties: Properties) -> Plan:
    """The plan for a problem. Raises BackendError where RNN_GPU_STRATEGY names a strategy that cannot run it."""
    return plan_for(
        problem.cell,
        problem.dtype.name,
        max(problem.B, 1),
        problem.H,
        properties,
        strategy=asked_for(),
        save=problem.save,
        tf32=problem.tf32,
    )


def plan_for(
    cell: Cell,
    dtype: str,
    B: int,
    H: int,
    properties: Properties,
    *,
    strategy: str | None = None,
    save: bool = True,
    tf32: bool = False,
) -> Plan:
    """The plan for B rows and H hidden units; without `save` for forward alone; strategy: the one to take, or None.

    Raises ArgumentError for a strategy that does not exist, BackendError, saying why, for one that cannot run it.
    """
    directions = DIRECTIONS if save else DIRECTIONS[:1]
    found = {
        direction: verdict(cell, dtype, direction, B, H, properties, strategy=strategy, save=save, tf32=tf32)
        for direction in directions
    }
    return Plan(
        found["forward"].choice,
        found["backward"].choice if save else None,
        dtype_named(kept_of(cell, dtype, H)),
        tf32,
        found,
    )


@lru_cache(maxsize=4096)
def verdict(
    cell: Cell,
    dtype: str,
    direction: str,
    B: int,
    H: int,
    properties: Properties,
    *,
    strategy: str | None = None,
    save: bool = True,
    tf32: bool = False,
) -> Verdict:
    """The strategy for one direction. Raises as `plan_for` does."""
    kept = kept_of(cell, dtype, H)
    refused: dict[str, str] = {}
    choices: dict[str, Choice | None] = {}
    costs: dict[str, Cost] = {}
    for name in STRATEGIES[:-1]:
        choice = _best(cell, dtype, kept, direction, name, B, H, properties, save=save, tf32=tf32)
        if isinstance(choice, str):
            refused[name] = choice
        else:
            choices[name], costs[name] = choice, choice.cost
    choices["stepwise"] = None
    costs["stepwise"] = step_time.stepwise_cost(cell, direction, dtype, kept, B, H, properties, save=save, tf32=tf32)
    if strategy in refused:
        raise BackendError(f"strategy {strategy}, {direction}: {refused[strategy]}")
    taken = strategy or min(costs, key=lambda name: costs[name].seconds)
    for name, cost in costs.items():
        if name != taken:
            asked = "; another was asked for" if strategy else ""
            refused[name] = f"predicted {cost.seconds * 1e6:.2f} us a step{asked}"
    return Verdict(taken, choices[taken], costs[taken], {name: refused[name] for name in STRATEGIES if name in refused})


def samples(cell: Cell, dtype: str, properties: Properties) -> list[SequenceKernel | StepKernel]:
    """The kernels that the plan takes for a few sizes in every strategy that there is, each once."""
    found: dict[SequenceKernel | StepKernel, None] = {}
    for B, H in ((1, 128), (16, 128), (16, 512), (64, 1024)):
        kept = kept_of(cell, dtype, H)
        for direction in DIRECTIONS:
            for strategy in STRATEGIES[:-1]:
                for tf32 in (False, True) if dtype == "float32" else (False,):
                    choice = _best(cell, dtype, kept, direction, strategy, B, H, properties, save=True, tf32=tf32)
                    if isinstance(choice, Choice):
                        found[choice.kernel] = None
    segments = len(cell.stages) + 1, len(cell.program.backward_stages) + 1
    kept = kept_of(cell, dtype, SMALLEST_MMA)
    for direction, count in zip(DIRECTIONS, segments, strict=True):
        found |= {StepKernel(cell, dtype, direction, kept, segment): None for segment in range(count)}
    found |= {StepKernel(cell, dtype, "forward", kept, segment, replay=True): None for segment in range(segments[0])}
    return list(found)


def kept_of(cell: Cell, dtype: str, H: int) -> str:
    """The dtype that operands of recurrent products, and their gradients, are kept in."""
    if itemsize(dtype) != 2:
        return dtype
    return dtype if cell.stages and H >= SMALLEST_MMA else "float32"


@lru_cache(maxsize=4096)
def _best(
    cell: Cell,
    dtype: str,
    kept: str,
    direction: str,
    strategy: str,
    B: int,
    H: int,
    properties: Properties,
    *,
    save: bool,
    tf32: bool,
) -> Choice | str:
    """The fastest kernel of a strategy by the estimates, or why there is none."""
    if strategy == "cluster" and properties.max_cluster < 2:
        return f"{properties.name} ({properties.arch}) has no thread block clusters"
    if strategy == "grid" and not properties.cooperative:
        return f"{properties.name} cannot launch cooperatively"
    most = max(8, len(cell.input_gates), len(cell.recurrent_gates), len(cell.saved), len(cell.states))
    if B * H * most >= 1 << 31:  # 8: bytes of a number of dy
        return "a step has 2^31 numbers or more"
    real = "float64" if dtype == "float64" else "float32"
    products = [("fma", real)]  # on tensor cores only where that is faster
    if itemsize(kept) == 2 or (tf32 and cell.stages):
        products.append(("mma", kept))
    best: Choice | None = None
    reason = "no division of the work fits"
    every = (divisions(cell, read, kept, product, direction, strategy, B, H, properties) for product, read in products)
    for traits in chain.from_iterable(every):
        kernel = filled(SequenceKernel(cell, dtype, direction, traits), properties)
        if lacks := misfit(kernel, properties):
            reason = lacks
            continue
        tiles = -(-B // traits.rows)
        at_a_time = min(tiles, most_teams(strategy, traits.blocks, properties))
        teams = tiles if strategy == "block" else at_a_time
        cost = step_time.sequence_cost(kernel, B, H, at_a_time, properties, save=save)
        if best is None or cost.seconds < best.cost.seconds:
            best = Choice(kernel, tiles, teams, cost)
    return best or reason
