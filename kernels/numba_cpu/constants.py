"""Those of a kernel's many arguments that follow from the problem and the shares: written once, whoever calls it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rnn_gpu.kernels.numba_cpu.layout import Layout
from rnn_gpu.kernels.numba_cpu.marshal import Later
from rnn_gpu.kernels.numba_cpu.plan import Plan
from rnn_gpu.kernels.numba_cpu.shares import Share
from rnn_gpu.kernels.numba_cpu.team import ALONE

__all__ = ["constant_arguments", "layout_arguments"]


def constant_arguments(plan: Plan, names: Mapping[str, str]) -> dict[str, Any]:
    """Those of a kernel's arguments, of the given names, that follow from the problem. The team is but ALONE."""
    problem = plan.problem
    found = {
        "gates": plan.blocks.gates, "stages": plan.blocks.stages, "projected": problem.projected,
        "reverse": problem.reverse, "resets": Later(problem.T * problem.B if problem.has_resets else 0),
        "after": Later(0), "values": Later(0), "n_states": plan.n_states, "n_saved": plan.n_saved,
        "n_gates": plan.n_gates, "I": problem.I, "H": problem.H, "H_p": plan.sizes.H_p, "alone": ALONE, "team": ALONE,
    }  # fmt: skip
    return {name: value for name, value in found.items() if name in names}


def layout_arguments(plan: Plan, layout: Layout, share: Share) -> dict[str, Any]:
    """Those that every kernel has, and that also follow from the layout and the share. x: its size."""
    return {
        "x": Later(layout.n_given * plan.problem.I), "order": layout.order, "active": layout.active,
        "start": layout.start, "begins": layout.begins, "offsets": share.offsets, "cuts": share.cuts,
        "by_units": share.by_units,
    }  # fmt: skip
