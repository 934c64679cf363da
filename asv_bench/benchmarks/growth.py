"""A training step's time against the steps, the rows and the units, one at a time."""

from rnn_gpu.bench.suites import sized

from .common import BACKENDS, WHOLE, Timed


class Steps(Timed):
    params = (BACKENDS, tuple(WHOLE.sweeps["T"]))
    param_names = ("backend", "T")

    def setup(self, backend: str, size: int) -> None:
        self.prepare("lstm", backend, sized(WHOLE.sweep_shape, "T", size), "train")

    def time_lstm(self, backend: str, size: int) -> None:
        self.run()


class Rows(Timed):
    params = (BACKENDS, tuple(WHOLE.sweeps["B"]))
    param_names = ("backend", "B")

    def setup(self, backend: str, size: int) -> None:
        self.prepare("lstm", backend, sized(WHOLE.sweep_shape, "B", size), "train")

    def time_lstm(self, backend: str, size: int) -> None:
        self.run()


class Units(Timed):
    params = (BACKENDS, tuple(WHOLE.sweeps["H"]))
    param_names = ("backend", "H")

    def setup(self, backend: str, size: int) -> None:
        self.prepare("lstm", backend, sized(WHOLE.sweep_shape, "H", size), "train")

    def time_lstm(self, backend: str, size: int) -> None:
        self.run()
