"""The first call in a new process: with nothing on disk, and with what an earlier process has left there."""

from rnn_gpu import dispatch
from rnn_gpu.bench.first_call import FirstCall, first_calls

COMPILED = tuple(name for name in dispatch.BACKENDS if name != "numpy_cpu")


class FirstCalls:
    """Of a float32 lstm."""

    params = (COMPILED, ("nothing", "kept"), ("forward", "backward"))
    param_names = ("backend", "disk", "pass")
    unit = "seconds"
    timeout = 600

    def setup_cache(self) -> dict[str, tuple[FirstCall, FirstCall] | str]:
        """The times of each backend, or why it has none here."""
        return {name: dispatch.BACKENDS[name].unavailable() or first_calls(name) for name in COMPILED}

    def setup(self, found: dict[str, tuple[FirstCall, FirstCall] | str], backend: str, disk: str, which: str) -> None:
        times = found[backend]
        if isinstance(times, str):
            raise NotImplementedError(f"{backend} cannot be used here: {times}")
        cold, warm = times
        self.seconds: float = getattr(cold if disk == "nothing" else warm, which)

    def track_first_call(self, found: object, backend: str, disk: str, which: str) -> float:
        return self.seconds
