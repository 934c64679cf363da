"""Weights read from torch modules compute what the modules compute, and modules take them back."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

import rnn_gpu
from rnn_gpu import cells
from rnn_gpu.errors import ArgumentTypeError
from rnn_gpu.weights import from_torch, layers_from_torch, to_torch

MODULES = {
    "rnn": torch.nn.RNN,
    "rnn_relu": lambda *sizes, **options: torch.nn.RNN(*sizes, nonlinearity="relu", **options),
    "lstm": torch.nn.LSTM,
    "gru": torch.nn.GRU,
}
STEPS, BATCH, INPUTS, HIDDEN = 7, 4, 3, 5


def run_layers(cell, layers, x, initial, lengths):
    """y of the top layer, and for each state (D * layers, B, H) as torch orders it."""
    last = []
    for directions in layers:
        outputs = []
        for reverse, weights in zip((False, True), directions, strict=False):
            start = tuple(state[len(last)] for state in initial)
            y, end, _ = rnn_gpu.forward(cell, x, weights, start, lengths=lengths, reverse=reverse)
            outputs.append(y)
            last.append(end)
        x = np.concatenate(outputs, axis=-1)
    return x, [np.stack(states) for states in zip(*last, strict=True)]


@pytest.mark.parametrize("lengths", [None, [3, 7, 1, 5]])
@pytest.mark.parametrize("options", [{}, {"bias": False}, {"num_layers": 3, "bidirectional": True}], ids=str)
@pytest.mark.parametrize("name", MODULES)
def test_outputs_are_those_of_the_module(name, options, lengths):
    torch.manual_seed(0)
    cell = getattr(cells, name)
    module = MODULES[name](INPUTS, HIDDEN, dtype=torch.float64, **options)
    layers = layers_from_torch(cell, module.state_dict())
    rng = np.random.default_rng(1)
    x = rng.standard_normal((STEPS, BATCH, INPUTS))
    count = len(layers) * len(layers[0])
    initial = [rng.standard_normal((count, BATCH, HIDDEN)) for _ in cell.states]

    y, last = run_layers(cell, layers, x, initial, None if lengths is None else np.array(lengths))

    given = torch.from_numpy(x)
    states = [torch.from_numpy(state) for state in initial]
    start = tuple(states) if len(states) > 1 else states[0]
    with torch.no_grad():
        if lengths is None:
            expected_y, expected = module(given, start)
        else:
            packed = torch.nn.utils.rnn.pack_padded_sequence(given, torch.tensor(lengths), enforce_sorted=False)
            packed_y, expected = module(packed, start)
            expected_y, _ = torch.nn.utils.rnn.pad_packed_sequence(packed_y, total_length=STEPS)
    assert_allclose(y, expected_y.numpy(), rtol=0, atol=1e-12)
    for found, state in zip(last, expected if isinstance(expected, tuple) else [expected], strict=True):
        assert_allclose(found, state.numpy(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("name", MODULES)
def test_modules_take_what_to_torch_returns(name, bias):
    cell = getattr(cells, name)
    module = MODULES[name](INPUTS, HIDDEN, num_layers=2, bidirectional=True, bias=bias)
    state_dict = {}
    for layer, inputs in enumerate((INPUTS, 2 * HIDDEN)):
        for reverse in (False, True):
            weights = rnn_gpu.init_weights(cell, inputs, HIDDEN, seed=2 * layer + reverse, bias=bias)
            state_dict |= to_torch(cell, weights, layer=layer, reverse=reverse)
    module.load_state_dict({key: torch.from_numpy(array) for key, array in state_dict.items()})
    for key, tensor in module.state_dict().items():
        assert_array_equal(tensor.numpy(), state_dict[key])


@pytest.mark.parametrize("read", [from_torch, layers_from_torch])
def test_a_module_in_place_of_its_state_dict(read):
    message = r"^state_dict: expected a mapping of arrays by name, such as module.state_dict\(\), got LSTM$"
    with pytest.raises(ArgumentTypeError, match=message):
        read(cells.lstm, torch.nn.LSTM(2, 3))
