"""torch on the device: its layers, which run cuDNN, as the peer; in float64 as the reference.

Where rows are reset inside the sequence torch has no layer. A loop over its cells then computes the same, to compare
with; it is no peer, as nobody would run it.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rnn_gpu import cells
from rnn_gpu.bench.calls import Call
from rnn_gpu.bench.runner import Runner
from rnn_gpu.bench.shapes import Case
from rnn_gpu.compiler.cell import Cell
from rnn_gpu.cuda_arrays import to_torch

__all__ = ["NAME", "layer", "refuses", "unavailable", "unrolled"]

NAME = "torch"

_MODULES: dict[Cell, tuple[str, dict[str, str]]] = {
    cells.rnn: ("RNN", {}),
    cells.rnn_relu: ("RNN", {"nonlinearity": "relu"}),
    cells.lstm: ("LSTM", {}),
    cells.gru: ("GRU", {}),
}


def unavailable() -> str | None:
    """Why torch cannot be used on a device here, or None."""
    if importlib.util.find_spec("torch") is None:
        return "the package torch is not installed"
    return None if _torch().cuda.is_available() else "torch sees no CUDA device"


def refuses(case: Case) -> str | None:
    """Why a layer of torch cannot run the case, or None."""
    if case.cell not in _MODULES:
        return f"torch has no {case.cell.name}"
    if case.projected:
        return "torch's layers do the input product themselves"
    return "torch's layers have no resets" if case.resets else None


def layer(call: Call, device: str = "cuda") -> Runner:
    """The call by torch's layer, as its user would write it; rows of different lengths as a PackedSequence."""
    torch, case = _torch(), call.case
    x, dy = _tensor(call.x, device), _tensor(call.dy, device)
    name, options = _MODULES[case.cell]
    module = getattr(torch.nn, name)(case.shape.I, case.shape.H, dtype=x.dtype, device=device, **options)
    module.load_state_dict(_state_dict(call, device))
    if device != "cpu":
        module.flatten_parameters()
    lengths = None if call.lengths is None else torch.as_tensor(call.lengths)
    packing = torch.nn.utils.rnn

    def forward(given: Any) -> Any:
        if lengths is None:
            return module(given)
        packed, last = module(packing.pack_padded_sequence(given, lengths, enforce_sorted=False))
        return packing.pad_packed_sequence(packed, total_length=case.shape.T)[0], last

    return _runner(call, forward, x, dy, dict(module.named_parameters()))


def unrolled(call: Call, device: str = "cuda") -> Runner:
    """The call by a loop over torch's cell, a step at a time, with resets and lengths."""
    torch, case = _torch(), call.case
    x, dy = _tensor(call.x, device), _tensor(call.dy, device)
    name, options = _MODULES[case.cell]
    module = getattr(torch.nn, f"{name}Cell")(case.shape.I, case.shape.H, dtype=x.dtype, device=device, **options)
    module.load_state_dict({key.removesuffix("_l0"): value for key, value in _state_dict(call, device).items()})
    resets = None if call.resets is None else _tensor(call.resets, device)

    def forward(given: Any) -> Any:
        states = tuple(given.new_zeros(case.shape.B, case.shape.H) for _ in case.cell.states)
        outputs = []
        for t, x_t in enumerate(given):
            if resets is not None:
                states = tuple(torch.where(resets[t, :, None], 0, state) for state in states)
            new = module(x_t, states if len(states) > 1 else states[0])
            states = new if isinstance(new, tuple) else (new,)
            outputs.append(states[0])
        return torch.stack(outputs), tuple(state[None] for state in states)

    if call.lengths is not None:
        raise ValueError("rows of different lengths are the layer's")
    return _runner(call, forward, x, dy, {f"{key}_l0": value for key, value in module.named_parameters()})


def _runner(call: Call, forward: Any, x: Any, dy: Any, parameters: dict[str, Any]) -> Runner:
    torch, case = _torch(), call.case
    if case.mode == "train":
        x = x.detach().clone().requires_grad_()

    def run() -> Any:
        with _tf32(case.tf32):
            if case.mode == "forward":
                with torch.no_grad():
                    return forward(x)
            y, last = forward(x)
            if case.mode == "keep":
                return y, last
            return y, last, torch.autograd.grad(y, [x, *parameters.values()], dy)

    def results(ran: Any) -> dict[str, Any]:
        y, last, *rest = ran
        states = last if isinstance(last, tuple) else (last,)
        found = {"y": y} | {f"last_{name}": s[0] for name, s in zip(case.cell.states, states, strict=True)}
        if rest:
            d_x, *gradients = rest[0]
            found |= {"d_x": d_x}
            for key, gradient in zip(parameters, gradients, strict=True):
                found["d_" + key.removesuffix("_l0").replace("weight", "w").replace("bias", "b")] = gradient
        return {key: array.detach() for key, array in found.items()}

    return Runner(run, results)


@contextmanager
def _tf32(allowed: bool) -> Iterator[None]:
    """While open, torch's float32 products use TF32 if it is allowed, and else do not."""
    backends = _torch().backends
    former = backends.cudnn.allow_tf32, backends.cuda.matmul.allow_tf32
    backends.cudnn.allow_tf32 = backends.cuda.matmul.allow_tf32 = allowed
    try:
        yield
    finally:
        backends.cudnn.allow_tf32, backends.cuda.matmul.allow_tf32 = former


def _state_dict(call: Call, device: str) -> dict[str, Any]:
    """The parameters by torch's names; the gates of these cells lie as torch's."""
    names = {"w_ih": "weight_ih_l0", "w_hh": "weight_hh_l0", "b_ih": "bias_ih_l0", "b_hh": "bias_hh_l0"}
    return {names[name]: _tensor(array, device) for name, array in call.parameters.items()}


def _tensor(array: Any, device: str) -> Any:
    return _torch().from_numpy(array) if device == "cpu" else to_torch(array)


def _torch() -> Any:
    return importlib.import_module("torch")
