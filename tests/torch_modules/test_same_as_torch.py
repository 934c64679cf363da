"""RNN, LSTM and GRU give what torch.nn's give: outputs, last states and all gradients."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

import rnn_gpu.torch as ours

T, B, I, H = 6, 4, 3, 5
LENGTHS = [3, 6, 1, 4]
NAMES = ("RNN", "LSTM", "GRU")


def both(name, *sizes, **options):
    """torch's module and ours, with the same parameters."""
    theirs = getattr(nn, name)(*sizes, **options)
    mine = getattr(ours, name)(*sizes, **options)
    mine.load_state_dict(theirs.state_dict())
    return theirs, mine


def weights_like(y):
    """A fixed gradient for an output, different for each element."""
    return torch.sin(1.0 + torch.arange(y.numel(), dtype=y.dtype)).view(y.shape)


def outputs_and_gradients(module, x, initial, lengths=None):
    """Everything that a module computes: y, the last states, the gradients of x, the initial states, the parameters."""
    x = x.clone().requires_grad_()
    states = [state.clone().requires_grad_() for state in initial]
    given = x
    if lengths is not None:
        given = pack_padded_sequence(x, lengths, batch_first=module.batch_first, enforce_sorted=False)
    hx = None if not states else tuple(states) if len(states) > 1 else states[0]
    y, last = module(given, hx)
    if lengths is not None:
        assert isinstance(y, PackedSequence)
        assert torch.equal(y.batch_sizes, given.batch_sizes)
        assert torch.equal(y.unsorted_indices, given.unsorted_indices)
        y = y.data
    found = [y, *(last if isinstance(last, tuple) else (last,))]
    loss = sum((each * weights_like(each)).sum() for each in found)
    gradients = torch.autograd.grad(loss, [x, *states, *module.parameters()])
    return [*(each.detach() for each in found), *gradients]


def initial_states(module, rows=B):
    places = module.num_layers * (2 if module.bidirectional else 1)
    sizes = [module.proj_size or module.hidden_size]
    sizes += [module.hidden_size] if isinstance(module, nn.LSTM) else []
    dtype = next(module.parameters()).dtype
    return [torch.randn(places, rows, size, dtype=dtype) for size in sizes]


@pytest.mark.parametrize("packed", [False, True], ids=["padded", "packed"])
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no_bias"])
@pytest.mark.parametrize("batch_first", [False, True], ids=["time_first", "batch_first"])
@pytest.mark.parametrize("bidirectional", [False, True], ids=["one_way", "both_ways"])
@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("name", [*NAMES, "RNN relu", "LSTM projected"])
def test_float64(name, layers, bidirectional, batch_first, bias, packed):
    name, _, special = name.partition(" ")
    options = {"num_layers": layers, "bidirectional": bidirectional, "batch_first": batch_first, "bias": bias}
    options |= {"relu": {"nonlinearity": "relu"}, "projected": {"proj_size": 2}}.get(special, {})
    theirs, mine = both(name, I, H, dtype=torch.float64, **options)
    assert list(mine.state_dict()) == list(theirs.state_dict())
    theirs.load_state_dict(mine.state_dict())
    x = torch.randn(*((B, T) if batch_first else (T, B)), I, dtype=torch.float64)
    lengths = LENGTHS if packed else None
    initial = initial_states(theirs)
    expected = outputs_and_gradients(theirs, x, initial, lengths)
    found = outputs_and_gradients(mine, x, initial, lengths)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-10)


@pytest.mark.parametrize("bidirectional", [False, True], ids=["one_way", "both_ways"])
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("name", NAMES)
def test_float32_error_is_at_most_twice_torchs(name, layers, bidirectional, compiled_backend):
    theirs, mine = both(name, 16, 40, layers, bidirectional=bidirectional)
    exact, _ = both(name, 16, 40, layers, bidirectional=bidirectional, dtype=torch.float64)
    exact.load_state_dict(theirs.state_dict())
    x = torch.randn(30, 8, 16)
    initial = initial_states(theirs, rows=8)
    reference = outputs_and_gradients(exact, x.double(), [state.double() for state in initial])

    def error(module):
        found = outputs_and_gradients(module, x, initial)
        pairs = zip(found, reference, strict=True)
        return max(float((a.double() - b).abs().max() / b.abs().max()) for a, b in pairs)

    assert 0 < error(mine) <= 2 * error(theirs)


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_one_sequence_without_a_batch(name, batch_first):
    theirs, mine = both(name, I, H, 2, batch_first=batch_first, bidirectional=True, dtype=torch.float64)
    x = torch.randn(T, I, dtype=torch.float64)
    initial = tuple(state[:, 0] for state in initial_states(theirs))
    for hx in (None, initial if len(initial) > 1 else initial[0]):
        (y, last), (y_theirs, last_theirs) = mine(x, hx), theirs(x, hx)
        torch.testing.assert_close(y, y_theirs, rtol=0, atol=1e-12)
        torch.testing.assert_close(last, last_theirs, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_draws_the_same_parameters(name):
    modules = []
    for package in (nn, ours):
        torch.manual_seed(3)
        modules.append(getattr(package, name)(I, H, 2, bidirectional=True))
    theirs, mine = modules
    for a, b in zip(theirs.parameters(), mine.parameters(), strict=True):
        assert torch.equal(a, b)
    assert str(mine) == str(theirs)
    assert isinstance(mine, nn.RNNBase)


@pytest.mark.parametrize(("name", "bias"), list(itertools.product(NAMES, [True, False])))
def test_cells(name, bias):
    theirs = getattr(nn, f"{name}Cell")(I, H, bias=bias, dtype=torch.float64)
    mine = getattr(ours, f"{name}Cell")(I, H, bias=bias, dtype=torch.float64)
    mine.load_state_dict(theirs.state_dict())
    for shape in ((B,), ()):
        x = torch.randn(*shape, I, dtype=torch.float64, requires_grad=True)
        states = [torch.randn(*shape, H, dtype=torch.float64, requires_grad=True) for _ in range(1 + (name == "LSTM"))]
        for hx in (None, tuple(states) if name == "LSTM" else states[0]):
            results = []
            for module in (mine, theirs):
                new = module(x, hx)
                new = new if isinstance(new, tuple) else (new,)
                loss = sum((state * weights_like(state)).sum() for state in new)
                wanted = [x, *module.parameters(), *(states if hx is not None else [])]
                results.append([*new, *torch.autograd.grad(loss, wanted)])
            for a, b in zip(*results, strict=True):
                torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


def test_relu_cell():
    theirs, mine = (package.RNNCell(I, H, nonlinearity="relu") for package in (nn, ours))
    mine.load_state_dict(theirs.state_dict())
    x, h = torch.randn(B, I), torch.randn(B, H)
    torch.testing.assert_close(mine(x, h), theirs(x, h))


@pytest.mark.parametrize("name", NAMES)
def test_autocast(name):
    theirs, mine = both(name, I, H, 2)
    x = torch.randn(T, B, I)
    exact, _ = theirs(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y, last = mine(x)
    assert y.dtype == torch.bfloat16
    assert all(s.dtype == torch.bfloat16 for s in (last if isinstance(last, tuple) else (last,)))
    torch.testing.assert_close(y.float(), exact, rtol=0, atol=0.05)
    assert not torch.equal(y.float(), exact)
    y.float().sum().backward()
    assert all(parameter.grad.dtype == torch.float32 for parameter in mine.parameters())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert mine.double()(x.double())[0].dtype == torch.float64


def test_dropout_drops_between_layers_in_training_only():
    torch.manual_seed(0)
    module = ours.GRU(I, H, 2, dropout=0.5, dtype=torch.float64)
    x = torch.randn(T, B, I, dtype=torch.float64)
    torch.manual_seed(1)
    first, last = module(x)
    torch.manual_seed(1)
    assert torch.equal(module(x)[0], first)
    assert not torch.equal(module(x)[0], first)
    module.eval()
    assert torch.equal(module(x)[0], module(x)[0])
    torch.testing.assert_close(module(x)[1][0], last[0])  # below the dropout
    module.train().dropout = 1.0
    expected = torch.func.functional_call(
        ours.GRU(H, H, dtype=torch.float64),
        {k.replace("l1", "l0"): v for k, v in module.state_dict().items() if "l1" in k},
        (torch.zeros(T, B, H, dtype=torch.float64),),
    )[0]
    torch.testing.assert_close(module(x)[0], expected)


def test_dropout_gradients():
    module = ours.LSTM(2, 3, 3, dropout=0.4, bidirectional=True, dtype=torch.float64)

    def function(x):
        torch.manual_seed(5)
        return module(x)[0]

    assert torch.autograd.gradcheck(function, torch.randn(3, 2, 2, dtype=torch.float64, requires_grad=True))


def test_backward_in_eval_mode():
    module = ours.LSTM(I, H).eval()
    module(torch.randn(T, B, I))[0].sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in module.parameters())
