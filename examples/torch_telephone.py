"""As in recognising speech: which keys of a telephone were pressed, from the sound. A bidirectional GRU, and CTC.

python torch_telephone.py

A key sounds as two tones at once (ITU-T Q.23), for a while that differs, with a pause that differs, in noise. Nobody
says at which moment of a recording which key sounds: the connectionist temporal classification of Graves et al. (2006)
sums over all alignments. Recordings of any length go into one batch as they are, with `lengths`.
"""

import itertools
import math

import torch
from torch import nn

from rnn_gpu.torch import GRU

KEYS = "0123456789"
LOW, HIGH = (697, 770, 852, 941), (1209, 1336, 1477)
TONES = dict(zip("123456789*0#", itertools.product(LOW, HIGH), strict=True))
RATE, FRAME, HOP = 8000, 200, 100
"""Samples a second, and of a frame and from one frame to the next."""
BINS = slice(14, 40)
"""Of a frame's spectrum, 40 Hz each: 560 to 1560 Hz."""


def recording(number, generator):
    """The sound of a telephone number, in noise: its log spectrum (frames, bins)."""

    def uniform(low, high):
        return low + (high - low) * float(torch.rand((), generator=generator))

    pieces = []
    for key in number:
        time = torch.arange(int(RATE * uniform(0.05, 0.12))) / RATE
        low, high = (torch.sin(2 * math.pi * (tone * time + uniform(0, 1))) for tone in TONES[key])
        pieces += [torch.zeros(int(RATE * uniform(0.03, 0.12))), uniform(0.5, 1) * low + uniform(0.5, 1) * high]
    sound = torch.cat([*pieces, torch.zeros(FRAME)])
    sound += 1.5 * torch.randn(sound.shape, generator=generator)
    frames = sound.unfold(0, FRAME, HOP) * torch.hann_window(FRAME)
    return torch.fft.rfft(frames).abs()[:, BINS].log1p() - 2.5


def batch(rows, generator):
    """x (T, B, bins), the recordings' lengths (B,), and the numbers, as text."""
    sizes = torch.randint(3, 11, (rows,), generator=generator).tolist()
    numbers = ["".join(KEYS[k] for k in torch.randint(len(KEYS), (size,), generator=generator)) for size in sizes]
    recordings = [recording(number, generator) for number in numbers]
    x = nn.utils.rnn.pad_sequence(recordings)
    return x, torch.tensor([len(frames) for frames in recordings]), numbers


class Listener(nn.Module):
    """x (T, B, bins) to the logarithms of probabilities (T, B, 1 + keys): the first is of no key."""

    def __init__(self, hidden=32):
        super().__init__()
        self.gru = GRU(BINS.stop - BINS.start, hidden, bidirectional=True)
        self.output = nn.Linear(2 * hidden, 1 + len(KEYS))

    def forward(self, x, lengths):
        y, _ = self.gru(x, lengths=lengths)
        return self.output(y).log_softmax(-1)


def heard(scores, lengths):
    """The likeliest keys of each row: of a run of equal ones the first, and of those the ones that are keys."""
    best = scores.argmax(-1)
    rows = [best[:length, row].unique_consecutive().tolist() for row, length in enumerate(lengths.tolist())]
    return ["".join(KEYS[k - 1] for k in row if k) for row in rows]


def main(updates=300, rows=16):
    """Train; return the losses, the share of new numbers that are heard right, and each beside what is heard."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(1)
    listener = Listener()
    optimizer = torch.optim.Adam(listener.parameters(), lr=0.01)
    losses = []
    for _ in range(updates):
        x, lengths, numbers = batch(rows, generator)
        keys = torch.tensor([KEYS.index(key) + 1 for number in numbers for key in number])
        sizes = torch.tensor([len(number) for number in numbers])
        loss = nn.functional.ctc_loss(listener(x, lengths), keys, lengths, sizes)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(listener.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    with torch.no_grad():
        x, lengths, numbers = batch(200, generator)
        found = heard(listener(x, lengths), lengths)
    right = sum(map(str.__eq__, found, numbers)) / len(numbers)
    return losses, right, list(zip(numbers, found, strict=True))


if __name__ == "__main__":
    losses, right, pairs = main()
    print(
        f"loss {losses[0]:.2f} -> {losses[-1]:.2f}; {right:.0%} of 200 new numbers are heard without a mistake, such as"
    )
    for number, found in pairs[:5]:
        print(f"  {number:10}  heard {found}")
