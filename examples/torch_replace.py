"""A tagger as it stands in many a torch program, and what `rnn_gpu.torch.replace` makes of it: the same, faster.

python torch_replace.py        the text is that of Python's own help topics

The model has an embedding, two bidirectional layers of torch.nn.LSTM on packed sequences, and a linear layer. It is
copied, and the copy's LSTM replaced; both then train on the same batches, turn and turn about.
"""

import copy
import time
from statistics import median

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from torch_punctuation import TAGS, batch, sentences

from rnn_gpu.torch import replace


class Tagger(nn.Module):
    """Word numbers (B, T) and the rows' lengths (B,) to the tags' scores (B, T, 3). All of it is torch's."""

    def __init__(self, words, embedding=100, hidden=128):
        super().__init__()
        self.embedding = nn.Embedding(words, embedding)
        self.lstm = nn.LSTM(embedding, hidden, num_layers=2, bidirectional=True, batch_first=True)
        self.output = nn.Linear(2 * hidden, len(TAGS))

    def forward(self, words, lengths):
        packed = pack_padded_sequence(self.embedding(words), lengths, batch_first=True, enforce_sorted=False)
        y, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True)
        return self.output(y)


def main(updates=40, rows_a_batch=32):
    """Train both; return the report, and for each the scores before training, the losses and the seconds an update."""
    torch.manual_seed(0)
    rows = sentences()
    vocabulary = {word: k for k, word in enumerate(sorted({word for words, _ in rows for word in words}), 1)}
    theirs = Tagger(len(vocabulary) + 1)
    ours = copy.deepcopy(theirs)
    report = replace(ours)

    words, _, lengths = batch(rows[:rows_a_batch], vocabulary)
    with torch.no_grad():
        scores = [model(words, lengths) for model in (theirs, ours)]
    optimizers = [torch.optim.Adam(model.parameters(), lr=0.002) for model in (theirs, ours)]
    losses, seconds = ([], []), ([], [])
    for _ in range(updates):
        words, tags, lengths = batch([rows[k] for k in torch.randint(len(rows), (rows_a_batch,))], vocabulary)
        for k, (model, optimizer) in enumerate(zip((theirs, ours), optimizers, strict=True)):
            start = time.perf_counter()
            loss = nn.functional.cross_entropy(model(words, lengths).flatten(0, 1), tags.flatten())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            seconds[k].append(time.perf_counter() - start)
            losses[k].append(loss.item())
    return report, scores, losses, [median(each) for each in seconds]


if __name__ == "__main__":
    report, scores, losses, (theirs, ours) = main()
    print(report)
    print(f"scores before training differ by {float((scores[0] - scores[1]).abs().max()):.0e} at most")
    print(f"loss after {len(losses[0])} updates: {losses[0][-1]:.4f} and {losses[1][-1]:.4f}")
    print(
        f"an update takes {theirs * 1e3:.1f} ms with torch.nn.LSTM, {ours * 1e3:.1f} ms replaced: {theirs / ours:.2f}x"
    )
