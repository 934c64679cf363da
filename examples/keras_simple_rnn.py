"""A first recurrent network in Keras: the sum of ten numbers. Nothing is this package's but the import.

python keras_simple_rnn.py        with KERAS_BACKEND=torch, or jax, or tensorflow
"""

import os

os.environ.setdefault("KERAS_BACKEND", "torch")

import numpy as np
from keras.models import Sequential

from rnn_gpu.keras import SimpleRNN  # from keras.layers import SimpleRNN


def main(epochs=500, verbose="auto"):
    """Train; return the loss of each epoch."""
    rng = np.random.default_rng(0)
    x = rng.random((1000, 10, 1))
    y = x.sum(axis=1) / 10

    model = Sequential()
    model.add(SimpleRNN(50, return_sequences=True))
    model.add(SimpleRNN(1))
    model.compile(optimizer="rmsprop", loss="mse")
    history = model.fit(x, y, epochs=epochs, verbose=verbose)
    return history.history["loss"]


if __name__ == "__main__":
    main()
