"""One call, described and validated. All validation of arguments lives here.

Axis letters, everywhere in the package: T time steps, B batch rows, I inputs, H hidden units, G gates with an input
product, S gates with a recurrent product (S = G for most cells).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import Any, NamedTuple

import numpy as np

from rnn_gpu.arrays import DTYPES, ArrayLibrary, dtype_name, dtype_named, library_of, looks, name_of, on_host
from rnn_gpu.compiler.cell import Cell
from rnn_gpu.errors import ArgumentError, ArgumentTypeError
from rnn_gpu.recent import Recent
from rnn_gpu.resets import within
from rnn_gpu.weights.core import FIELDS, Weights

__all__ = [
    "Gradients", "Inputs", "Problem", "describe", "describe_gradients", "forget", "known", "remember", "reset",
    "resets_of_step",
]  # fmt: skip

Array = Any


@dataclass(frozen=True)
class Problem:
    """What a call asks for, without its arrays.

    dtype: of x, the weights, y and their gradients.
    real: the working type, that of the states and their gradients: float32 where dtype has 16 bits, else dtype.
    projected: x is W x_t already, (T, B, G*H), and there is no w_ih.
    save: keep what backward needs; recompute: keep only the states, and rebuild the rest in backward.
    tf32: products of float32 may round their operands to TF32; never set for other dtypes.
    """

    cell: Cell
    T: int
    B: int
    I: int
    H: int
    dtype: np.dtype[Any]
    real: np.dtype[Any]
    projected: bool
    has_b_ih: bool
    has_b_hh: bool
    has_initial: bool
    has_lengths: bool
    has_resets: bool
    reverse: bool
    save: bool
    recompute: bool
    library: ArrayLibrary
    tf32: bool = False
    memo: dict[Any, Any] = field(default_factory=dict, compare=False, repr=False)
    """What dispatch and backends have found out about the problem: equal problems are one object."""

    def __str__(self) -> str:
        options = [name for name in ("projected", "reverse", "save", "recompute", "tf32") if getattr(self, name)]
        options += [
            name.removeprefix("has_") for name in ("has_initial", "has_lengths", "has_resets") if getattr(self, name)
        ]
        return f"{self.cell.name}, T={self.T} B={self.B} I={self.I} H={self.H}, {self.dtype.name}, {self.library}" + (
            f", {', '.join(options)}" if options else ""
        )


class Inputs(NamedTuple):
    """The arrays of a call, as the kernels take them.

    x: (T, B, I), or (T, B, G*H) if projected; initial: a (B, H) a state, or None for zeros.
    lengths: (B,) int64 NumPy array or None.
    resets: (T, B) bool or None: a NumPy array, False at and after each row's end; or, where they were given on x's
        GPU, the caller's array as it is, to be ignored at and after each row's end.
    """

    x: Array
    weights: Weights
    initial: tuple[Array, ...] | None
    lengths: np.ndarray[Any, Any] | None
    resets: Array | None


class Gradients(NamedTuple):
    """The loss's gradients: x (T, B, I); weights, None where a weight was None; initial, a (B, H) for each state."""

    x: Array
    weights: Weights
    initial: tuple[Array, ...]


def describe(
    cell: object,
    x: Array,
    weights: object,
    *,
    initial: object = None,
    lengths: object = None,
    resets: object = None,
    reverse: object = False,
    save: object = True,
    recompute: object = False,
    tf32: object = False,
    x_name: str = "x",
    initial_name: str = "initial",
    state_names: Sequence[str] | None = None,
    x_is_given: bool = True,
) -> tuple[Problem, Inputs]:
    """Validate a forward call and return its description and its arrays.

    x_name, initial_name, state_names: what the caller calls x, the initial states and each of them, for error messages;
        x_is_given: whether x is the caller's, and so may be what is wrong where it and the weights do not fit.
    Raises ArgumentTypeError for arguments of a wrong kind, ArgumentError for wrong shapes, dtypes and values.
    """
    key = _key(cell, x, weights, initial, (reverse, save, recompute, tf32, lengths is None, resets is None))
    found = _known.get(key) if key is not None else None
    if found is not None:
        inputs = _viewed(found, x, weights, initial)  # type: ignore[arg-type]  # as the key says
        if lengths is resets is None:
            return found, inputs
        row_ends, row_starts = _ends_and_starts(lengths, resets, found.T, found.B, found.library)
        return found, inputs._replace(lengths=row_ends, resets=row_starts)
    if not isinstance(cell, Cell):
        raise ArgumentTypeError("cell", "a cell, such as rnn_gpu.cells.lstm", _kind(cell))
    if not isinstance(weights, Weights):
        raise ArgumentTypeError("weights", "rnn_gpu.Weights", _kind(weights))
    for name, flag in (("reverse", reverse), ("save", save), ("recompute", recompute), ("tf32", tf32)):
        if not isinstance(flag, bool | np.bool_):
            raise ArgumentTypeError(name, "a bool", _kind(flag))
    library = library_of(x_name, x)
    if len(x.shape) != 3:
        raise ArgumentError(x_name, "a (T, B, I) array", f"shape {tuple(x.shape)}")
    if dtype_name(x) not in DTYPES:
        raise ArgumentError(x_name, f"dtype {_either(DTYPES)}", dtype_name(x))
    dtype = dtype_named(dtype_name(x))
    real = np.dtype(np.float32) if dtype.itemsize == 2 else dtype
    n_steps, n_rows, n_inputs = x.shape
    x = library.view(x)
    weights, hidden = _weights(cell, weights, x, x_name, name_of(dtype), library, x_is_given)

    names = state_names or _numbered(initial_name, cell)
    states = _states(initial, initial_name, names, (n_rows, hidden), (name_of(real), name_of(dtype)), library)
    if states is not None and any(state is None for state in states):
        given = any(state is not None for state in states)
        shape = (n_rows, hidden)
        states = tuple(library.zeros(shape, real) if s is None else s for s in states) if given else None
    row_ends, row_starts = _ends_and_starts(lengths, resets, n_steps, n_rows, library)
    problem = _problem(
        cell,
        n_steps,
        n_rows,
        n_inputs,
        hidden,
        dtype,
        real,
        projected=weights.w_ih is None,
        has_b_ih=weights.b_ih is not None,
        has_b_hh=weights.b_hh is not None,
        has_initial=states is not None,
        has_lengths=row_ends is not None,
        has_resets=row_starts is not None,
        reverse=bool(reverse),
        save=bool(save),
        recompute=bool(save and recompute),
        library=library,
        tf32=bool(tf32) and dtype.name == "float32",
    )
    if key is not None:
        remember(key, problem)
    return problem, Inputs(x, weights, states, row_ends, row_starts)


MOST_KNOWN = 1024
"""Problems that are remembered, and twice as many calls; those that came first go first."""

_known: Recent[Any, Any] = Recent(2 * MOST_KNOWN)
"""Problems of calls that were found right, and what callers make of them, by all that the arguments were judged by."""

_problem = lru_cache(maxsize=MOST_KNOWN)(Problem)


def known(key: object) -> Any:
    """What was remembered by that key, or None."""
    return _known.get(key)


def remember(key: object, value: Any) -> Any:
    """Remember what follows from all that a call's arguments are judged by, its key, and return it."""
    return _known.add(key, value)


def forget() -> None:
    """Forget all problems and what has been found out about them, after a change of their tuning numbers."""
    _known.clear()
    _problem.cache_clear()


def _key(cell: object, x: object, weights: object, initial: object, flags: tuple[object, ...]) -> object:
    """All that `describe` judges these arguments by, or None if they may be other than plain arrays and flags.

    It is made so that arguments of one key are right together or wrong together.
    """
    if type(cell) is not Cell or type(weights) is not Weights or x is None:
        return None
    for flag in flags:
        if type(flag) is not bool:
            return None
    arrays = [x]
    if initial is not None:
        if type(initial) is not tuple:
            return None
        for state in initial:
            if state is None:
                return None
            arrays.append(state)
    of_weights = _weights_key(weights) if weights.prepared is None else _kept_weights_key(weights, weights.prepared)
    others = looks(arrays)
    if of_weights is None or others is None:
        return None
    return (cell, flags, of_weights, initial is None, *others)


def _weights_key(weights: Weights) -> tuple[object, ...] | None:
    """What `_key` knows of the weights."""
    if type(weights.vectors) is not dict:
        return None
    seen = looks((weights.w_ih, weights.w_hh, weights.b_ih, weights.b_hh, *weights.vectors.values()))
    return None if seen is None else (*weights.vectors, *seen)


def _kept_weights_key(weights: Weights, prepared: dict[Any, Any]) -> tuple[object, ...] | None:
    """The same of frozen weights, found once."""
    if "key" not in prepared:
        prepared["key"] = _weights_key(weights)
    found: tuple[object, ...] | None = prepared["key"]
    return found


def _viewed(problem: Problem, x: Array, weights: Weights, initial: tuple[Array, ...] | None) -> Inputs:
    """The arrays of a call that is known to be right, as the kernels take them."""
    library = problem.library
    if library.name == "numpy" or library.kind == "cuda":
        return Inputs(x, weights, initial, None, None)
    view = library.view
    if weights.prepared is None:
        weights = weights.map(view)
    else:
        weights, _ = _weights(problem.cell, weights, x, "x", name_of(problem.dtype), library)
    return Inputs(view(x), weights, None if initial is None else tuple(map(view, initial)), None, None)


def describe_gradients(
    problem: Problem, dy: object, dlast: object, *, state_names: Sequence[str] | None = None
) -> tuple[Array | None, tuple[Array | None, ...]]:
    """Validate backward's arguments: dy (T, B, H) or None; dlast a tuple with (B, H) or None for each state, or None.

    Raises ArgumentTypeError and ArgumentError as `describe` does, also where neither dy nor any dlast is given.
    """
    if not problem.save:
        raise ArgumentError("tape", "that of a forward call with save=True", "one of a call with save=False")
    seen = looks((dy,)) if dlast is None else None
    key = None if seen is None else ("dy", *seen)
    if key in problem.memo:
        return problem.library.view(dy), (None,) * len(problem.cell.states)
    dtypes = (name_of(problem.dtype), name_of(problem.real))
    names = state_names or _numbered("dlast", problem.cell)
    if dy is not None:
        dy = _array("dy", dy, (problem.T, problem.B, problem.H), dtypes, problem.library)
    states = _states(dlast, "dlast", names, (problem.B, problem.H), dtypes, problem.library)
    states = states or (None,) * len(problem.cell.states)
    if dy is None and all(state is None for state in states):
        raise ArgumentError("dy", "the gradient of y, or of a last state", "neither")
    if key is not None:
        problem.memo[key] = True
    return dy, states


def _weights(
    cell: Cell,
    weights: Weights,
    x: Array,
    x_name: str,
    dtype: str,
    library: ArrayLibrary,
    x_is_given: bool = True,
) -> tuple[Weights, int]:
    """The weights as the kernels take them, and H. For frozen weights, what was found the first time."""
    if weights.prepared is None:
        return _checked_weights(cell, weights, x, x_name, dtype, library, x_is_given)
    key = (cell, x.shape[2], dtype, library)
    if key not in weights.prepared:
        weights.prepared[key] = _checked_weights(cell, weights, x, x_name, dtype, library, x_is_given)
    found: tuple[Weights, int] = weights.prepared[key]
    return found


def _checked_weights(
    cell: Cell, weights: Weights, x: Array, x_name: str, dtype: str, library: ArrayLibrary, x_is_given: bool
) -> tuple[Weights, int]:
    if not isinstance(weights.vectors, Mapping):
        raise ArgumentTypeError("vectors", "a mapping of arrays by name", _kind(weights.vectors))
    for name, needed in (("w_ih", False), ("w_hh", bool(cell.recurrent_gates))):
        if needed and getattr(weights, name) is None:
            raise ArgumentError(name, f"an array, as cell {cell.name} has recurrent products", "None")
    for name in ("w_hh", "b_hh"):
        if not cell.recurrent_gates and getattr(weights, name) is not None:
            raise ArgumentError(name, f"None, as cell {cell.name} has no recurrent products", "an array")
    if set(weights.vectors) != set(cell.vectors):
        raise ArgumentError(
            "vectors", f"those of cell {cell.name} ({_listed(cell.vectors)})", _listed(sorted(weights.vectors))
        )
    hidden = _hidden_size(cell, weights, x, x_name)
    n_gates, n_recurrent = len(cell.input_gates), len(cell.recurrent_gates)
    if weights.w_ih is None and x.shape[2] != n_gates * hidden:
        raise _wrong_product(x_name, x, f"{n_gates * hidden}", " as w_ih is None")
    shapes = {
        "w_hh": (n_recurrent * hidden, hidden),  # first: it gave H, so that it is to blame where it is wrong itself
        "w_ih": (n_gates * hidden, x.shape[2]),
        "b_ih": (n_gates * hidden,),
        "b_hh": (n_recurrent * hidden,),
    } | dict.fromkeys(cell.vectors, (hidden,))
    given = dict(weights.items())
    arrays = {name: _in_place(name, given[name], library) for name in shapes if name in given}
    if x_is_given:
        _blame_x(arrays, x, x_name, dtype, n_gates * hidden)
    w_hh = arrays.get("w_hh")
    if w_hh is not None and w_hh.shape[0] != n_recurrent * hidden and w_hh.shape[0] % hidden == 0:
        gates = _listed(cell.recurrent_gates)
        expected = f"shape {shapes['w_hh']}, a block for each gate of cell {cell.name} ({gates})"
        raise ArgumentError("w_hh", expected, f"shape {tuple(w_hh.shape)}")
    checked = {
        name: _array(name, arrays[name], shape, (dtype,), library) for name, shape in shapes.items() if name in arrays
    }
    vectors = {name: checked[name] for name in cell.vectors}
    w_ih, w_hh, b_ih, b_hh = [checked.get(name) for name in FIELDS]
    return Weights(w_ih, w_hh, b_ih, b_hh, vectors, weights.prepared), hidden


def _blame_x(arrays: Mapping[str, Array], x: Array, x_name: str, dtype: str, rows: int) -> None:
    """Raise ArgumentError for an x that weights, right in themselves, do not fit; rows: those of w_ih."""
    dtypes = {dtype_name(array) for array in arrays.values()}
    if len(arrays) > 1 and len(dtypes) == 1 and dtype not in dtypes and dtypes <= set(DTYPES):
        raise ArgumentError(x_name, f"dtype {dtypes.pop()} as the weights are", dtype)
    shape = tuple(arrays["w_ih"].shape) if "w_ih" in arrays else ()
    if len(shape) == 2 and shape[0] == rows and shape[1] != x.shape[2]:
        n_added = 1 if x_name == "x_t" else 0
        axes = ", ".join(["T", "B", str(shape[1])][n_added:])
        raise ArgumentError(x_name, f"shape ({axes}) as w_ih has shape {shape}", f"shape {tuple(x.shape[n_added:])}")


def _hidden_size(cell: Cell, weights: Weights, x: Array, x_name: str) -> int:
    """H, from the one array that tells it for sure."""
    gates, recurrent = len(cell.input_gates), len(cell.recurrent_gates)
    if weights.w_hh is not None:
        name, array, axis, blocks, shape = "w_hh", weights.w_hh, 1, 1, f"({recurrent}*H, H)"
        given = tuple(getattr(array, "shape", ()))
        if len(given) == 2 and recurrent > 1 and given[1] == recurrent * given[0] > 0:
            raise ArgumentError(name, f"shape {shape} = {given[::-1]}", f"its transpose, of shape {given}")
    elif cell.vectors:
        name, array, axis, blocks, shape = cell.vectors[0], weights.vectors[cell.vectors[0]], 0, 1, "(H,)"
    elif weights.w_ih is not None:
        name, array, axis, blocks, shape = "w_ih", weights.w_ih, 0, gates, f"({gates}*H, I)"
    elif x.shape[2] < gates or x.shape[2] % gates:
        raise _wrong_product(x_name, x, f"{gates}*H", ", H at least 1")
    else:
        return int(x.shape[2]) // gates
    library_of(name, array)
    if len(array.shape) <= axis or array.shape[axis] < blocks or array.shape[axis] % blocks:
        raise ArgumentError(name, f"shape {shape}, H at least 1", f"shape {tuple(array.shape)}")
    return int(array.shape[axis]) // blocks


def _wrong_product(x_name: str, x: Array, columns: str, why: str) -> ArgumentError:
    """The error for a W x_t (T, B, columns) of another shape; that of a step, x_t, has no axis T for the caller."""
    n_added = 1 if x_name == "x_t" else 0
    axes = ", ".join(["T", "B", columns][n_added:])
    return ArgumentError(x_name, f"W x_t of shape ({axes}){why}", f"shape {tuple(x.shape[n_added:])}")


def _array(name: str, array: Array, shape: tuple[int, ...], dtypes: tuple[str, ...], library: ArrayLibrary) -> Array:
    array = _in_place(name, array, library)
    if tuple(array.shape) != shape:
        raise ArgumentError(name, f"shape {shape}", f"shape {tuple(array.shape)}")
    if dtype_name(array) not in dtypes:
        raise ArgumentError(name, f"dtype {_either(sorted(set(dtypes)))} as x is", dtype_name(array))
    return library.view(array)


def _in_place(name: str, array: Array, library: ArrayLibrary) -> Array:
    """`array`, if it is of x's library and on its device."""
    own = library_of(name, array)
    if own is not library and (own.name, own.device) != (library.name, library.device):
        raise ArgumentTypeError(name, f"a {library} as x is", f"a {own}")
    return array


def _states(
    states: object,
    argument: str,
    names: Sequence[str],
    shape: tuple[int, int],
    dtypes: tuple[str, ...],
    library: ArrayLibrary,
) -> tuple[Array | None, ...] | None:
    if states is None:
        return None
    if not isinstance(states, tuple | list):
        raise ArgumentTypeError(argument, f"a tuple of {len(names)} (B, H) arrays", _kind(states))
    if len(states) != len(names):
        raise ArgumentError(argument, f"{len(names)} arrays ({_listed(names)})", f"{len(states)}")
    return tuple(
        None if state is None else _array(name, state, shape, dtypes, library)
        for name, state in zip(names, states, strict=True)
    )


@cache
def _numbered(argument: str, cell: Cell) -> tuple[str, ...]:
    """What the arrays of a tuple with one for each state are called in messages."""
    return tuple(f"{argument}[{k}] ({state})" for k, state in enumerate(cell.states))


def _ends_and_starts(
    lengths: object, resets: object, n_steps: int, n_rows: int, library: ArrayLibrary
) -> tuple[np.ndarray[Any, Any] | None, Array | None]:
    """The lengths and resets as the kernels take them. They are looked at in each call, as their values count."""
    row_ends = None if lengths is None else _lengths(lengths, n_steps, n_rows)
    row_starts = None if resets is None else _resets(resets, n_steps, n_rows, library)
    if row_ends is not None and isinstance(row_starts, np.ndarray):
        row_starts = within(row_starts, row_ends)
    return row_ends, row_starts


def _lengths(lengths: object, n_steps: int, n_rows: int) -> np.ndarray[Any, Any]:
    array = _host("lengths", "(B,) integers", lengths)
    if array.size == 0 and array.shape == (n_rows,):
        return np.zeros(0, np.int64)
    if array.dtype.kind not in "iu":
        raise ArgumentError("lengths", "integers", f"dtype {array.dtype.name}")
    if array.shape != (n_rows,):
        raise ArgumentError("lengths", f"shape {(n_rows,)}", f"shape {array.shape}")
    if array.min() < 0 or array.max() > n_steps:
        wrong = int(np.flatnonzero((array < 0) | (array > n_steps))[0])
        raise ArgumentError("lengths", f"values from 0 to T = {n_steps}", f"{array[wrong]} in row {wrong}")
    return array.astype(np.int64)


def _resets(resets: object, n_steps: int, n_rows: int, library: ArrayLibrary) -> Array:
    """A NumPy array of its own; or, where they lie on x's GPU, the caller's: to read it would wait for the device."""
    stays = _left_on_gpu(resets, library)
    array = _in_place("resets", resets, library) if stays else _host("resets", "(T, B) bools", resets)
    if tuple(array.shape) == (n_steps, n_rows) and 0 in array.shape:
        return np.zeros((n_steps, n_rows), np.bool_)
    _check_resets(array, "(T, B)", (n_steps, n_rows))
    return array if stays else array.copy()


def _left_on_gpu(resets: object, library: ArrayLibrary) -> bool:
    """Whether resets are left on the GPU where they lie."""
    return library.kind == "cuda" and hasattr(resets, "dtype") and library_of("resets", resets).kind == "cuda"


def _check_resets(array: Array, axes: str, shape: tuple[int, ...]) -> None:
    if dtype_name(array) != "bool":
        raise ArgumentError("resets", "dtype bool", f"dtype {dtype_name(array)}")
    if tuple(array.shape) != shape:
        raise ArgumentError("resets", f"shape {axes} = {shape}", f"shape {tuple(array.shape)}")


def resets_of_step(problem: Problem, resets: object) -> Array:
    """Validate the resets of one step, (B,) bools: on the host, or the caller's where they lie on x's GPU."""
    library = problem.library
    if isinstance(resets, list | tuple) and not resets:  # which makes no array of bools
        resets = np.zeros(0, np.bool_)
    array = (
        _in_place("resets", resets, library) if _left_on_gpu(resets, library) else _host("resets", "(B,) bools", resets)
    )
    _check_resets(array, "(B,)", (problem.B,))
    return array


def reset(inputs: Inputs, rows: np.ndarray[Any, Any]) -> Inputs:
    """The arrays of a call on the host with the initial states of these rows, (B,) bools, zeroed."""
    if inputs.initial is None or not rows.any():
        return inputs
    states = tuple([state.copy() for state in inputs.initial])
    for state in states:
        state[rows] = 0
    return inputs._replace(initial=states)


def _host(name: str, expected: str, values: object) -> np.ndarray[Any, Any]:
    """A small array that the kernels want on the host: a sequence or an array of any library."""
    if isinstance(values, list | tuple):
        try:
            return np.array(values)
        except ValueError as error:
            raise ArgumentError(name, expected, f"a sequence that is no array ({error})") from error
    if np.isscalar(values):
        raise ArgumentTypeError(name, f"an array or sequence of {expected}", _kind(values))
    return on_host(name, values)


def _kind(value: object) -> str:
    return "None" if value is None else type(value).__name__


def _either(names: Sequence[str]) -> str:
    return " or ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"
