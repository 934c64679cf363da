"""Forecasting a time series: the sunspots of the coming year from those of the years before, with a GRU in torch.

python torch_sunspots.py        needs statsmodels, which brings the numbers: yearly means from 1700 to 2008
"""

import numpy as np
import torch
from statsmodels.datasets import sunspots
from torch import nn

from rnn_gpu.torch import GRU

FIRST_TEST_YEAR = 1950


class Forecaster(nn.Module):
    """x (B, T, 1) to the forecast of the next value after each step (B, T)."""

    def __init__(self, hidden=24):
        super().__init__()
        self.gru = GRU(1, hidden, batch_first=True)
        self.output = nn.Linear(hidden, 1)

    def forward(self, x):
        y, _ = self.gru(x)
        return x[..., 0] + self.output(y)[..., 0]  # what is learnt is the change from one year to the next


def data():
    """The square roots of the numbers, about of one spread at every height, and the years."""
    table = sunspots.load_pandas().data
    years = table["YEAR"].to_numpy().astype(int)
    return torch.from_numpy(np.sqrt(table["SUNACTIVITY"].to_numpy())).float() / 10, years


def main(updates=400, window=44):
    """Train on windows before FIRST_TEST_YEAR; return the losses, and the root mean squared errors of the test years.

    The errors, in sunspots, are those of the network and of the guess that next year is as this year.
    """
    torch.manual_seed(0)
    series, years = data()
    n_train = int((years < FIRST_TEST_YEAR).sum())
    windows = series[:n_train].unfold(0, window + 1, 1)
    model = Forecaster()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.005, weight_decay=1e-4)
    losses = []
    for _ in range(updates):
        batch = windows[torch.randint(len(windows), (32,))]
        forecast = model(batch[:, :-1, None])
        loss = nn.functional.mse_loss(forecast[:, 8:], batch[:, 9:])  # the first years only warm it up
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())

    with torch.no_grad():
        forecast = model(series[None, :-1, None])[0, n_train - 1 :]

    def error(found):
        numbers, truth = (10 * found) ** 2, (10 * series[n_train:]) ** 2
        return float(((numbers - truth) ** 2).mean().sqrt())

    return losses, error(forecast.clamp(min=0)), error(series[n_train - 1 : -1])


if __name__ == "__main__":
    losses, network, persistence = main()
    print(f"loss {losses[0]:.4f} -> {np.mean(losses[-20:]):.4f}")
    print(f"error from {FIRST_TEST_YEAR} on: {network:.1f} sunspots; {persistence:.1f} by guessing 'as this year'")
