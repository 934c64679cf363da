"""A cell of your own, trained on a small task: keep the first number of a sequence in mind until its end.

python own_cell.py                         the task
rnn-gpu train --cell own_cell:ugrnn        or a language model with the same cell
"""

import numpy as np

import rnn_gpu
from rnn_gpu.compiler.language import cell, sigmoid, tanh


@cell(gates="cg", states="h", forget="g")
def ugrnn(Wx, U, h):
    """Update gate RNN. Collins, Sohl-Dickstein & Sussillo (2017), arXiv 1611.09913."""
    c = tanh(Wx.c + U.c(h))
    g = sigmoid(Wx.g + U.g(h))
    return g * h + (1 - g) * c


def main(updates: int = 300, steps: int = 20, rows: int = 32, hidden: int = 24) -> list[float]:
    """Train with Adam; return the mean squared error of each update. Guessing 0 every time gives 0.33."""
    rng = np.random.default_rng(0)
    weights = rnn_gpu.init_weights(ugrnn, input_size=2, hidden_size=hidden, scheme="keras")
    readout = rng.normal(scale=0.1, size=hidden).astype(np.float32)
    parameters = [*(array for _, array in weights.items()), readout]
    mean, square = ([np.zeros_like(p) for p in parameters] for _ in range(2))
    errors = []
    for update in range(1, updates + 1):
        x = np.zeros((steps, rows, 2), np.float32)
        x[:, :, 0] = rng.uniform(-1, 1, (steps, rows))
        x[0, :, 1] = 1  # marks the number to keep

        _, (h,), tape = rnn_gpu.forward(ugrnn, x, weights)
        difference = h @ readout - x[0, :, 0]
        errors.append(float(np.mean(difference**2)))

        d_guess = 2 * difference / rows
        found = rnn_gpu.backward(tape, dlast=(np.outer(d_guess, readout),)).weights
        gradients = [*(array for _, array in found.items()), d_guess @ h]
        for p, g, m, s in zip(parameters, gradients, mean, square, strict=True):
            m += 0.1 * (g - m)
            s += 0.01 * (g * g - s)
            p -= 0.01 * (m / (1 - 0.9**update)) / (np.sqrt(s / (1 - 0.99**update)) + 1e-8)
    return errors


if __name__ == "__main__":
    print(ugrnn.source("python"))
    errors = main()
    for update in range(0, len(errors), 50):
        print(f"update {update:4}  mean squared error {np.mean(errors[update : update + 50]):.4f}")
