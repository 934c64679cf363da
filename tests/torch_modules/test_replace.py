"""replace(): a model's recurrent modules become ours, and nothing else changes."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import rnn_gpu.torch as ours
from rnn_gpu.errors import ArgumentTypeError


class Tagger(nn.Module):
    """A part-of-speech tagger as it is in many a tutorial."""

    def __init__(self, words=40, embedding=8, hidden=6, tags=5):
        super().__init__()
        self.embedding = nn.Embedding(words, embedding, padding_idx=0)
        self.lstm = nn.LSTM(embedding, hidden, num_layers=2, bidirectional=True, batch_first=True, dropout=0.3)
        self.output = nn.Linear(2 * hidden, tags)

    def forward(self, words, lengths):
        packed = pack_padded_sequence(self.embedding(words), lengths, batch_first=True, enforce_sorted=False)
        y, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True)
        return self.output(y)


def test_a_tagger():
    model = Tagger().eval()
    words, lengths = torch.randint(1, 40, (4, 7)), torch.tensor([5, 7, 1, 4])
    expected = model(words, lengths)
    parameters = dict(model.named_parameters())
    report = ours.replace(model)
    assert report.model is model
    assert report.replaced == {"lstm": "torch.nn.LSTM"}
    assert report.left == {}
    assert str(report) == "replaced lstm: torch.nn.LSTM"
    assert type(model.lstm) is ours.LSTM
    assert not model.lstm.training
    assert model.lstm.dropout == 0.3
    torch.testing.assert_close(model(words, lengths), expected, rtol=0, atol=1e-6)
    for name, parameter in model.named_parameters():
        assert parameter is parameters[name]
    model(words, lengths).sum().backward()
    assert model.lstm.weight_hh_l1_reverse.grad.any()
    assert ours.replace(model).replaced == {}


class Odd(nn.GRU):
    pass


def test_the_report_says_what_was_left():
    shared = nn.GRU(3, 4)
    hooked = nn.RNN(3, 4)
    hooked.register_forward_hook(lambda *_: None)
    normed = weight_norm(nn.LSTM(3, 4), "weight_hh_l0")
    model = nn.ModuleDict({
        "a": shared, "b": nn.Sequential(shared, nn.Linear(4, 2)), "odd": Odd(3, 4), "hooked": hooked, "normed": normed,
        "relu": nn.RNN(3, 4, nonlinearity="relu"), "projected": nn.LSTM(3, 4, proj_size=2), "cell": nn.GRUCell(3, 4),
        "rnn_cell": nn.RNNCell(3, 4, nonlinearity="relu"), "mine": ours.LSTM(3, 4),
    })  # fmt: skip
    report = ours.replace(model)
    assert list(report.replaced) == ["a", "b.0", "relu", "projected", "cell", "rnn_cell"]
    assert model["a"] is model["b"][0]
    assert type(model["a"]) is ours.GRU
    assert type(model["cell"]) is ours.GRUCell
    assert model["relu"].nonlinearity == model["rnn_cell"].nonlinearity == "relu"
    assert model["projected"](torch.randn(2, 1, 3))[0].shape == (2, 1, 2)
    assert set(report.left) == {"odd", "hooked", "normed"}
    assert "class of its own" in report.left["odd"]
    assert "left hooked: it has hooks" in str(report)
    assert "left normed: its weights are parametrised" in str(report)


def test_a_module_that_is_the_model():
    model = nn.LSTM(3, 4)
    report = ours.replace(model)
    assert type(report.model) is ours.LSTM
    assert report.model.weight_ih_l0 is model.weight_ih_l0
    assert str(report) == "replaced the model itself: torch.nn.LSTM"
    assert str(ours.replace(nn.Linear(1, 1))).startswith("the model has no torch.nn.RNN")
    with pytest.raises(ArgumentTypeError, match=r"model: expected a torch\.nn\.Module, got int"):
        ours.replace(3)
