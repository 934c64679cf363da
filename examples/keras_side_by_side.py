"""The example of keras_simple_rnn.py with keras.layers and with rnn_gpu.keras: time, and the loss of each epoch.

python keras_side_by_side.py --epochs 500 --plot keras.png --json keras.json

Both train in this process on the same data from the same initial weights, turn and turn about, ten epochs a turn, so
that whatever else the machine does falls on both. The first epoch, which compiles, is timed apart.
"""

import argparse
import json
import os
import time
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import numpy as np

import rnn_gpu.keras

PACKAGES = {"keras.layers": keras.layers, "rnn_gpu.keras": rnn_gpu.keras}


def build(package):
    """The example's model, with the package's layers."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((10, 1)), package.SimpleRNN(50, return_sequences=True, seed=0), package.SimpleRNN(1, seed=0)]
    )
    model.compile(optimizer="rmsprop", loss="mse")
    return model


def main(epochs=500, turn=10):
    """Train both; return for each the seconds of the first epoch and of all others, and the loss of each epoch."""
    x = np.random.default_rng(0).random((1000, 10, 1))
    y = x.sum(axis=1) / 10
    models = {name: build(package) for name, package in PACKAGES.items()}
    found = {name: {"first_s": 0.0, "others_s": 0.0, "loss": []} for name in models}
    done = 0
    while done < epochs:
        now = 1 if done == 0 else min(turn, epochs - done)
        for name, model in models.items():
            keras.utils.set_random_seed(done)  # the order of the rows is the same for both
            start = time.perf_counter()
            history = model.fit(x, y, epochs=now, verbose=0)
            found[name]["first_s" if done == 0 else "others_s"] += time.perf_counter() - start
            found[name]["loss"] += history.history["loss"]
        done += now
    return found


def draw(found, path):
    """Both loss curves, in one picture."""
    import matplotlib  # noqa: PLC0415

    matplotlib.use("Agg")
    from matplotlib import pyplot  # noqa: PLC0415

    figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
    for (name, each), style in zip(found.items(), ("-", "--"), strict=True):
        seconds = each["first_s"] + each["others_s"]
        axes.semilogy(range(1, len(each["loss"]) + 1), each["loss"], style, label=f"{name}, {seconds:.1f} s")
    axes.set(xlabel="epoch", ylabel="mean squared error", title="SimpleRNN(50), SimpleRNN(1), 1000 x 10 x 1")
    axes.legend()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="The Keras example with Keras' layers and with rnn_gpu's.")
    parser.add_argument("--epochs", type=int, default=500)
    parser.add_argument("--plot", type=Path, help="draw the loss curves into this PNG file")
    parser.add_argument("--json", type=Path, help="write the figures into this file")
    arguments = parser.parse_args()
    found = main(arguments.epochs)
    for name, each in found.items():
        total = each["first_s"] + each["others_s"]
        print(f"{name:14} {total:8.1f} s, the first epoch {each['first_s']:6.2f} s of it; loss {each['loss'][-1]:.3e}")
    theirs, ours = (each["first_s"] + each["others_s"] for each in found.values())
    print(f"rnn_gpu.keras takes 1/{theirs / ours:.2f} of the time, on Keras' {keras.backend.backend()} backend")
    if arguments.plot:
        draw(found, arguments.plot)
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1))
