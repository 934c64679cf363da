"""The one place where a backend is chosen: what a backend is, the order of preference, and why not the others."""

from __future__ import annotations

import difflib
import importlib
import itertools
import os
import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from rnn_gpu.errors import ArgumentError, ArgumentTypeError, BackendError
from rnn_gpu.problem import Array, Gradients, Inputs, Problem

__all__ = [
    "BACKENDS", "ENVIRONMENT_VARIABLE", "Backend", "Direct", "Ends", "Explanation", "Result", "check_name", "explain",
    "select",
]  # fmt: skip

ENVIRONMENT_VARIABLE = "RNN_GPU_BACKEND"


class Result(NamedTuple):
    """What a backend's forward gives.

    y: (T, B, H) of the problem's dtype; last: a (B, H) a state, of its working type.
    saved: whatever this backend's backward needs, or None if the problem does not ask to save.
    """

    y: Array
    last: tuple[Array, ...]
    saved: Any


class Ends(NamedTuple):
    """Where the rows of a batch end. numbers, int64: their lengths (B,), from 1 to T, in any order.

    packed: they are the sizes of a packed batch, as torch's PackedSequence has it: the rows that run at each step (T,).
    x is (n_rows, I) then, y (n_rows, H), the states in the order of the rows, B the first of the sizes, and T that of
    the call.
    """

    packed: bool
    numbers: Array


class Direct(Protocol):
    """A problem's calls on addresses: of contiguous arrays of its dtype; 0 stands for None.

    ends: None where all rows run to the last step. resets: (T, B) bools, of a problem that has them, False at and after
    each row's end; none with a packed batch.
    """

    def kept_bytes(self, ends: Ends | None = None) -> int:
        """Bytes of the memory that the caller gives `forward` to write in, and `backward` to read what it needs."""

    def maker(self, shape: tuple[int, ...]) -> Callable[[], np.ndarray[Any, Any]]:
        """What makes arrays of that shape and the problem's dtype, yet to be written.

        The memory of large ones is kept from call to call.
        """

    def forward(
        self, weights: tuple[int, ...], x: int, y: int, states: tuple[int, ...], last: tuple[int, ...], kept: int,
        ends: Ends | None = None, resets: int = 0,
    ) -> None:  # fmt: skip
        """Run the sequence.

        weights: w_ih, w_hh, b_ih, b_hh. states, last: a (B, H) for each state, before and after.
        """

    def backward(
        self, weights: tuple[int, ...], x: int, dy: int, dlast: tuple[int, ...], gradients: tuple[int, ...],
        d_initial: tuple[int, ...], kept: int, ends: Ends | None = None, resets: int = 0,
    ) -> None:  # fmt: skip
        """Run it back.

        gradients: of x, 0 if it is not wanted, and of the weights. dlast, d_initial: a (B, H) for each state.
        """


class Backend(Protocol):
    """Runs problems. Arguments have been validated; a backend never falls back on another one."""

    name: str
    description: str
    device_kind: str
    """The kind of device whose arrays it takes: "cpu" or "cuda". Dispatch sees to it that it is given no others."""
    copies_host_arrays: bool
    """Whether, where it is asked for by name, it takes host arrays too: copies them to its device, and results back."""
    batch_invariant: bool
    """Whether a row's result is the same bits whichever other rows are in the batch."""
    uses_blas: bool
    """Whether it computes in the threads of NumPy's BLAS."""

    def unavailable(self) -> str | None:
        """Why this machine cannot run the backend at all, or None."""

    def devices(self) -> list[str]:
        """The devices it would run on, in words; empty where it is unavailable."""

    def refuses(self, problem: Problem) -> str | None:
        """Why the backend cannot run this problem, or None. Only asked where it is available, of arrays it takes."""

    def plan(self, problem: Problem) -> str | None:
        """How it would run a problem that it does not refuse, in lines for `explain`; None where there is no choice."""

    def forward(self, problem: Problem, inputs: Inputs) -> Result:
        """Run the sequence. Arrays of a result are of one library, here and in what follows."""

    def backward(
        self, problem: Problem, inputs: Inputs, saved: Any, dy: Array | None, dlast: tuple[Array | None, ...]
    ) -> Gradients:
        """Run it back. None stands for a gradient of zeros."""

    def direct(self, problem: Problem) -> Direct | None:
        """What runs the problem on addresses; None where nothing does."""

    def step(self, problem: Problem, inputs: Inputs) -> tuple[Array, ...]:
        """Run one step, T = 1, without lengths or resets, and return the new states."""


class _Backends(Mapping[str, Backend]):
    """Backends by name in the order of preference, each imported when it is first asked for."""

    def __init__(self, modules: Mapping[str, str]) -> None:
        self._modules = modules
        self._loaded: dict[str, Backend] = {}

    def __getitem__(self, name: str) -> Backend:
        loaded = self._loaded.get(name)
        if loaded is None:
            loaded = self._loaded[name] = importlib.import_module(self._modules[name]).BACKEND
        return loaded

    def __iter__(self) -> Iterator[str]:
        return iter(self._modules)

    def __len__(self) -> int:
        return len(self._modules)


BACKENDS: Mapping[str, Backend] = _Backends(
    {
        "cupy_raw": "rnn_gpu.kernels.cupy_raw",
        "numba_cuda": "rnn_gpu.kernels.numba_cuda",
        "numba_cpu": "rnn_gpu.kernels.numba_cpu",
        "numpy_cpu": "rnn_gpu.kernels.numpy_cpu",
    }
)


@dataclass(frozen=True, repr=False)
class Explanation:
    """Which backend runs a call, and why the others do not.

    chosen: its name, or None if none can.
    asked_for: the backend named by argument or environment variable, or None.
    reasons: by backend in the order of preference, why it cannot run the call, or None if it can.
    plan: how the chosen one runs it, in words, where it has a choice.
    """

    problem: Problem
    chosen: str | None
    asked_for: str | None
    reasons: Mapping[str, str | None]
    plan: str | None = None

    def __repr__(self) -> str:
        width = max(map(len, self.reasons))
        lines = [str(self.problem)]
        for name, reason in self.reasons.items():
            if name == self.chosen:
                verdict = "runs this call" + (", as asked for" if self.asked_for else "")
            else:
                verdict = reason or ("could; another was asked for" if self.asked_for else "could; comes later")
            lines.append(f"  {name:{width}}  {verdict}")
            if name == self.chosen and self.plan:
                lines.append(textwrap.indent(self.plan, " " * (width + 4)))
        return "\n".join(lines)


def explain(problem: Problem, backend: str | None) -> Explanation:
    """Say which backend runs the problem. Raises ArgumentError for a backend that does not exist."""
    asked_for = _asked_for(backend)
    reasons = {name: _reason(BACKENDS[name], problem, asked_for) for name in BACKENDS}
    candidates = [asked_for] if asked_for else list(BACKENDS)
    chosen = next((name for name in candidates if reasons[name] is None), None)
    plan = None if chosen is None else BACKENDS[chosen].plan(problem)
    return Explanation(problem, chosen, asked_for, reasons, plan)


def select(problem: Problem, backend: str | None) -> Backend:
    """Return the backend that was asked for, else the first that can run the problem.

    Raises ArgumentError for a backend that does not exist, BackendError, saying why, where one named cannot run the
    problem, or none can.
    """
    asked_for = _asked_for(backend)
    for name in (asked_for,) if asked_for else _names_for(problem):
        candidate = BACKENDS[name]
        if _takes(candidate, problem, asked_for) and _cannot(candidate, problem) is None:
            return candidate
    names = (asked_for,) if asked_for else BACKENDS
    listed = "; ".join(f"{name}: {_reason(BACKENDS[name], problem, asked_for)}" for name in names)
    raise BackendError(f"cannot run {problem}. {listed}")


def _names_for(problem: Problem) -> tuple[str, ...]:
    """The backends from the first on that takes the problem's arrays, found once; the later ones are not yet asked."""
    found: tuple[str, ...] | None = problem.memo.get("backends")
    if found is None:
        found = tuple(itertools.dropwhile(lambda name: not _takes(BACKENDS[name], problem, None), BACKENDS))
        problem.memo["backends"] = found
    return found


def _asked_for(backend: str | None) -> str | None:
    source = "backend"
    if backend is None:
        backend, source = os.environ.get(ENVIRONMENT_VARIABLE) or None, ENVIRONMENT_VARIABLE
    check_name(backend, source)
    return backend


def check_name(backend: object, argument: str = "backend") -> None:
    """Raise ArgumentTypeError or ArgumentError, with the argument's name, where it is neither None nor a backend's."""
    if backend is not None and not isinstance(backend, str):
        raise ArgumentTypeError(argument, "the name of a backend", repr(backend))
    if backend is not None and backend not in BACKENDS:
        near = difflib.get_close_matches(backend, BACKENDS, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise ArgumentError(argument, f"one of {', '.join(BACKENDS)}", f"{backend!r}{hint}")


def _reason(backend: Backend, problem: Problem, asked_for: str | None) -> str | None:
    if not _takes(backend, problem, asked_for):  # first, as it imports nothing
        return f"x is a {problem.library}; this backend takes {_TAKES[backend.device_kind]}"
    return _cannot(backend, problem)


def _cannot(backend: Backend, problem: Problem) -> str | None:
    """Why a backend cannot run a problem whose arrays it takes, or None."""
    return backend.unavailable() or backend.refuses(problem)


def _takes(backend: Backend, problem: Problem, asked_for: str | None) -> bool:
    """Whether x lies where the backend takes it from."""
    kind = problem.library.kind
    return kind == backend.device_kind or (kind == "cpu" and backend.copies_host_arrays and asked_for == backend.name)


_TAKES = {"cpu": "host arrays", "cuda": "arrays on a CUDA device"}
