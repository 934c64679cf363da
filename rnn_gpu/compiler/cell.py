"""A recurrent cell, ready for every backend."""

from __future__ import annotations

import hashlib
import importlib
import operator
import pickle
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import FunctionType
from typing import Any

from rnn_gpu.compiler import emit_cuda, emit_python, program
from rnn_gpu.compiler.graph import Traced
from rnn_gpu.errors import ArgumentError

__all__ = ["Cell"]

_building = threading.Lock()
"""Held while a program is built, as that adds nodes and names to the cell's graph."""


@dataclass(frozen=True, eq=False)
class Cell:
    """A recurrent cell: made by `rnn_gpu.compiler.language.cell`, run by every backend.

    name, doc: of the function that was decorated.
    forget: the gate whose bias starts at 1 in Keras' initialisation, if any.
    vector_ranges: for each per-unit vector the range it is initialised in, or None for the scheme's own.
    text: the function itself, for variants of the cell.

    A cell is never copied: copies and what is unpickled are the very cell, which must be a global of its module.
    """

    name: str
    doc: str
    traced: Traced
    forget: str | None
    vector_ranges: Mapping[str, tuple[float, float] | None]
    text: FunctionType

    @property
    def gates(self) -> tuple[str, ...]:
        """Names of the gates, in the order of their blocks."""
        return self.traced.gates

    @property
    def states(self) -> tuple[str, ...]:
        """Names of the states; the first is the output."""
        return self.traced.states

    @property
    def vectors(self) -> tuple[str, ...]:
        """Names of the per-unit vectors."""
        return self.traced.vectors

    @cached_property
    def input_gates(self) -> tuple[str, ...]:
        """The gates with a block in w_ih and b_ih."""
        return tuple(self.traced.leaves("input"))

    @cached_property
    def recurrent_gates(self) -> tuple[str, ...]:
        """The gates with a block in w_hh and b_hh."""
        return tuple(self.traced.leaves("recurrent"))

    @cached_property
    def program(self) -> program.Program:
        """Forward and derived backward computation, cut into stages."""
        with _building:
            return program.build(self.name, self.traced)

    @property
    def stages(self) -> tuple[tuple[str, ...], ...]:
        """The gates of each stage, in the order in which the stages run."""
        return tuple(stage.gates for stage in self.traced.stages)

    @property
    def saved(self) -> tuple[str, ...]:
        """Names of what the forward pass keeps for the backward pass, beyond the states."""
        return tuple(map(self.program.name, self.program.derived.saved))

    def source(self, language: str) -> str:
        """The fused step and its derivative as source text, "python" or "cuda" (C++).

        Raises ArgumentError for any other language.
        """
        match language:
            case "python":
                return emit_python.source(self.name, self.doc, self.program)
            case "cuda":
                return emit_cuda.source(self.name, self.doc, self.program)
        raise ArgumentError("language", "'python' or 'cuda'", repr(language))

    @cached_property
    def digest(self) -> str:
        """Hexadecimal SHA-256 of all emitted source but the docstring: different for cells that compute otherwise."""
        texts = (emit.source(self.name, "", self.program) for emit in (emit_python, emit_cuda))
        return hashlib.sha256("".join(texts).encode()).hexdigest()

    def __copy__(self) -> Cell:
        return self

    def __deepcopy__(self, memo: object) -> Cell:
        return self

    def __reduce__(self) -> tuple[Callable[[str, str], Cell], tuple[str, str]]:
        """Pickled as functions are, by the name that it has in its module: what is loaded is that very cell."""
        place = self.text.__module__, self.text.__qualname__
        try:
            found = _global(*place)
        except (ImportError, AttributeError):
            found = None
        if found is not self:
            raise pickle.PicklingError(f"cell {self.name} cannot be pickled: it is not {place[1]} of module {place[0]}")
        return _global, place

    def __repr__(self) -> str:
        return f"<cell {self.name}: gates {' '.join(self.gates)}, states {' '.join(self.states)}>"


def _global(module: str, name: str) -> Any:
    """The object of that name in a module."""
    return operator.attrgetter(name)(importlib.import_module(module))
