"""What torch's users gave, by the names that they gave it by: hx, small arrays, and errors of the layers below."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from rnn_gpu.errors import ArgumentError, ArgumentTypeError
from rnn_gpu.torch.parameters import parameter_names

__all__ = ["as_tensor", "renamed", "states_of"]


def states_of(hx: Any, names: Sequence[str]) -> list[Tensor]:
    """hx as a tensor for each of a cell's states. Raises ArgumentTypeError or ArgumentError for anything else."""
    expected = f"{len(names)} tensors ({', '.join(names)})" if len(names) > 1 else f"a tensor ({names[0]})"
    states = [hx] if isinstance(hx, Tensor) or not isinstance(hx, tuple | list) else list(hx)
    for state in states:
        if not isinstance(state, Tensor):
            raise ArgumentTypeError("hx", expected, "None" if state is None else type(state).__name__)
    if len(states) != len(names):
        raise ArgumentError("hx", expected, f"{len(states)}")
    return states


def as_tensor(argument: str, expected: str, values: Any) -> Tensor:
    """A tensor of what may be a list or an array. Raises ArgumentTypeError for what cannot be one."""
    if isinstance(values, Tensor):
        return values  # where it is, whatever torch's default device
    try:
        return torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ArgumentTypeError(argument, expected, f"{type(values).__name__} ({error})") from error


def renamed(error: ArgumentError | ArgumentTypeError, suffixes: Sequence[str]) -> ArgumentError | ArgumentTypeError:
    """The error of a stack's argument, by torch's names. suffixes: of the parameters of each layer and direction."""
    name, _, rest = error.argument.partition("[")
    place, bracket, field = rest.partition("].")
    if name == "layers" and bracket:
        argument = parameter_names([field], suffixes[int(place)])[0]
    else:
        argument = {"x": "input", "initial": "hx"}.get(name, error.argument)
    expected = re.sub(r"\bas (x|w_ih) (?=is|has)", lambda found: f"as {_of_first(found[1], suffixes)} ", error.expected)
    return type(error)(argument, expected, error.got)


def _of_first(name: str, suffixes: Sequence[str]) -> str:
    return "input" if name == "x" else parameter_names([name], suffixes[0])[0]
