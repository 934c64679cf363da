"""The parameters of one recurrent layer, as plain arrays of any library."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from rnn_gpu.arrays import copied
from rnn_gpu.errors import ArgumentError

__all__ = ["FIELDS", "Weights"]

FIELDS = ("w_ih", "w_hh", "b_ih", "b_hh")
"""The fields that are arrays."""

Array = Any
"""An array of any supported library: NumPy, CuPy, a Numba device array or a torch tensor."""


@dataclass(frozen=True, eq=False, repr=False)
class Weights:
    """The parameters of one layer and direction of a recurrent net.

    Gates lie in the order that the cell declares them (lstm: i f g o; gru: r z n), one block of H rows a gate.

    w_ih: (G*H, I) input weights, a block for each gate of `cell.input_gates`; None if x is given already projected,
        (T, B, G*H), or if the cell has no input product.
    w_hh: (S*H, H) recurrent weights, a block for each gate of `cell.recurrent_gates`; None if the cell has none.
        For nearly every cell all gates are both, and S = G.
    b_ih: (G*H,) or None; b_hh: (S*H,) or None.
    vectors: per-unit vectors by name, each (H,): peepholes, IndRNN's recurrent weight.
    prepared: forms that backends have made of frozen weights, see `frozen`; None for weights that may change.
    """

    w_ih: Array | None
    w_hh: Array | None
    b_ih: Array | None = None
    b_hh: Array | None = None
    vectors: Mapping[str, Array] = field(default_factory=dict)
    prepared: dict[Any, Any] | None = None

    def items(self) -> Iterator[tuple[str, Array]]:
        """Yield (name, array) of every parameter there is: the fields by their names, then the vectors by theirs."""
        for name in FIELDS:
            array = getattr(self, name)
            if array is not None:
                yield name, array
        yield from self.vectors.items()

    def map(self, function: Callable[[Array], Array]) -> Weights:
        """Return Weights of `function(array)` for each array there is."""

        given = (self.w_ih, self.w_hh, self.b_ih, self.b_hh)
        w_ih, w_hh, b_ih, b_hh = [None if array is None else function(array) for array in given]
        return Weights(w_ih, w_hh, b_ih, b_hh, {name: function(array) for name, array in self.vectors.items()})

    def frozen(self) -> Weights:
        """Return a copy that cannot change, for streaming: what a backend makes of it is made once and kept with it.

        NumPy arrays in it are read-only; arrays of other libraries must be left as they are.
        """

        def unchanging(array: Array) -> Array:
            if isinstance(array, np.ndarray):
                own = np.array(array)
                own.setflags(write=False)
                return own
            return copied(array)

        return replace(self.map(unchanging), prepared={})

    @staticmethod
    def of(arrays: Mapping[str, Array], vectors: Iterable[str] | None = None) -> Weights:
        """The reverse of `items`: Weights from arrays by name, as a file has them.

        vectors: the names of the cell's per-unit vectors, `cell.vectors`; by default every name that is no field's.

        Raises ArgumentError for a name that is neither a field's nor a vector's, and for a vector that is not there.
        """
        others = [name for name in arrays if name not in FIELDS]
        if vectors is None:
            vectors = others
        else:
            vectors = tuple(vectors)
            if set(others) != set(vectors):
                expected = f"{', '.join(FIELDS)} as far as there are any, and {', '.join(vectors) or 'nothing else'}"
                raise ArgumentError("arrays", expected, ", ".join(arrays) or "none")
        w_ih, w_hh, b_ih, b_hh = [arrays.get(name) for name in FIELDS]
        return Weights(w_ih, w_hh, b_ih, b_hh, {name: arrays[name] for name in vectors})

    def __repr__(self) -> str:
        return f"Weights({', '.join(f'{name}: {_described(array)}' for name, array in self.items())})"


def _described(array: Array) -> str:
    """An array's dtype and shape, whatever it is: weights are checked where they are used."""
    return f"{getattr(array, 'dtype', type(array).__name__)} {tuple(getattr(array, 'shape', ()))}"
