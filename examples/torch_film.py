"""Classifying video: does a film run forwards or backwards? A small convolution of each frame, and an LSTM over them.

python torch_film.py

A ball bounces, lower each time. No frame tells which way the film runs, and the films differ in length: what counts is
each film's own last state.
"""

import torch
from torch import nn

from rnn_gpu.torch import LSTM

SIZE = 16
"""Pixels of a frame, either way."""


def film(n_frames, generator):
    """Frames (T, SIZE, SIZE) of a ball that is thrown, to either side: a soft spot, brightest at its middle."""
    left, top, push, bounce = torch.rand(4, generator=generator).tolist()
    x, y, vx, vy = 3 + 10 * left, 2 + 6 * top, 0.3 * (2 * push - 1), 0.0
    keeps = 0.7 + 0.15 * bounce
    places = []
    for _ in range(n_frames):
        places.append((x, y))
        vy += 0.25
        x, y = x + vx, y + vy
        if y > SIZE - 2:
            y, vy = 2 * (SIZE - 2) - y, -keeps * vy
    x, y = torch.tensor(places).T[:, :, None, None]
    pixels = torch.arange(SIZE)
    return torch.exp(-((pixels - x) ** 2 + (pixels[:, None] - y) ** 2) / 2)


def batch(rows, generator):
    """Frames (T, B, SIZE, SIZE), the films' lengths (B,), and whether they run backwards (B,)."""
    lengths = torch.randint(15, 40, (rows,), generator=generator)
    backwards = torch.rand(rows, generator=generator) < 0.5
    films = [film(int(n_frames), generator) for n_frames in lengths]
    films = [frames.flip(0) if reverse else frames for frames, reverse in zip(films, backwards, strict=True)]
    return nn.utils.rnn.pad_sequence(films), lengths, backwards


class Watcher(nn.Module):
    """Frames (T, B, SIZE, SIZE) to a score (B,): above 0 for backwards."""

    def __init__(self, hidden=32):
        super().__init__()
        self.look = nn.Sequential(
            nn.Conv2d(1, 4, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(4, 8, 3, stride=2, padding=1), nn.ReLU()
        )
        self.lstm = LSTM(8 * (SIZE // 4) ** 2, hidden)
        self.output = nn.Linear(hidden, 1)

    def forward(self, frames, lengths):
        seen = self.look(frames.flatten(0, 1)[:, None]).reshape(*frames.shape[:2], -1)
        _, (h_n, _) = self.lstm(seen, lengths=lengths)
        return self.output(h_n[-1]).squeeze(-1)


def main(updates=120, rows=16):
    """Train; return the losses, and the share of new films of which it is told which way they run."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(1)
    watcher = Watcher()
    optimizer = torch.optim.Adam(watcher.parameters(), lr=0.01)
    losses = []
    for _ in range(updates):
        frames, lengths, backwards = batch(rows, generator)
        loss = nn.functional.binary_cross_entropy_with_logits(watcher(frames, lengths), backwards.float())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    with torch.no_grad():
        frames, lengths, backwards = batch(200, generator)
        right = ((watcher(frames, lengths) > 0) == backwards).float().mean()
    return losses, float(right)


if __name__ == "__main__":
    losses, right = main()
    print(f"loss {losses[0]:.3f} -> {losses[-1]:.3f}; of 200 new films, {right:.1%} are told right")
