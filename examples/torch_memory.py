"""A memory task with resets: many short episodes in one long row, as a reinforcement learner meets them.

python torch_memory.py

The corridor with a T at its end (Bakker 2002): a light at the start of an episode says whether to turn left or right at
its end, which comes after a number of steps that differs. Episodes follow each other in a row without a gap; `resets`
zeroes the state where one begins, so that no row is ever cut or padded, and no light of an old episode misleads.
"""

import torch
from torch import nn

from rnn_gpu.torch import LSTM


def episodes(steps, rows, generator):
    """x (T, B, 4): light left, light right, corridor, junction; turns (T, B), -100 but at junctions; resets (T, B)."""
    x = torch.zeros(steps, rows, 4)
    turns = torch.full((steps, rows), -100)
    resets = torch.zeros(steps, rows, dtype=torch.bool)
    for row in range(rows):
        start = 0
        while start < steps:
            length = int(torch.randint(3, 15, (1,), generator=generator))
            side = int(torch.randint(2, (1,), generator=generator))
            resets[start, row] = True
            x[start, row, side] = 1
            x[start + 1 : start + length - 1, row, 2] = 1
            if start + length <= steps:
                x[start + length - 1, row, 3] = 1
                turns[start + length - 1, row] = side
            start += length
    return x, turns, resets


class Agent(nn.Module):
    """x (T, B, 4) and resets (T, B) to the scores of left and right (T, B, 2)."""

    def __init__(self, hidden=16):
        super().__init__()
        self.lstm = LSTM(4, hidden)
        self.output = nn.Linear(hidden, 2)

    def forward(self, x, resets):
        y, _ = self.lstm(x, resets=resets)
        return self.output(y)


def main(updates=150, steps=60, rows=16):
    """Train; return the losses, and the share of right turns in new episodes."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(1)
    agent = Agent()
    optimizer = torch.optim.Adam(agent.parameters(), lr=0.02)
    losses = []
    for _ in range(updates):
        x, turns, resets = episodes(steps, rows, generator)
        loss = nn.functional.cross_entropy(agent(x, resets).flatten(0, 1), turns.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    with torch.no_grad():
        x, turns, resets = episodes(steps, 4 * rows, generator)
        guess = agent(x, resets).argmax(-1)
    at_junction = turns >= 0
    return losses, float((guess == turns)[at_junction].float().mean())


if __name__ == "__main__":
    losses, right = main()
    print(f"loss {losses[0]:.3f} -> {losses[-1]:.3f}; {right:.1%} of the turns are right, where guessing gives 50%")
