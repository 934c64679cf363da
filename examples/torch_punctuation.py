"""Tagging text with ragged rows: where do commas and full stops belong? A bidirectional LSTM in torch.

python torch_punctuation.py        the text is that of Python's own help topics

Rows of any length go into one batch as they are, with `lengths`: nothing is sorted, nothing packed, and the backward
direction starts at each row's own end.
"""

import pydoc_data.topics
import re
from collections import Counter

import torch
from torch import nn

from rnn_gpu.torch import LSTM

TAGS = ("", ",", ".")


def sentences():
    """Lists of words in lower case, and for each the number of the tag that follows it. Two sentences a row."""
    text = " ".join(pydoc_data.topics.topics[name] for name in sorted(pydoc_data.topics.topics))
    pieces = [piece.split() for piece in re.split(r"(?<=[a-z)]\.)\s+(?=[A-Z])", text)]
    rows = []
    for first, second in zip(pieces[::2], pieces[1::2], strict=False):
        found = [(re.sub(r"[^a-z']", "", word.lower()), word[-1]) for word in (*first, *second)]
        found = [(word, TAGS.index(last) if last in TAGS else 0) for word, last in found if word]
        if 8 <= len(found) <= 50:
            rows.append(tuple(zip(*found, strict=True)))
    return rows


class Tagger(nn.Module):
    """Word numbers (B, T) and the rows' lengths (B,) to the tags' scores (B, T, 3)."""

    def __init__(self, words, embedding=48, hidden=48):
        super().__init__()
        self.embedding = nn.Embedding(words, embedding)
        self.lstm = LSTM(embedding, hidden, num_layers=2, bidirectional=True, batch_first=True, dropout=0.2)
        self.output = nn.Linear(2 * hidden, len(TAGS))

    def forward(self, words, lengths):
        y, _ = self.lstm(self.embedding(words), lengths=lengths)
        return self.output(y)


def batch(rows, vocabulary):
    """Words and tags, padded, and the lengths. What pads does not matter: it is never read; -100 is no tag."""
    lengths = torch.tensor([len(words) for words, _ in rows])
    words = torch.zeros(len(rows), int(lengths.max()), dtype=torch.int64)
    tags = torch.full_like(words, -100)
    for row, (of_words, of_tags) in enumerate(rows):
        words[row, : len(of_words)] = torch.tensor([vocabulary.get(word, 0) for word in of_words])
        tags[row, : len(of_tags)] = torch.tensor(of_tags)
    return words, tags, lengths


def main(updates=200, rows_a_batch=16):
    """Train; return the losses, and on rows not seen the share of marks found, and the share that frequency gives."""
    torch.manual_seed(0)
    rows = sentences()
    order = torch.randperm(len(rows)).tolist()
    test, train = ([rows[k] for k in part] for part in (order[:100], order[100:]))
    counts = Counter(word for words, _ in train for word in words)
    vocabulary = {word: k for k, (word, _) in enumerate(counts.most_common(1500), 1)}
    model = Tagger(len(vocabulary) + 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.005)
    losses = []
    for _ in range(updates):
        words, tags, lengths = batch([train[k] for k in torch.randint(len(train), (rows_a_batch,))], vocabulary)
        loss = nn.functional.cross_entropy(model(words, lengths).flatten(0, 1), tags.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())

    model.eval()
    with torch.no_grad():
        words, tags, lengths = batch(test, vocabulary)
        guess = model(words, lengths).argmax(-1)
    marked = tags > 0
    found = ((guess == tags) & marked).sum() / marked.sum()
    claimed = (guess > 0) & (tags >= 0)
    right = ((guess == tags) & claimed).sum() / claimed.sum().clamp(min=1)
    return losses, float(found), float(right)


if __name__ == "__main__":
    losses, found, right = main()
    print(f"loss {losses[0]:.3f} -> {sum(losses[-20:]) / 20:.3f}")
    print(f"of the commas and full stops in text not seen, {found:.0%} are found; {right:.0%} of those put are right")
