"""What torch.nn has not: lengths, resets, any cell, all states, recomputation, the first GRU."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import rnn_gpu.torch as ours
from rnn_gpu import cells, errors
from rnn_gpu.compiler.language import cell, sigmoid, tanh

T, B, I, H = 6, 4, 3, 5
EXACT = {"rtol": 0, "atol": 1e-12}


def drawn(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def gradients(outputs, *wanted):
    loss = sum((y * torch.sin(1.0 + torch.arange(y.numel(), dtype=y.dtype)).view(y.shape)).sum() for y in outputs)
    return torch.autograd.grad(loss, wanted, retain_graph=True)


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU"])
def test_lengths_are_packed_sequences(name, bidirectional, batch_first):
    options = {"num_layers": 2, "bidirectional": bidirectional, "batch_first": batch_first, "dtype": torch.float64}
    theirs, mine = (getattr(package, name)(I, H, **options) for package in (nn, ours))
    mine.load_state_dict(theirs.state_dict())
    x = drawn(*((B, T) if batch_first else (T, B)), I).requires_grad_()
    lengths = [2, 6, 1, 6]
    packed, last_theirs = theirs(pack_padded_sequence(x, lengths, batch_first=batch_first, enforce_sorted=False))
    y_theirs, _ = pad_packed_sequence(packed, batch_first=batch_first, total_length=T)
    for given in (lengths, torch.tensor(lengths), np.array(lengths)):
        y, last = mine(x, lengths=given)
        torch.testing.assert_close(y, y_theirs, **EXACT)
        torch.testing.assert_close(last, last_theirs, **EXACT)
    for a, b in zip(gradients([y], x, *mine.parameters()), gradients([y_theirs], x, *theirs.parameters()), strict=True):
        torch.testing.assert_close(a, b, **EXACT)


def test_a_row_of_length_zero_keeps_its_initial_state():
    module = ours.LSTM(I, H, 2, bidirectional=True, dtype=torch.float64)
    hx = drawn(4, B, H), drawn(4, B, H)
    y, last = module(drawn(T, B, I), hx, lengths=[0, 3, 0, 6])
    assert not y[:, 0].any()
    for state, before in zip(last, hx, strict=True):
        assert torch.equal(state[:, [0, 2]], before[:, [0, 2]])


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_resets_are_pieces_run_apart(bidirectional, batch_first):
    module = ours.GRU(I, H, 2, bidirectional=bidirectional, dtype=torch.float64)
    x = drawn(T, 1, I).requires_grad_()
    resets = torch.zeros(T, 1, dtype=torch.bool)
    resets[[2, 5]] = True
    pieces = torch.cat([module(part)[0] for part in x.split([2, 3, 1])])
    expected = gradients([pieces], x, *module.parameters())
    if batch_first:
        module.batch_first = True
        y, _ = module(x.transpose(0, 1), resets=resets.transpose(0, 1))
        y = y.transpose(0, 1)
    else:
        y, _ = module(x, resets=resets.tolist())
    torch.testing.assert_close(y, pieces, **EXACT)
    for a, b in zip(gradients([y], x, *module.parameters()), expected, strict=True):
        torch.testing.assert_close(a, b, **EXACT)


def test_resets_behind_a_rows_end_change_nothing():
    module = ours.RNN(I, H, bidirectional=True, dtype=torch.float64)
    x, hx = drawn(T, B, I), drawn(2, B, H)
    lengths = [2, 6, 4, 0]
    resets = torch.arange(T)[:, None] >= torch.tensor(lengths)
    torch.testing.assert_close(module(x, hx, lengths=lengths, resets=resets), module(x, hx, lengths=lengths), **EXACT)


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_all_states(bidirectional, batch_first):
    module = ours.LSTM(I, H, 2, bidirectional=bidirectional, batch_first=batch_first, dtype=torch.float64)
    x = drawn(*((B, T) if batch_first else (T, B)), I)
    y, (h, c), states = module(x, return_states=True)
    assert torch.equal(y, module(x)[0])
    assert torch.equal(states[1][0], y)
    assert [s.shape for layer in states for s in layer] == [y.shape] * 4
    for layer in range(2):
        for each, last in zip(states[layer], (h, c), strict=True):
            steps = each.transpose(0, 1) if batch_first else each
            torch.testing.assert_close(steps[-1, :, :H], last[layer * (1 + bidirectional)], **EXACT)
            if bidirectional:
                torch.testing.assert_close(steps[0, :, H:], last[layer * 2 + 1], **EXACT)


def test_all_states_step_by_step_with_gradients():
    module, single = ours.LSTM(I, H, dtype=torch.float64), nn.LSTMCell(I, H, dtype=torch.float64)
    single.load_state_dict({name.removesuffix("_l0"): value for name, value in module.state_dict().items()})
    x = drawn(T, B, I).requires_grad_()
    state, every = None, []
    for x_t in x:
        state = single(x_t, state)
        every.append(state)
    hidden, carried = (torch.stack(each) for each in zip(*every, strict=True))
    _, _, ((h, c),) = module(x, return_states=True)
    torch.testing.assert_close(h, hidden, **EXACT)
    torch.testing.assert_close(c, carried, **EXACT)
    found, expected = gradients([h, c], x, *module.parameters()), gradients([hidden, carried], x, *single.parameters())
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, **EXACT)
    for a, b in zip(gradients([c], x), gradients([carried], x), strict=True):
        torch.testing.assert_close(a, b, **EXACT)


@pytest.mark.parametrize("name", cells.ALL)
def test_any_cell(name):
    of = cells.ALL[name]
    module = ours.RNN(I if of.input_gates else 2, 2, 2, bidirectional=True, cell=of, dtype=torch.float64)
    assert len({parameter.shape for parameter in module.parameters()}) > 1
    x = drawn(3, 2, I if of.input_gates else 2).requires_grad_()
    resets, lengths = torch.zeros(3, 2, dtype=torch.bool), torch.tensor([3, 2])
    resets[1, 0] = True
    start = tuple(drawn(4, 2, 2) for _ in of.states)

    def function(x, *parameters):
        y, last = module(x, start if len(start) > 1 else start[0], lengths=lengths, resets=resets)
        return y, *(last if isinstance(last, tuple) else (last,))

    assert torch.autograd.gradcheck(function, (x, *module.parameters()), fast_mode=True)


@cell(gates="zn", states="h")
def minimal(Wx, U, h):
    z = sigmoid(Wx.z + U.z(h))
    return (1 - z) * h + z * tanh(Wx.n + U.n(z * h))


def test_a_cell_of_ones_own_trains():
    torch.manual_seed(0)
    module = ours.RNN(1, 16, cell=minimal, batch_first=True)
    readout = nn.Linear(16, 1)
    optimizer = torch.optim.Adam([*module.parameters(), *readout.parameters()], lr=0.02)
    x = torch.rand(64, 8, 1)
    losses = []
    for _ in range(60):
        loss = ((readout(module(x)[0][:, -1]) - x.mean(1)) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]
    assert "cell=minimal" in str(module)


def test_the_first_gru_resets_before_the_product():
    module = ours.GRU(I, H, reset_after=False, dtype=torch.float64)
    x = drawn(1, B, I)
    h = drawn(1, B, H)
    p = {name.removesuffix("_l0"): value for name, value in module.state_dict().items()}
    r, z, n = (x[0] @ p["weight_ih"].T + p["bias_ih"]).chunk(3, dim=1)
    weight, bias = p["weight_hh"].chunk(3), p["bias_hh"].chunk(3)
    r = torch.sigmoid(r + h[0] @ weight[0].T + bias[0])
    z = torch.sigmoid(z + h[0] @ weight[1].T + bias[1])
    n = torch.tanh(n + (r * h[0]) @ weight[2].T + bias[2])
    torch.testing.assert_close(module(x, h)[1][0], (1 - z) * n + z * h[0], **EXACT)


def test_recompute_changes_nothing():
    plain, sparing = (ours.LSTM(I, H, 2, recompute=recompute, dtype=torch.float64) for recompute in (False, True))
    sparing.load_state_dict(plain.state_dict())
    x = drawn(T, B, I).requires_grad_()
    results = [gradients([module(x)[0]], x, *module.parameters()) for module in (plain, sparing)]
    for a, b in zip(*results, strict=True):
        assert torch.equal(a, b)
    assert "recompute=True" in str(sparing)


def test_a_backend_by_name():
    with pytest.raises(errors.ArgumentError, match="backend: expected one of"):
        ours.GRU(I, H, backend="abacus")


def test_bad_calls_name_the_argument():
    x = torch.randn(T, B, I)
    with pytest.raises(errors.ArgumentError, match="lengths: expected values from 0 to T = 6, got 7"):
        ours.GRU(I, H)(x, lengths=[7, 1, 1, 1])
    with pytest.raises(errors.ArgumentError, match="resets: expected shape"):
        ours.GRU(I, H)(x, resets=torch.zeros(B, T, dtype=torch.bool))
    with pytest.raises(
        errors.ArgumentError, match=rf"resets: expected shape \(B, T\) = \({B}, {T}\), got shape \({T}, {B}\)"
    ):
        ours.GRU(I, H, batch_first=True)(x.transpose(0, 1), resets=torch.zeros(T, B, dtype=torch.bool))
    with pytest.raises(errors.ArgumentError, match="nonlinearity: expected none where a cell is given"):
        ours.RNN(I, H, nonlinearity="relu", cell=cells.janet)
    with pytest.raises(errors.ArgumentError, match="reset_after: expected none where a cell is given"):
        ours.GRU(I, H, reset_after=False, cell=cells.mgu)
    with pytest.raises(errors.ArgumentTypeError, match="cell: expected a cell"):
        ours.RNN(I, H, cell="gru")
    with pytest.raises(errors.ArgumentError, match="cell: expected a cell with one state"):
        ours.GRU(I, H, cell=cells.lstm)
    with pytest.raises(errors.ArgumentError, match="cell: expected a cell with two states"):
        ours.LSTM(I, H, cell=cells.gru)
    with pytest.raises(errors.ArgumentError, match="proj_size: expected 0, as cell lstm_peephole"):
        ours.LSTM(I, H, cell=cells.lstm_peephole, proj_size=2)
    with pytest.raises(errors.ArgumentTypeError, match="recompute: expected a bool"):
        ours.LSTM(I, H, recompute="yes")
    with pytest.raises(errors.ArgumentError, match="hx: expected 2 tensors"):
        ours.LSTM(I, H)(x, torch.zeros(1, B, H))
    packed = pack_padded_sequence(x, [6, 5, 4, 3])
    with pytest.raises(errors.ArgumentError, match="input: expected a tensor where lengths"):
        ours.LSTM(I, H)(packed, lengths=[1, 1, 1, 1])
    for hx in ((None, None), None, 0.0):
        with pytest.raises(errors.ArgumentTypeError, match=r"hx: expected 2 tensors \(h, c\), got (None|list|float)"):
            ours.LSTM(I, H)(x, [hx, hx] if hx is None else hx)
    with pytest.raises(errors.ArgumentTypeError, match=r"hx: expected a tensor \(h\), got str"):
        ours.GRU(I, H)(x[:, 0], "zeros")
    with pytest.raises(errors.ArgumentError, match=r"lengths: expected one integer for one sequence, got shape \(2,\)"):
        ours.LSTM(I, H)(x[:, 0], lengths=[1, 2])
    with pytest.raises(errors.ArgumentError, match=r"resets: expected shape \(T,\) = \(6,\), got shape \(4,\)"):
        ours.LSTM(I, H)(x[:, 0], resets=torch.zeros(B, dtype=torch.bool))


@pytest.mark.parametrize("batch_first", [False, True])
def test_one_sequence_is_a_batch_of_one(batch_first):
    module = ours.LSTM(I, H, num_layers=2, bidirectional=True, batch_first=batch_first)
    x, resets, axis = torch.randn(T, I), torch.tensor([0, 0, 1, 0, 1, 0], dtype=torch.bool), 0 if batch_first else 1
    found, (h, c) = module(x, lengths=5, resets=resets)
    expected, (h_n, c_n) = module(x.unsqueeze(axis), lengths=[5], resets=resets.unsqueeze(axis))
    for ours_, theirs in ((found, expected.squeeze(axis)), (h, h_n.squeeze(1)), (c, c_n.squeeze(1))):
        torch.testing.assert_close(ours_, theirs, rtol=0, atol=0)
    assert not found[5:].any()


def test_tensors_that_no_backend_takes_are_refused_as_anywhere():
    module, x = ours.LSTM(2, 3), torch.zeros(4, 2, 2)
    with pytest.raises(errors.ArgumentTypeError, match="input: expected a dense tensor"):
        module(x.to_sparse())
    with pytest.raises(errors.ArgumentError, match=r"input: expected dtype float64, .*, got float8_e4m3fn"):
        ours.LSTM(2, 3).to(torch.float8_e4m3fn)(x.to(torch.float8_e4m3fn))
    module.weight_hh_l0 = nn.Parameter(module.weight_hh_l0.to("meta"))
    with pytest.raises(
        errors.ArgumentTypeError, match=r"weight_hh_l0: expected a torch array on cpu as input is, got .* meta"
    ):
        module(x)
    module.weight_hh_l0 = nn.Parameter(torch.zeros(12, 3).to_sparse())
    with pytest.raises(errors.ArgumentTypeError, match="weight_hh_l0: expected a dense tensor"):
        module(x)
    with pytest.raises(errors.BackendError, match="x is a torch array on cpu; this backend takes"):
        ours.LSTM(2, 3, backend="cupy_raw")(x)
    with pytest.raises(RuntimeError, match="expected the parameters on meta as input is, got one on cpu"):
        ours.LSTM(2, 3)(x.to("meta"))
    deep = ours.RNN(2, 3, num_layers=2, bidirectional=True)
    deep.weight_ih_l1_reverse = nn.Parameter(torch.zeros(3, 6).to_sparse())
    with pytest.raises(errors.ArgumentTypeError, match="weight_ih_l1_reverse: expected a dense tensor"):
        deep(x)
    with pytest.raises(errors.ArgumentTypeError, match="hx: expected a dense tensor"):
        ours.RNN(2, 3)(x, torch.zeros(1, 2, 3).to_sparse())
    deep.weight_ih_l0 = nn.Parameter(torch.zeros(3, 4))
    expected = r"^input: expected shape \(T, B, 4\) as weight_ih_l0 has shape \(3, 4\), got shape \(4, 2, 2\)$"
    with pytest.raises(errors.ArgumentError, match=expected):
        deep(x)


def test_a_projections_parameters_are_checked():
    x = torch.randn(5, 2, 3)
    for name, shape in (("weight_hr_l0", (3, 4)), ("weight_hr_l0", (1, 4)), ("weight_hh_l0", (16, 4))):
        module = ours.LSTM(3, 4, proj_size=2)
        setattr(module, name, nn.Parameter(torch.zeros(shape)))
        with pytest.raises(errors.ArgumentError, match=rf"{name}: expected shape \(.*\), got shape \({shape[0]}, 4\)"):
            module(x)
    module.weight_hh_l0 = nn.Parameter(torch.zeros(16, 2))
    module.weight_hr_l0 = nn.Parameter(module.weight_hr_l0.double())
    with pytest.raises(errors.ArgumentError, match=r"weight_hr_l0: expected dtype torch.float32 as weight_ih_l0 is"):
        module(x)


def test_lengths_and_resets_that_are_none():
    module, x = ours.GRU(I, H), torch.randn(T, B, I)
    for given in ({"lengths": "3"}, {"resets": [None] * T}, {"resets": [[True], [True, False]]}):
        (name,) = given
        with pytest.raises(errors.ArgumentTypeError, match=rf"{name}: expected .*, got (str|list) \("):
            module(x, **given)
        with pytest.raises(errors.ArgumentTypeError, match=rf"{name}: expected .*, got (str|list) \("):
            module(x[:, 0], **given)


def test_bad_calls_of_cells_name_the_argument():
    x, h = torch.randn(B, I), torch.zeros(B, H)
    for hx in ((h, None), h, (h, h, h), [h]):
        with pytest.raises((errors.ArgumentError, errors.ArgumentTypeError), match=r"hx: expected 2 tensors \(h, c\)"):
            ours.LSTMCell(I, H)(x, hx)
    with pytest.raises(errors.ArgumentTypeError, match=r"hx: expected a tensor \(h\), got ndarray"):
        ours.GRUCell(I, H)(x, h.numpy())
    with pytest.raises(errors.ArgumentError, match=r"^hx: expected dtype float32 as input is, got float64"):
        ours.RNNCell(I, H)(x, h.double())
    cell = ours.GRUCell(I, H)
    cell.weight_hh = nn.Parameter(cell.weight_hh.double())
    with pytest.raises(errors.ArgumentError, match=r"^weight_hh: expected dtype float32 as input is, got float64"):
        cell(x, h)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_two_gradients_share_memory(dtype):
    module = ours.LSTM(4, 16, dtype=dtype)
    module(torch.ones(3, 2, 4, dtype=dtype))[0].sum().backward()
    places = [parameter.grad.untyped_storage().data_ptr() for parameter in module.parameters()]
    assert len(set(places)) == len(places)


def test_states_may_be_written_to_as_autograd_allows():
    module, x = ours.LSTM(3, 5, num_layers=2), torch.randn(6, 2, 3)
    y, _, states = module(x, return_states=True)
    expected = torch.autograd.grad(y.sum(), module.weight_ih_l1)
    y, _, states = module(x, return_states=True)
    states[0][0].mul_(2)  # what layer 1 was given
    found = torch.autograd.grad(y.sum(), module.weight_ih_l1)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    y, _, states = module(x, return_states=True)
    loss = (states[-1][0] ** 2).sum()
    y.zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize("package", [nn, ours], ids=["torch", "ours"])
def test_errors_that_are_torchs(package):
    for shape in ((I,), (1, T, B, I)):
        with pytest.raises(ValueError, match=f"^GRU: Expected input to be 2D or 3D, got {len(shape)}D instead$"):
            package.GRU(I, H)(torch.zeros(shape))
    with pytest.raises(RuntimeError, match=r"input\.size"):
        package.LSTM(I, H)(torch.randn(T, B, I + 1))
    with pytest.raises(ValueError, match="does not match weight dtype"):
        package.GRU(I, H)(torch.randn(T, B, I, dtype=torch.float64))
    with pytest.raises(RuntimeError, match="Expected hidden size"):
        package.GRU(I, H)(torch.randn(T, B, I), torch.zeros(2, B, H))
    with pytest.raises(RuntimeError, match=r"Expected hidden\[1\] size"):
        package.LSTM(I, H)(torch.randn(T, B, I), (torch.zeros(1, B, H), torch.zeros(1, B, H + 1)))
    with pytest.raises(ValueError, match="Unknown nonlinearity"):
        package.RNN(I, H, nonlinearity="cube")
    with pytest.raises(ValueError, match="proj_size has to be smaller"):
        package.LSTM(I, H, proj_size=H)
    with pytest.raises(ValueError, match="input_size must be greater"):
        package.LSTM(0, H)
