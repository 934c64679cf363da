"""torch.nn.RNN, LSTM and GRU, and their single-step cells."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
from collections.abc import Iterator, Mapping
from typing import Any

from rnn_gpu import cells
from rnn_gpu.bench.calls import Call
from rnn_gpu.bench.runner import Results, Runner
from rnn_gpu.bench.shapes import Case
from rnn_gpu.compiler.cell import Cell
from rnn_gpu.weights.torch import from_torch, to_torch

__all__ = ["PEER", "module_runner"]

_MODULES: dict[Cell, tuple[str, dict[str, str]]] = {
    cells.rnn: ("RNN", {}),
    cells.rnn_relu: ("RNN", {"nonlinearity": "relu"}),
    cells.lstm: ("LSTM", {}),
    cells.gru: ("GRU", {}),
}


def _torch() -> Any:
    return importlib.import_module("torch")


class _Torch:
    name = "torch"

    def unavailable(self) -> str | None:
        return None if importlib.util.find_spec("torch") else "the package torch is not installed"

    def refuses(self, case: Case) -> str | None:
        if case.cell not in _MODULES:
            return f"torch has no {case.cell.name}"
        if case.resets:
            return "torch's modules have no resets"
        if case.recompute:
            return "torch's modules keep what backward needs"
        return "torch's modules do the input product themselves" if case.projected else None

    @contextlib.contextmanager
    def threads(self, number: int) -> Iterator[None]:
        torch = _torch()
        former = torch.get_num_threads()
        torch.set_num_threads(number)
        try:
            yield
        finally:
            torch.set_num_threads(former)

    def runner(self, call: Call, threads: int) -> Runner:
        """forward and step without gradients (torch.no_grad); train through autograd, to x and all weights.

        Rows of different lengths are a PackedSequence.
        """
        return module_runner(call, _torch().nn)


PEER = _Torch()


def module_runner(call: Call, package: Any, **options: Any) -> Runner:
    """The call by the modules of a package that has torch.nn's, torch.nn itself or rnn_gpu.torch.

    options: attributes that each module is given.
    """
    return {"forward": _forward, "train": _train, "step": _step}[call.case.mode](call, package, options)


def _forward(call: Call, package: Any, options: Mapping[str, Any]) -> Runner:
    torch, module, x = _torch(), _module(call, package, options), _tensor(call.x)

    def run() -> Any:
        with torch.no_grad():
            return _through(module, x, call)

    return Runner(run, lambda ran: _outputs(call.case.cell, *ran))


def _train(call: Call, package: Any, options: Mapping[str, Any]) -> Runner:
    torch, module, dy = _torch(), _module(call, package, options), _tensor(call.dy)
    x = _tensor(call.x).requires_grad_()
    parameters = dict(module.named_parameters())
    inputs = [x, *parameters.values()]

    def run() -> Any:
        y, last = _through(module, x, call)
        return y, last, torch.autograd.grad(y, inputs, dy)

    def results(ran: Any) -> Results:
        y, last, (d_x, *gradients) = ran
        weights = from_torch(call.case.cell, dict(zip(parameters, gradients, strict=True)))
        named = {f"d_{name}": array for name, array in weights.items()}
        return {**_outputs(call.case.cell, y, last), "d_x": d_x.numpy(), **named}

    return Runner(run, results)


def _step(call: Call, package: Any, options: Mapping[str, Any]) -> Runner:
    cell = call.case.cell
    torch, x = _torch(), _tensor(call.x)
    name, arguments = _MODULES[cell]
    module = getattr(package, f"{name}Cell")(call.case.shape.I, call.case.shape.H, dtype=x.dtype, **arguments)
    module.load_state_dict({key.removesuffix("_l0"): value for key, value in _state_dict(call).items()})
    vars(module).update(options)

    def run() -> Any:
        state = None
        with torch.no_grad():
            for x_t in x:
                state = module(x_t, state)
        return state

    def results(ran: Any) -> Results:
        states = ran if isinstance(ran, tuple) else (ran,)
        named = {f"last_{name}": state.numpy() for name, state in zip(cell.states, states, strict=True)}
        return {"y": states[0].numpy(), **named}

    return Runner(run, results)


def _through(module: Any, x: Any, call: Call) -> Any:
    """x through the module, padded again where it was packed."""
    if call.lengths is None:
        return module(x)
    packing = _torch().nn.utils.rnn
    packed, last = module(packing.pack_padded_sequence(x, _tensor(call.lengths), enforce_sorted=False))
    return packing.pad_packed_sequence(packed, total_length=len(x))[0], last


def _module(call: Call, package: Any, options: Mapping[str, Any]) -> Any:
    name, arguments = _MODULES[call.case.cell]
    dtype = _tensor(call.x).dtype
    module = getattr(package, name)(call.case.shape.I, call.case.shape.H, dtype=dtype, **arguments)
    module.load_state_dict(_state_dict(call))
    vars(module).update(options)
    return module


def _state_dict(call: Call) -> dict[str, Any]:
    return {name: _tensor(array) for name, array in to_torch(call.case.cell, call.weights).items()}


def _tensor(array: Any) -> Any:
    return _torch().from_numpy(array)


def _outputs(cell: Cell, y: Any, last: Any) -> dict[str, Any]:
    states = last if isinstance(last, tuple) else (last,)
    named = {f"last_{name}": state.detach()[0].numpy() for name, state in zip(cell.states, states, strict=True)}
    return {"y": y.detach().numpy(), **named}
