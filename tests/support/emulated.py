"""Calls of the GPU backend on an emulated device, with its strategies forced and tuning numbers chosen for tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from rnn_gpu.kernels.cupy_raw import plan
from rnn_gpu.kernels.cupy_raw.backend import CudaBackend
from rnn_gpu.kernels.cupy_raw.device import Properties
from rnn_gpu.kernels.cupy_raw.plan import Choice, Plan
from rnn_gpu.kernels.cupy_raw.source import step_kernels
from rnn_gpu.kernels.cupy_raw.step_time import Cost
from rnn_gpu.kernels.cupy_raw.traits import DIRECTIONS, SequenceKernel, Traits
from rnn_gpu.problem import Problem, describe, describe_gradients
from support.calls import Call, named_gradients
from support.cuda_emulation import EmulatedDevice, ready

__all__ = ["FMA", "MMA", "awkward", "backend", "run", "stepwise"]

NOTHING = Cost(0, 0, 0, 0.0)

FMA = ("block", "cluster", "grid", "stepwise")
"""Strategies, with products in the working type."""

MMA = ("block", "block_splits", "cluster", "grid_splits")
"""Strategies on tensor cores; with splits, warps share columns."""


def awkward(strategy: str, product: str, dtype: str) -> Traits:
    """Numbers that test everything for H up to 11: several tiles, chunks, warps and blocks, weights in both places.

    product: "fma", "mma", or "fma_kept", multiply-adds that keep 16-bit numbers for the products over all steps.
    """
    name, _, splits = strategy.partition("_")
    blocks = 1 if name == "block" else 2
    if product != "mma":
        real = "float64" if dtype == "float64" else "float32"
        kept = dtype if product == "fma_kept" else real
        if name == "cluster":
            return Traits(name, "fma", real, kept, 64, blocks, 64, 16, 1, 2, 4, 2, 1)
        if name == "grid":
            return Traits(name, "fma", real, kept, 64, blocks, 64, 8, 1, 1, 4, 2, 1)
        return Traits(name, "fma", real, kept, 16, blocks, 64, 4, 1, 1, 4, 2, 1)
    share = 2 if splits else 1
    span = (16 if dtype == "float32" else 32) * share
    octets = 2 if name == "block" and splits else 1
    warps = share if blocks == 2 or octets == 2 else 2 * share
    chunk = 16 if name == "grid" else 8
    return Traits(name, "mma", dtype, dtype, span, blocks, 32 * warps, 4, share, octets, 16, chunk, 1 if splits else 0)


def awkward_plan(strategy: str, product: str) -> Callable[[Problem, Properties], Plan]:
    """Plans with these numbers."""

    def plan_of(problem: Problem, properties: Properties) -> Plan:
        dtype = problem.dtype.name
        traits = awkward(strategy, product, dtype)
        kept = problem.real if product == "fma" else problem.dtype
        choices = []
        for direction in DIRECTIONS:
            kernel = SequenceKernel(problem.cell, dtype, direction, traits)
            tiles = max(1, -(-problem.B // traits.rows))
            choices.append(Choice(kernel, tiles, min(2, tiles) if traits.strategy == "grid" else tiles, NOTHING))
        flags = {"lengths": problem.has_lengths, "resets": problem.has_resets}
        keeps = (1 if problem.recompute else 2) if problem.save else 0
        ready([choice.kernel.of_call(**flags, keeps=keeps) for choice in choices])
        tf32 = product == "mma" and dtype == "float32"
        return Plan(choices[0], choices[1], kept, tf32, {})

    return plan_of


def stepwise(product: str) -> Callable[[Problem, Properties], Plan]:
    """Plans for a kernel and a product a step, with products that round as tensor cores do where `product` is "mma"."""

    def plan_of(problem: Problem, properties: Properties) -> Plan:
        kept = problem.real if product == "fma" else problem.dtype
        ready(step_kernels(problem.cell, problem.dtype.name, kept.name))
        return Plan(None, None, kept, product == "mma" and problem.dtype == np.float32, {})

    return plan_of


def backend(
    plan_of: Callable[[Problem, Properties], Plan] = plan.choose, device: EmulatedDevice | None = None
) -> CudaBackend:
    """The backend on an emulated device."""
    emulated = device or EmulatedDevice()
    return CudaBackend(lambda library: emulated, lambda: None, lambda: [emulated.properties.name], plan_of)


def run(
    call: Call,
    plan_of: Callable[[Problem, Properties], Plan],
    device: EmulatedDevice | None = None,
    *,
    recompute: bool = False,
    tf32: bool = False,
) -> dict[str, Any]:
    """The call's results by name, forward and backward."""
    ours = backend(plan_of, device)
    problem, inputs = describe(
        call.cell,
        call.x,
        call.weights,
        initial=call.initial,
        lengths=call.lengths,
        resets=call.resets,
        reverse=call.reverse,
        recompute=recompute,
        tf32=tf32,
    )
    y, last, saved = ours.forward(problem, inputs)
    gradients = ours.backward(problem, inputs, saved, *describe_gradients(problem, call.dy, call.dlast))
    ends = {f"last_{state}": array for state, array in zip(call.cell.states, last, strict=True)}
    return {"y": y} | ends | named_gradients(call.cell, gradients)
