"""The two operators: what torch's own checks say of them, compilers, and the life of what the forward pass keeps."""

from __future__ import annotations

import copy
import gc
import io
import subprocess
import sys

import pytest
import torch
from torch.autograd.graph import save_on_cpu, saved_tensors_hooks
from torch.utils.checkpoint import checkpoint

import rnn_gpu.torch as ours
from rnn_gpu import cells, functional
from rnn_gpu.torch import execution

T, B, I, H = 4, 3, 2, 3


def drawn(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def example(all_states=True):
    """A module, and the operator's arguments for a call of it that uses everything."""
    module = ours.LSTM(I, H, 2, bidirectional=True, dtype=torch.float64)
    resets = torch.zeros(T, B, dtype=torch.bool)
    resets[2, 0] = True
    call = execution.Call(module._key, module._names, H, bidirectional=True, all_states=all_states)
    x = drawn(T, B, I).requires_grad_()
    initial = [drawn(4, B, H).requires_grad_() for _ in range(2)]
    masks = (torch.rand(1, T, B, 2 * H, dtype=torch.float64) < 0.5) * 2.0
    return module, (x, list(module.parameters()), initial, torch.tensor([4, 0, 3]), resets, masks, *call, True)


@pytest.mark.parametrize("all_states", [False, True])
def test_opcheck(all_states):
    _, arguments = example(all_states)
    torch.library.opcheck(torch.ops.rnn_gpu.forward.default, arguments)
    y, last, states, token = torch.ops.rnn_gpu.forward(*arguments)
    x, weights, initial, *rest, _ = arguments

    def plain(tensors):
        return [tensor.detach() for tensor in tensors]

    d_states = torch.randn_like(states) if all_states else None
    d_outputs = torch.randn_like(y), torch.randn_like(last), d_states
    backward = (*d_outputs, token, x.detach(), plain(weights), plain(initial), *rest)
    torch.library.opcheck(torch.ops.rnn_gpu.backward.default, backward)


@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU"])
def test_gradcheck(name):
    module = getattr(ours, name)(I, H, 2, bidirectional=True, dtype=torch.float64)
    states = [drawn(4, B, H).requires_grad_() for _ in range(1 + (name == "LSTM"))]

    def function(x, *rest):
        hx = rest[: len(states)]
        y, last = module(x, hx if len(hx) > 1 else hx[0])
        return y, *(last if isinstance(last, tuple) else (last,))

    inputs = (drawn(T, B, I).requires_grad_(), *states, *module.parameters())
    assert torch.autograd.gradcheck(function, inputs, check_undefined_grad=True)


def counted(monkeypatch):
    """How often layers are run forward."""
    calls = []
    forward = functional.run_forward
    monkeypatch.setattr(functional, "run_forward", lambda *args, **kwargs: calls.append(1) or forward(*args, **kwargs))
    return calls


def results(module, x, **options):
    y, (h, c) = module(x, **options)
    return [y, h, c, *torch.autograd.grad((y * y).sum() + c.sum(), [x, *module.parameters()])]


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # torch's own, of its compiler
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_compiled_as_one_graph(backend, monkeypatch):
    torch._dynamo.reset()
    module = ours.LSTM(I, H, 2, bidirectional=True, dropout=0.0, dtype=torch.float64)
    compiled = torch.compile(module, fullgraph=True, backend=backend)
    for options in ({}, {"lengths": torch.tensor([4, 0, 2])}):
        for steps in (T, T + 3):
            x = drawn(steps, B, I).requires_grad_()
            expected = results(module, x, **options)
            found = results(compiled, x, **options)
            for a, b in zip(found, expected, strict=True):
                torch.testing.assert_close(a, b, rtol=0, atol=1e-12)
    calls = counted(monkeypatch)
    results(compiled, x, **options)
    assert len(calls) == 4  # two layers, two directions: what the backward pass needs was kept


def test_compiled_in_a_model_with_dropout_and_cells():
    torch._dynamo.reset()

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = ours.GRU(I, H, 2, dropout=0.5)
            self.cell = ours.LSTMCell(H, H)

        def forward(self, x):
            y, _ = self.rnn(torch.relu(x))
            h, c = self.cell(y[0])
            return self.cell(y[1], (h, c))[0].sum() + y.sum()

    model = Model()
    torch.compile(model, fullgraph=True, backend="aot_eager")(torch.randn(T, B, I)).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_gradients_of_gradients_are_refused():
    module = ours.GRU(I, H, dtype=torch.float64)
    x = drawn(T, B, I).requires_grad_()
    (gradient,) = torch.autograd.grad(module(x)[0].sum(), x, create_graph=True)
    (expected,) = torch.autograd.grad(module(x)[0].sum(), x)
    assert torch.equal(gradient, expected)
    with pytest.raises(NotImplementedError, match="no gradients of gradients"):
        gradient.sum().backward()


def test_backward_twice_through_one_graph():
    module = ours.LSTM(I, H, dtype=torch.float64)
    y = module(drawn(T, B, I))[0].sum()
    first = torch.autograd.grad(y, list(module.parameters()), retain_graph=True)
    for a, b in zip(first, torch.autograd.grad(y, list(module.parameters())), strict=True):
        assert torch.equal(a, b)


def test_weights_changed_before_backward_are_noticed():
    module = ours.LSTM(I, H, dtype=torch.float64)
    y = module(drawn(T, B, I))[0].sum()
    with torch.no_grad():
        module.weight_hh_l0 += 1
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.backward()


def tapes():
    gc.collect()
    return len(execution._tokens)


def test_what_is_kept_is_let_go():
    module = ours.LSTM(I, H, dtype=torch.float64)
    before = tapes()
    y = module(drawn(T, B, I))[0].sum()
    assert tapes() == before + 1
    y.backward()
    assert tapes() == before
    y = module(drawn(T, B, I))[0].sum()
    del y
    assert tapes() == before
    with torch.no_grad():
        module(drawn(T, B, I))
    module.requires_grad_(False)(drawn(T, B, I))
    assert tapes() == before


def test_checkpoints_and_copied_tokens_run_forward_again(monkeypatch):
    module = ours.LSTM(I, H, dtype=torch.float64)
    x = drawn(T, B, I).requires_grad_()
    expected = results(module, x)
    calls = counted(monkeypatch)
    y = checkpoint(lambda x: module(x)[0], x, use_reentrant=False)
    assert not len(execution._tokens)
    torch.testing.assert_close(torch.autograd.grad((y * y).sum(), x)[0].shape, x.shape)
    assert len(calls) == 2
    calls.clear()
    with save_on_cpu(), saved_tensors_hooks(lambda tensor: tensor.clone(), lambda tensor: tensor):
        y, (h, c) = module(x)
    found = [y, h, c, *torch.autograd.grad((y * y).sum() + c.sum(), [x, *module.parameters()])]
    assert len(calls) == 2
    for a, b in zip(found, expected, strict=True):
        assert torch.equal(a, b)


def test_no_copies_on_the_way_in(monkeypatch):
    seen = []
    forward = functional.run_forward

    def spy(*args, **kwargs):
        result = forward(*args, **kwargs)
        seen.append(result.tape.inputs)
        return result

    monkeypatch.setattr(functional, "run_forward", spy)
    module = ours.GRU(I, H)
    x = torch.randn(T, B, I)
    module(x)
    (inputs,) = seen
    addresses = [array.__array_interface__["data"][0] for array in (inputs.x, *dict(inputs.weights.items()).values())]
    assert addresses == [x.data_ptr(), *(parameter.data_ptr() for parameter in module.parameters())]


def test_copies_and_files():
    module = ours.LSTM(I, H, 2, cell=cells.lstm_peephole, dtype=torch.float64)
    x = drawn(T, B, I)
    expected = module(x)[0]
    twin = copy.deepcopy(module)
    assert torch.equal(twin(x)[0], expected)
    assert twin.cell is module.cell
    with torch.no_grad():
        twin.weight_ih_l0.zero_()
    assert torch.equal(module(x)[0], expected)
    file = io.BytesIO()
    torch.save(module.state_dict(), file)
    file.seek(0)
    other = ours.LSTM(I, H, 2, cell=cells.lstm_peephole, dtype=torch.float64)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(other(x)[0], expected)
    assert torch.equal(module.float()(x.float())[0], other.to(torch.float32)(x.float())[0])


def test_whole_modules_in_files(tmp_path):
    """A module is found whole in another process, with a cell of one's own too."""
    (tmp_path / "own.py").write_text(
        "from rnn_gpu.compiler.language import cell, tanh\n\n\n"
        '@cell(gates="n", states="h")\ndef own(Wx, U, h):\n    return tanh(Wx.n + 0.5 * U.n(h))\n'
    )
    make = (
        "import torch, rnn_gpu.torch as ours, own\ntorch.manual_seed(0)\n"
        "modules = [ours.RNN(2, 3, 2, cell=own.own), ours.LSTM(2, 3, bidirectional=True), ours.GRUCell(2, 3)]\n"
        "torch.save(modules, 'modules.pt')\nx = torch.randn(4, 3, 2)\n"
        "torch.save([x, modules[0](x)[0], modules[1](x)[0], modules[2](x[0])], 'results.pt')"
    )
    use = (
        "import torch\nmodules = torch.load('modules.pt', weights_only=False)\n"
        "x, *expected = torch.load('results.pt')\n"
        "found = modules[0](x)[0], modules[1](x)[0], modules[2](x[0])\n"
        "assert all(map(torch.equal, found, expected))\n"
        "import own\nassert modules[0].cell is own.own"
    )
    for code in (make, use):
        run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stderr


def test_meta_tensors_have_shapes():
    module = ours.LSTM(I, H, 2, bidirectional=True, device="meta")
    y, (h, c), states = module(torch.empty(T, B, I, device="meta"), return_states=True)
    assert y.shape == (T, B, 2 * H)
    assert h.shape == c.shape == (4, B, H)
    assert states[0][1].shape == y.shape


def test_without_torch_the_error_says_what_to_install():
    code = "import sys; sys.modules['torch'] = None\nimport rnn_gpu\nimport rnn_gpu.torch"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 1
    message = "ModuleNotFoundError: rnn_gpu.torch needs PyTorch, which is not installed: pip install 'rnn_gpu[torch]'"
    assert run.stderr.strip().splitlines()[-1] == message
