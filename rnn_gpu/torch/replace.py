"""Swapping the recurrent modules inside a model for this package's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from rnn_gpu.errors import ArgumentTypeError
from rnn_gpu.torch.modules import GRU, LSTM, RNN
from rnn_gpu.torch.single_step import GRUCell, LSTMCell, RNNCell

__all__ = ["Replacement", "replace"]

_LAYERS: dict[type[nn.Module], type[nn.Module]] = {nn.RNN: RNN, nn.LSTM: LSTM, nn.GRU: GRU}
_CELLS: dict[type[nn.Module], type[nn.Module]] = {
    nn.RNNCell: RNNCell,
    nn.LSTMCell: LSTMCell,
    nn.GRUCell: GRUCell,
}
_HOOKS = (
    "_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks", "_state_dict_hooks",
    "_state_dict_pre_hooks", "_load_state_dict_pre_hooks", "_load_state_dict_post_hooks",
)  # fmt: skip


@dataclass(frozen=True)
class Replacement:
    """What `replace` did. print() it.

    model: the model, or where that was itself a torch.nn module, what took its place.
    replaced: the names of the modules that were swapped, with their class. left: those that were not, and why.
    """

    model: nn.Module
    replaced: dict[str, str]
    left: dict[str, str]

    def __str__(self) -> str:
        lines = [f"replaced {name or 'the model itself'}: {kind}" for name, kind in self.replaced.items()]
        lines += [f"left {name or 'the model itself'}: {reason}" for name, reason in self.left.items()]
        return "\n".join(lines) or "the model has no torch.nn.RNN, LSTM, GRU or cell of theirs"


def replace(model: nn.Module) -> Replacement:
    """Swap every torch.nn.RNN, LSTM and GRU, and their cells, inside the model, in place, for rnn_gpu.torch's.

    The parameters are the same objects as before, so that an optimiser goes on with them. Modules of derived classes,
    with hooks or with parametrised weights are left as they are, and the report says so.
    Raises ArgumentTypeError if it is no module.
    """
    if not isinstance(model, nn.Module):
        raise ArgumentTypeError("model", "a torch.nn.Module", type(model).__name__)
    new: dict[nn.Module, nn.Module] = {}
    replaced: dict[str, str] = {}
    left: dict[str, str] = {}
    top = model
    modules: list[tuple[str, nn.Module]] = list(model.named_modules(remove_duplicate=False))
    for name, module in modules:
        if not isinstance(module, (*_LAYERS, *_CELLS)) or type(module) in (*_LAYERS.values(), *_CELLS.values()):
            continue
        reason = _reason(module)
        if reason is not None:
            left[name] = reason
            continue
        if module not in new:
            new[module] = _made(module)
        replaced[name] = f"torch.nn.{type(module).__name__}"
        if not name:
            top = new[module]
            continue
        parent, _, attribute = name.rpartition(".")
        setattr(model.get_submodule(parent), attribute, new[module])
    return Replacement(top, replaced, left)


def _reason(module: nn.Module) -> str | None:
    """Why a module is left as it is, or None."""
    kind = type(module)
    if hasattr(module, "parametrizations"):
        return "its weights are parametrised"
    if kind not in _LAYERS and kind not in _CELLS:
        return f"{kind.__module__}.{kind.__qualname__} is a class of its own, whose behaviour may be another"
    if any(getattr(module, hooks, None) for hooks in _HOOKS):
        return "it has hooks, which may rely on what it is"
    return None


def _made(module: Any) -> nn.Module:
    """One of ours with the module's parameters and mode."""
    options = {"device": "meta", "dtype": next(module.parameters()).dtype}
    make: Callable[..., nn.Module]
    if type(module) in _LAYERS:
        make = _LAYERS[type(module)]
        names = ["num_layers", "bias", "batch_first", "dropout", "bidirectional"]
        names += {nn.RNN: ["nonlinearity"], nn.LSTM: ["proj_size"], nn.GRU: []}[type(module)]
    else:
        make = _CELLS[type(module)]
        names = ["bias", *(["nonlinearity"] if type(module) is nn.RNNCell else [])]
    ours = make(module.input_size, module.hidden_size, **{name: getattr(module, name) for name in names}, **options)
    for name, parameter in module.named_parameters(recurse=False):
        setattr(ours, name, parameter)
    return ours.train(module.training)
