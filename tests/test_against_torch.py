"""Outputs, last states and all gradients against torch's own RNN, LSTM and GRU, in float64.

torch has both directions in one module, and lengths from 1 as a PackedSequence. Weights read from its modules are the
subject of test_weights_torch.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from support.backends import TARGETS
from support.calls import draw
from support.cases import Case
from support.cells import CELLS
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

MODULES = {
    "rnn": torch.nn.RNN,
    "rnn_relu": lambda *sizes, **options: torch.nn.RNN(*sizes, nonlinearity="relu", **options),
    "lstm": torch.nn.LSTM,
    "gru": torch.nn.GRU,
}
FIELDS = {"w_ih": "weight_ih_l0", "w_hh": "weight_hh_l0", "b_ih": "bias_ih_l0", "b_hh": "bias_hh_l0"}
CASES = (
    Case("plain", T=9, B=5, I=3, H=7, initial=True),
    Case("zero_initial", T=6, B=2),
    Case("lengths", T=9, B=5, I=3, H=7, initial=True, lengths=(3, 9, 1, 4, 9)),
    Case("no_biases", biases=(), initial=True, lengths=(1, 5, 2)),
    Case("ones", T=1, B=1, I=1, H=1, initial=True),
)


def run_torch(forward, backward):
    """Results of both directions' calls by one bidirectional module, each by the names that targets give them."""
    cell = forward.cell
    rows, hidden = forward.dy.shape[1:]
    bias = forward.weights.b_ih is not None
    module = MODULES[cell.name](forward.x.shape[2], hidden, bias=bias, bidirectional=True, dtype=torch.float64)
    module.load_state_dict(
        {
            FIELDS[name] + suffix: torch.from_numpy(array)
            for call, suffix in ((forward, ""), (backward, "_reverse"))
            for name, array in call.weights.items()
        }
    )
    x = torch.tensor(forward.x, requires_grad=True)
    zeros = (np.zeros((rows, hidden)),) * len(cell.states)
    starts = zip(forward.initial or zeros, backward.initial or zeros, strict=True)
    initial = [torch.tensor(np.stack(pair), requires_grad=True) for pair in starts]
    packed = x if forward.lengths is None else pack_padded_sequence(x, forward.lengths, enforce_sorted=False)
    y, last = module(packed, tuple(initial) if len(initial) > 1 else initial[0])
    if forward.lengths is not None:
        y, _ = pad_packed_sequence(y, total_length=len(forward.x))
    last = last if isinstance(last, tuple) else (last,)
    loss = (y * torch.tensor(np.concatenate([forward.dy, backward.dy], axis=2))).sum()
    for state, *pair in zip(last, forward.dlast, backward.dlast, strict=True):
        loss = loss + (state * torch.tensor(np.stack(pair))).sum()
    loss.backward()
    gradients = {name: parameter.grad for name, parameter in module.named_parameters()}
    shared = {"d_x": x.grad.numpy()}
    return shared, [
        {
            "y": y.detach().numpy()[..., d * hidden : (d + 1) * hidden],
            **{f"last_{name}": state[d].detach().numpy() for name, state in zip(cell.states, last, strict=True)},
            **{f"d_{name}": gradients[FIELDS[name] + suffix].numpy() for name, _ in forward.weights.items()},
            **{f"d_{name}": state.grad[d].numpy() for name, state in zip(cell.states, initial, strict=True)},
        }
        for d, suffix in enumerate(("", "_reverse"))
    ]


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_both_directions_are_torchs(target, name, case):
    forward = draw(CELLS[name], case, padding=0.0)
    backward = replace(draw(CELLS[name], case, seed=1, padding=0.0), x=forward.x, reverse=True)
    shared, expected = run_torch(forward, backward)
    found = [target.run(call) for call in (forward, backward)]
    assert_allclose(sum(each.pop("d_x") for each in found), shared["d_x"], rtol=1e-12, atol=1e-12)
    for ours, theirs in zip(found, expected, strict=True):
        assert list(ours) == list(theirs)
        for key, array in ours.items():
            assert_allclose(array, theirs[key], rtol=1e-12, atol=1e-12, err_msg=key)
