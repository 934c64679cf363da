"""Layers on the CPU by the addresses of their tensors: the bits of the general way, and all that autograd expects."""

from __future__ import annotations

import gc
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch.autograd import forward_ad
from torch.autograd.graph import save_on_cpu, saved_tensors_hooks
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence
from torch.utils.checkpoint import checkpoint

import rnn_gpu.torch as ours
from rnn_gpu import cells
from rnn_gpu.torch import direct

pytestmark = pytest.mark.usefixtures("compiled_backend")

T, B, I, H = 7, 3, 5, 18


@pytest.fixture
def ways(monkeypatch):
    """`ways(function)`: its results by addresses, which it must have taken, and those of the general way."""

    def both(function):
        calls, run = [], direct.run
        with monkeypatch.context() as patched:
            patched.setattr(direct, "run", lambda *arguments: calls.append(1) or run(*arguments))
            found = function()
        with monkeypatch.context() as patched:
            patched.setattr(direct, "layers_of", lambda *arguments: ())
            expected = function()
        assert calls
        return found, expected

    return both


def assert_same_bits(found, expected):
    for a, b in zip(found, expected, strict=True):
        assert a.shape == b.shape
        assert a.dtype == b.dtype
        assert torch.equal(a, b)


def trained(module, x, hx=None, weigh=lambda y: (y * y).sum(), parameters=None):
    y, last = module(x, hx)
    last = list(last) if isinstance(last, tuple) else [last]
    states = [] if hx is None else list(hx) if isinstance(hx, tuple) else [hx]
    inputs = [tensor for tensor in (x, *states, *(parameters or module.parameters())) if tensor.requires_grad]
    loss = weigh(y) + sum((k + 2) * state.sum() for k, state in enumerate(last))
    return [y, *last, *torch.autograd.grad(loss, inputs)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU"])
def test_the_same_bits_as_the_general_way(name, dtype, ways):
    for options in ({}, {"bias": False}, {"batch_first": True}, {"recompute": True}):
        module = getattr(ours, name)(I, H, dtype=dtype, **options)
        x = torch.randn(T, B, I, dtype=dtype)
        x = x.transpose(0, 1) if module.batch_first else x
        states = tuple(torch.randn(1, B, H, dtype=dtype, requires_grad=True) for _ in module.cell.states)
        hx = states if name == "LSTM" else states[0]
        for given in (None, hx):
            for requires in (False, True):
                x = x.detach().requires_grad_(requires)
                assert_same_bits(*ways(lambda x=x, given=given, module=module: trained(module, x, given)))
                with torch.no_grad():
                    assert_same_bits(*ways(lambda x=x, given=given, module=module: [module(x, given)[0]]))


@pytest.mark.parametrize(
    "options", [{"num_layers": 3}, {"bidirectional": True}, {"num_layers": 2, "bidirectional": True}]
)
@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU"])
def test_several_layers_and_both_directions(name, options, ways):
    for dropout in (0.0, 0.5) if "num_layers" in options else (0.0,):
        module = getattr(ours, name)(I, H, dropout=dropout, **options)
        n_places = module.num_layers * (2 if module.bidirectional else 1)
        states = tuple(torch.randn(n_places, B, H, requires_grad=True) for _ in module.cell.states)
        for hx in (None, states if name == "LSTM" else states[0]):
            for requires in (False, True):
                x = torch.randn(T, B, I, requires_grad=requires)

                def run(module=module, x=x, hx=hx):
                    torch.manual_seed(1)
                    return trained(module, x, hx)

                assert_same_bits(*ways(run))
                wide = torch.randn(T, B, 2 * I)[..., ::2].requires_grad_(requires)
                assert_same_bits(*ways(lambda run=run, wide=wide: run(x=wide)))
        with torch.no_grad():
            assert_same_bits(*ways(lambda module=module, x=x: [module.eval()(x)[0]]))
    y, last = module(x)
    torch.relu_(last[0] if name == "LSTM" else last)  # results may be written to
    torch.relu_(y).sum().backward()


STACKS = [{}, {"bidirectional": True}, {"num_layers": 2, "bidirectional": True, "dropout": 0.5}, {"recompute": True}]


@pytest.mark.parametrize("options", STACKS, ids=str)
@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU"])
def test_packed_batches(name, options, ways):
    module = getattr(ours, name)(I, H, **options)
    n_places = module.num_layers * (2 if module.bidirectional else 1)
    states = tuple(torch.randn(n_places, 4, H, requires_grad=True) for _ in module.cell.states)
    for lengths in ([3, 7, 1, 5], [7, 5, 5, 2], [7, 7, 7, 7]):
        for hx in (None, states if name == "LSTM" else states[0]):
            for requires in (False, True):
                x = torch.randn(T, 4, I, requires_grad=requires)

                def run(module=module, x=x, hx=hx, lengths=lengths, requires=requires):
                    torch.manual_seed(1)
                    packed = pack_padded_sequence(x, torch.tensor(lengths), enforce_sorted=lengths[0] == T)
                    y, last = module(packed, hx)
                    last = list(last) if isinstance(last, tuple) else [last]
                    inputs = [x] * requires + list(module.parameters()) + list(states if hx is not None else ())
                    loss = (y.data**2).sum() + sum((k + 2) * state.sum() for k, state in enumerate(last))
                    return [y.data, *last, *torch.autograd.grad(loss, inputs)]

                assert_same_bits(*ways(run))


RESETS = torch.rand(T, B, generator=torch.Generator().manual_seed(0)) < 0.4

OF_ROWS = {
    "resets": {"resets": RESETS},
    "resets laid out otherwise": {"resets": RESETS.t().contiguous().t()},
    "all reset": {"resets": torch.ones(T, B) > 0},
    "lengths": {"lengths": torch.tensor([4, 7, 1])},
    "equal lengths": {"lengths": torch.tensor([7, 7, 7])},
    "both": {"lengths": torch.tensor([4, 7, 1]), "resets": RESETS},
    "both, laid out otherwise": {"lengths": torch.tensor([4, 7, 1]), "resets": RESETS.t().contiguous().t()},
}


@pytest.mark.parametrize("of_rows", OF_ROWS)
@pytest.mark.parametrize("options", [*STACKS, {"batch_first": True}], ids=str)
@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU"])
def test_lengths_and_resets(name, options, of_rows, ways):
    module = getattr(ours, name)(I, H, **options)
    n_places = module.num_layers * (2 if module.bidirectional else 1)
    states = tuple(torch.randn(n_places, B, H, requires_grad=True) for _ in module.cell.states)
    x, given = torch.randn(T, B, I), OF_ROWS[of_rows]
    if "lengths" in given:
        x[torch.arange(T)[:, None] >= given["lengths"]] = torch.nan
    if module.batch_first:
        x = x.transpose(0, 1)
        given = given | ({"resets": given["resets"].t()} if "resets" in given else {})

    def called(*arguments):
        return module(*arguments, **given)

    for hx in (None, states if name == "LSTM" else states[0]):
        for requires in (False, True):
            x = x.detach().requires_grad_(requires)

            def run(x=x, hx=hx):
                torch.manual_seed(1)
                return trained(called, x, hx, parameters=module.parameters())

            assert_same_bits(*ways(run))
    with torch.no_grad():
        module.eval()
        assert_same_bits(*ways(lambda: [called(x)[0]]))


@pytest.mark.parametrize("of_rows", OF_ROWS)
def test_lengths_and_resets_and_autograd(of_rows):
    module, x = ours.GRU(I, H, bidirectional=True), torch.randn(T, B, I, requires_grad=True)
    given = {name: tensor.clone() for name, tensor in OF_ROWS[of_rows].items()}
    inputs = [x, *module.parameters()]

    def loss():
        return module(x, **given)[0].pow(2).sum()

    def loss_by_way_of_hooks():
        with save_on_cpu():
            return loss()

    expected = torch.autograd.grad(loss(), inputs)
    assert_same_bits(torch.autograd.grad(loss_by_way_of_hooks(), inputs), expected)
    gradients = torch.autograd.grad(loss(), inputs, create_graph=True)
    assert_same_bits([gradient.detach() for gradient in gradients], expected)
    with pytest.raises(NotImplementedError, match="no gradients of gradients"):
        gradients[0].sum().backward()
    y = loss()
    for tensor in given.values():  # of which the call has copies
        tensor.fill_(1000)
    assert_same_bits(torch.autograd.grad(y, inputs), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_lengths_and_resets_of_large_tensors_and_in_threads(dtype, ways):
    module = ours.LSTM(64, 128, dtype=dtype)
    x = torch.randn(40, 16, 64, dtype=dtype, requires_grad=True)
    lengths = torch.randint(1, 41, (4, 16), generator=torch.Generator().manual_seed(1))
    resets = torch.rand(40, 16, generator=torch.Generator().manual_seed(2)) < 0.1

    def of(of_call):
        y, _ = module(x, lengths=of_call, resets=resets)
        return [y, *torch.autograd.grad(y.pow(2).sum(), [x, *module.parameters()])]

    expected = []
    for of_call in lengths:
        found, general = ways(lambda of_call=of_call: of(of_call))
        assert_same_bits(found, general)
        expected.append(found)
    with ThreadPoolExecutor(4) as pool:
        for _ in range(3):
            for found, alone in zip(pool.map(of, lengths), expected, strict=True):
                assert_same_bits(found, alone)


def test_another_default_device():
    module, x = ours.GRU(I, H), torch.randn(T, B, I)
    expected = module(x, **OF_ROWS["both"])[0]
    with torch.device("meta"):
        assert torch.equal(module(x, **OF_ROWS["both"])[0], expected)


@pytest.mark.parametrize("wrong", [[T, T], [T, 1, -1], [T, 1, T + 1], [1.0, 2.0, 3.0]], ids=str)
def test_lengths_that_are_none(wrong):
    module, x = ours.GRU(I, H), torch.randn(T, B, I)
    module(x, lengths=torch.tensor([T, 1, 2]))  # such calls are known
    with pytest.raises(ValueError, match="lengths: expected"):
        module(x, lengths=torch.tensor(wrong))


@pytest.mark.parametrize("wrong", [torch.zeros(T, B + 1) > 0, torch.zeros(T) > 0, torch.zeros(T, B)], ids=str)
def test_resets_that_are_none(wrong):
    module, x = ours.GRU(I, H), torch.randn(T, B, I)
    module(x, resets=torch.zeros(T, B, dtype=torch.bool))  # such calls are known
    with pytest.raises(ValueError, match="resets: expected"):
        module(x, resets=wrong)


def test_packed_batches_that_are_none():
    module, x = ours.GRU(I, H), torch.randn(T * B, I)
    for sizes in ([B] * T + [1], [1, B, B], [B] * (T - 1), [B + 1] * T, [B] * T + [0]):
        with pytest.raises(ValueError, match="input: expected a PackedSequence"):
            module(PackedSequence(x, torch.tensor(sizes)))
    none = torch.zeros(0, dtype=torch.int64)
    for wrong in (torch.full((T,), B, dtype=torch.int32), none, torch.tensor([[1, T * B - 1]]), torch.tensor(T * B)):
        for hx in (None, torch.zeros(1, B, H)):
            with pytest.raises((ValueError, RuntimeError), match=r"input: expected a PackedSequence|hidden size"):
                module(PackedSequence(x, wrong), hx)
    with pytest.raises(ValueError, match="input: expected a PackedSequence"):
        module(PackedSequence(x, torch.tensor([2**62] * 4 + [T * B])))


def test_sizes_that_change_after_the_call():
    module, x = ours.GRU(I, H), torch.randn(T, B, I)
    gradients = []
    for changed in (False, True):
        packed = pack_padded_sequence(x, torch.tensor([7, 2, 1]))
        loss = module(packed)[0].data.pow(2).sum()
        if changed:
            packed.batch_sizes.fill_(1000)
        gradients.append(torch.autograd.grad(loss, list(module.parameters())))
    assert_same_bits(*gradients)


def test_gradients_of_gradients_of_packed_batches_are_refused():
    module, x = ours.GRU(I, H), torch.randn(T, B, I, requires_grad=True)

    def loss():
        return module(pack_padded_sequence(x, torch.tensor([7, 2, 1])))[0].data.pow(2).sum()

    inputs = [x, *module.parameters()]
    gradients = torch.autograd.grad(loss(), inputs, create_graph=True)
    assert_same_bits([gradient.detach() for gradient in gradients], torch.autograd.grad(loss(), inputs))
    with pytest.raises(NotImplementedError, match="no gradients of gradients"):
        gradients[0].sum().backward()


def test_gradients_of_a_stack_that_is_partly_frozen(ways):
    module = ours.GRU(I, H, 2, bidirectional=True)
    for name, parameter in module.named_parameters():
        parameter.requires_grad_("l1" in name)
    assert_same_bits(*ways(lambda: trained(module, torch.ones(T, B, I))))


def test_cells_one_sequence_and_a_projection(ways):
    x, h, c = (torch.randn(B, n, requires_grad=True) for n in (I, H, H))
    cell = ours.LSTMCell(I, H)

    def stepped():
        new = cell(x, (h, c))
        return [*new, *torch.autograd.grad(new[0].sum() + 2 * new[1].sum(), [x, h, c, *cell.parameters()])]

    assert_same_bits(*ways(stepped))
    assert_same_bits(*ways(lambda: trained(ours_lstm, x)))
    assert_same_bits(*ways(lambda: trained(projected, x[None].detach().requires_grad_())))


ours_lstm, projected = ours.LSTM(I, H), ours.LSTM(I, H, proj_size=4)


def test_tensors_of_unusual_layout(ways):
    module = ours.LSTM(I, H)
    wide = torch.randn(T, B, 2 * I, requires_grad=True)
    assert_same_bits(*ways(lambda: trained(module, wide[..., ::2].detach().requires_grad_())))
    complex_x = torch.randn(T, B, I, dtype=torch.complex64)
    negated = complex_x.conj().imag
    assert negated.is_neg()
    assert torch.equal(module(negated)[0], module(negated.resolve_neg())[0])
    x = torch.randn(T, B, I, requires_grad=True)
    assert_same_bits(*ways(lambda: trained(module, x, weigh=torch.sum)))  # a gradient that is one number, expanded
    assert_same_bits(*ways(lambda: trained(module, x, weigh=lambda y: y.transpose(0, 2).contiguous().pow(2).sum())))
    with torch.no_grad():
        module.weight_hh_l0.set_(torch.randn(H, 4 * H).t())
    assert_same_bits(*ways(lambda: trained(module, x)))


def test_only_a_last_state_is_used(ways):
    module, x = ours.LSTM(I, H), torch.randn(T, B, I, requires_grad=True)
    inputs = [x, *module.parameters()]
    for which in (0, 1):
        assert_same_bits(*ways(lambda which=which: torch.autograd.grad(module(x)[1][which].sum(), inputs)))


def test_which_calls_go_the_general_way(monkeypatch):
    x = torch.randn(T, B, I)
    for module in (ours.LSTM(I, H), ours.LSTM(I, H, dtype=torch.float64)):
        module(x.to(module.weight_hh_l0.dtype))  # such calls are known, and others must not be taken for them
    monkeypatch.setattr(direct, "run", lambda *arguments: pytest.fail("by addresses"))
    ours.LSTM(I, H)(x, lengths=torch.tensor([T, 1, 0]))
    ours.LSTM(I, H)(x, resets=torch.zeros(T, B, dtype=torch.bool), return_states=True)
    ours.LSTM(I, H)(x, lengths=torch.tensor([T, 1, 1], dtype=torch.int32))
    ours.LSTM(I, H)(x, return_states=True)
    ours.LSTM(I, H, cell=cells.lstm_peephole)(x)
    ours.LSTM(I, H, dtype=torch.bfloat16)(x.bfloat16())
    ours.LSTM(I, H, dtype=torch.float16)(x.half())
    ours.LSTM(I, H, backend="numpy_cpu")(x)
    ours.LSTM(I, H)(x[:0])
    packed = pack_padded_sequence(x, torch.tensor([T, 2, 1]))
    ours.LSTM(I, H, backend="numpy_cpu")(packed)
    ours.LSTM(I, H, cell=cells.lstm_peephole)(packed)
    ours.LSTM(I, H, dtype=torch.float16)(pack_padded_sequence(x.half(), torch.tensor([T, 2, 1])))
    with torch.autocast("cpu", torch.bfloat16):
        ours.LSTM(I, H)(x)
        ours.LSTM(I, H)(packed)
    monkeypatch.setenv("RNN_GPU_BACKEND", "numpy_cpu")
    ours.LSTM(I, H)(x)


class Wrapped(torch.Tensor):
    """A tensor whose numbers are elsewhere."""

    @staticmethod
    def __new__(cls, tensor):
        return torch.Tensor._make_wrapper_subclass(cls, tensor.shape, dtype=tensor.dtype)

    __torch_dispatch__ = None


def test_tensors_without_memory_of_their_own():
    module, x = ours.GRU(I, H), torch.zeros(T, B, I)
    expected, _ = module(x)
    assert torch.equal(module(torch._efficientzerotensor((T, B, I)))[0], expected)
    del module.weight_hh_l0
    module.weight_hh_l0 = Wrapped(torch.zeros(3 * H, H))
    with torch.no_grad(), pytest.raises((RuntimeError, TypeError, ValueError)):
        module(x)


@pytest.mark.parametrize(
    "change",
    [lambda t: t.double(), lambda t: t.half().float().double(), lambda t: t.flatten()[:1], lambda t: t.to_sparse()],
)
def test_saved_tensors_of_another_kind_are_refused(change):
    module, x = ours.GRU(I, H), torch.randn(T, B, I)
    with saved_tensors_hooks(lambda tensor: tensor, change):
        y = module(x)[0].sum()
    with pytest.raises(RuntimeError, match="a hook of saved tensors has made"):
        y.backward()


def test_saved_tensors_of_another_layout():
    module, x = ours.GRU(I, H), torch.randn(T, B, I, requires_grad=True)
    expected = trained(module, x)

    def strided(tensor):
        wide = torch.stack([tensor, tensor], dim=-1)
        return wide[..., 0]

    with saved_tensors_hooks(lambda tensor: tensor, strided):
        assert_same_bits(trained(module, x), expected)


def test_what_is_wrong_is_said_as_ever():
    module = ours.LSTM(I, H)
    with pytest.raises((ValueError, RuntimeError), match="dtype"):
        module(torch.randn(T, B, I, dtype=torch.float64))
    module.weight_hh_l0 = torch.nn.Parameter(torch.randn(4 * H, H + 1))
    with pytest.raises(ValueError, match="weight_hh_l0: expected shape"):
        module(torch.randn(T, B, I))
    module = ours.LSTM(I, H, 2)
    module.weight_ih_l1 = torch.nn.Parameter(torch.randn(4 * H, H + 1))
    with pytest.raises(ValueError, match="weight_ih_l1: expected shape"):
        module(torch.randn(T, B, I))
    for states in (torch.zeros(1, B, H + 1), torch.zeros(2, B, H)):
        with pytest.raises(RuntimeError, match="hidden"):
            ours.GRU(I, H)(torch.randn(T, B, I), states)
    with pytest.raises(ValueError, match="no_such"):
        ours.LSTM(I, H, backend="no_such")


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")  # torch's own make_dual
def test_derivatives_that_there_are_not():
    module, x = ours.GRU(I, H, 2), torch.randn(T, B, I)
    for mode in (torch.no_grad(), torch.enable_grad()):
        with mode, forward_ad.dual_level(), pytest.raises(NotImplementedError, match="forward-mode"):
            module(forward_ad.make_dual(x, torch.ones_like(x)))
    with forward_ad.dual_level(), torch.no_grad():
        assert torch.equal(module(x)[0], module(x)[0])
    y = module(x)[0]
    many = torch.ones(2, *y.shape)
    with pytest.raises(NotImplementedError, match="vectorised backward"):
        torch.autograd.grad(y, list(module.parameters()), many, is_grads_batched=True)


def test_weights_that_change_between_calls(ways):
    module, x = ours.GRU(I, H), torch.randn(T, B, I)
    for _ in range(3):
        assert_same_bits(*ways(lambda: trained(module, x)))
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.add_(torch.randn_like(parameter))


def test_autograds_rules():
    module, x = ours.GRU(I, H, dtype=torch.float64), torch.randn(T, B, I, dtype=torch.float64, requires_grad=True)
    inputs = [x, *module.parameters()]
    assert torch.autograd.gradcheck(lambda x, *weights: module(x), inputs, check_undefined_grad=True)
    y = module(x)[0].sum()
    for a, b in zip(
        torch.autograd.grad(y, inputs, retain_graph=True),
        torch.autograd.grad(y, inputs, create_graph=True),
        strict=True,
    ):
        assert torch.equal(a, b)
    (gradient,) = torch.autograd.grad(module(x)[0].sum(), x, create_graph=True)
    with pytest.raises(NotImplementedError, match="no gradients of gradients"):
        gradient.sum().backward()
    y = module(x)[0].sum()
    with torch.no_grad():
        module.weight_hh_l0 += 1
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.backward()
    y, h = module(x)
    torch.relu_(h)  # results are no views, and may be written to
    torch.relu_(y).sum().backward()


def test_what_is_kept_is_a_saved_tensor(monkeypatch):
    kept, forward = [], direct._forward

    def watched(*arguments):
        results = forward(*arguments)
        kept.append(weakref.ref(results[0]))
        return results

    monkeypatch.setattr(direct, "_forward", watched)
    module, x = ours.LSTM(I, H), torch.randn(T, B, I, requires_grad=True)
    expected = trained(module, x)
    y = module(x)[0]
    assert kept[-1]() is not None
    del y
    gc.collect()
    assert kept[-1]() is None
    with save_on_cpu():
        assert_same_bits(trained(module, x), expected)
    kept.clear()
    y = checkpoint(lambda x: module(x)[0], x, use_reentrant=False)
    assert kept[-1]() is None  # it is made again when it is wanted
    assert torch.equal(torch.autograd.grad((y * y).sum(), x)[0], torch.autograd.grad((module(x)[0] ** 2).sum(), x)[0])


def test_large_tensors_and_threads(ways):
    module = ours.LSTM(64, 128)
    x = torch.randn(40, 16, 64, requires_grad=True)
    results = []
    for threads in (1, 2):
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            found, expected = ways(lambda: trained(module, x))
        finally:
            torch.set_num_threads(before)
        assert_same_bits(found, expected)
        results.append(found)
    assert_same_bits(*results)


def test_a_gradient_that_is_not_wanted_is_not_made(monkeypatch):
    made, from_numpy = [], torch.from_numpy
    monkeypatch.setattr(torch, "from_numpy", lambda array: made.append(array.shape) or from_numpy(array))
    module = ours.LSTM(I, H)
    for requires in (False, True):
        x = torch.randn(T, B, I, requires_grad=requires)
        made.clear()
        module(x)[0].sum().backward()
        assert made.count((T, B, I)) == requires
    assert np.all([parameter.grad is not None for parameter in module.parameters()])
