"""asv's suite: every benchmark runs, on small sizes, says why where it cannot, and times as `rnn-gpu bench` does."""

from __future__ import annotations

import functools
import importlib
import inspect
import itertools
import json
import os
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

from rnn_gpu import cells, dispatch
from rnn_gpu.bench import timing
from rnn_gpu.bench.first_call import FirstCall
from rnn_gpu.bench.shapes import Case, Shape
from rnn_gpu.bench.suites import SUITES

SUITE = Path(__file__).parents[1] / "asv_bench"
KINDS = ("time_", "peakmem_", "track_", "timeraw_")
SMALL = Shape(3, 2, 4, 5)


@pytest.fixture
def suite(monkeypatch):
    """The suite's modules by name, freshly imported."""
    monkeypatch.syspath_prepend(str(SUITE))
    package = importlib.import_module("benchmarks")
    names = [module.name for module in pkgutil.iter_modules(package.__path__)]
    return {name: importlib.reload(importlib.import_module(f"benchmarks.{name}")) for name in names}


def classes(suite):
    """(its name, class) of every class with benchmarks."""
    for name, module in suite.items():
        for kind, found in inspect.getmembers(module, inspect.isclass):
            if found.__module__ == module.__name__ and methods(found):
                yield f"{name}.{kind}", found


def methods(kind):
    return [name for name in dir(kind) if name.startswith(KINDS)]


def on_the_reference(kind):
    """The combinations of parameters on numpy_cpu, with the smallest size in the place of each."""
    for combination in itertools.product(*kind.params):
        if "numpy_cpu" in combination:
            smaller = [SMALL if isinstance(value, Shape) else value for value in combination]
            yield tuple(kind.params[k][0] if type(value) is int else value for k, value in enumerate(smaller))


def test_every_benchmark_of_the_cpu_runs(suite, monkeypatch):
    monkeypatch.setattr(suite["sequence"], "ONE", SMALL)
    monkeypatch.setattr(suite["recompute"], "LONG", SMALL)
    ran = set()
    for name, kind in classes(suite):
        for combination in set(on_the_reference(kind)):
            instance = kind()
            instance.setup(*combination)
            for method in methods(kind):
                getattr(instance, method)(*combination)
                ran.add(f"{name}.{method}")
    assert ran == {
        "growth.Rows.time_lstm", "growth.Steps.time_lstm", "growth.Units.time_lstm",
        "recompute.Recompute.peakmem_train", "recompute.Recompute.time_train",
        "sequence.EveryCell.time_train", "sequence.EveryType.time_lstm", "sequence.Forward.time_forward",
        "sequence.Ragged.time_ragged", "sequence.Resets.time_resets", "sequence.Train.time_train",
        "streaming.Step.time_steps",
    }  # fmt: skip


def test_the_suite_is_that_of_rnn_gpu_bench(suite):
    common, quick = suite["common"], SUITES["cpu"][1]
    assert tuple(quick.shapes) == common.SEQUENCES
    assert common.Timed.warmup_time == timing.WARM_UP_S
    assert common.Timed.repeat[::2] == (quick.plan.least, quick.plan.seconds)
    assert set(common.BACKENDS) == {"numba_cpu", "numpy_cpu"}
    assert suite["sequence"].EveryCell.params[0] == tuple(cells.ALL)


def test_what_is_prepared_is_made_once(suite, monkeypatch):
    common, drawn = suite["common"], []
    monkeypatch.setattr(common, "draw", lambda case: drawn.append(case) or draw(case))
    from rnn_gpu.bench.calls import draw  # noqa: PLC0415

    case = Case(cells.gru, SMALL, "train")
    assert common.prepared(case, "numpy_cpu") is common.prepared(case, "numpy_cpu")
    assert drawn == [case]


def test_a_backend_that_cannot_run_says_why(suite):
    with pytest.raises(NotImplementedError, match="takes arrays on a CUDA device"):
        suite["common"].prepared(Case(cells.gru, SMALL, "train"), "cupy_raw")


def test_first_calls_are_measured_once_for_all(suite, monkeypatch):
    module = suite["compiling"]
    monkeypatch.setattr(module, "first_calls", lambda name: (FirstCall(4.0, 3.0), FirstCall(2.0, 1.0)))
    monkeypatch.setattr(type(dispatch.BACKENDS["cupy_raw"]), "unavailable", lambda self: "there is no device")
    benchmark = module.FirstCalls()
    found = benchmark.setup_cache()
    seconds = []
    for disk, which in itertools.product(*benchmark.params[1:]):
        benchmark.setup(found, "numba_cpu", disk, which)
        seconds.append(benchmark.track_first_call(found, "numba_cpu", disk, which))
    assert seconds == [4.0, 3.0, 2.0, 1.0]
    with pytest.raises(NotImplementedError, match="cupy_raw cannot be used here: there is no device"):
        benchmark.setup(found, "cupy_raw", "kept", "forward")


def test_without_a_device_its_benchmarks_say_so(suite, monkeypatch):
    backend = dispatch.BACKENDS["numba_cuda"]
    monkeypatch.setattr(type(backend), "unavailable", lambda self: "there is no device")
    with pytest.raises(NotImplementedError, match="numba_cuda cannot be used here: there is no device"):
        suite["cuda"].Device().setup("numba_cuda", "gru", "float32", SMALL, "forward")


class Host:
    """A device that is the host, of which nothing but the clock is asked."""

    name = "host"

    def __init__(self):
        self.clock = itertools.cycle([3e-3, 1e-3, 2e-3])

    def put(self, array):
        return array

    def repeated(self, block, shape, dtype):
        return block[: shape[0] * shape[1] * shape[2]].reshape(shape).astype(dtype)

    def time(self, run):
        run()
        return next(self.clock)

    def prepare(self, backend, cases, stop):
        return None

    def synchronize(self):
        pass

    def peak_bytes(self, run):
        return 0


def test_kernels_on_a_device_are_tracked_by_their_median(suite, monkeypatch):
    module = suite["cuda"]
    monkeypatch.setattr("rnn_gpu.bench.gpu.platform.CupyPlatform", Host)
    monkeypatch.setattr("rnn_gpu.bench.gpu.torch_peer.unavailable", lambda: "not here")
    benchmark = module.Device()
    arguments = ("numpy_cpu", "gru", "float32", SMALL, "train")
    benchmark.setup(*arguments)
    assert benchmark.unit == "seconds"
    assert benchmark.track_median(*arguments) == 2e-3


def test_a_wrong_result_on_a_device_has_no_time(suite):
    module = suite["cuda"]
    benchmark = module.Device()
    fields = module.Row.of(Case(cells.gru, SMALL, "train"))
    benchmark.row = module.Row(**fields, status="wrong", error=1.0, bound=1e-6)
    with pytest.raises(RuntimeError, match=r"wrong: error 1\.0"):
        benchmark.track_median("cupy_raw", "gru", "float32", SMALL, "train")


@pytest.mark.skipif(not (SUITE.parent / ".git").exists(), reason="a copy without git's folder has no commits to time")
def test_asv_times_a_commit(tmp_path):
    """The configuration, the environment of a commit, and the name of the machine, as `make bench` has them."""
    variables = os.environ | {"HOME": str(tmp_path)}
    run = functools.partial(subprocess.run, cwd=SUITE, env=variables, capture_output=True, text=True, check=True)
    machine = run([sys.executable, "machine.py"]).stdout.strip()
    assert re.fullmatch(r"[a-z0-9-]+-cores?", machine)
    settings = json.loads(re.sub(r"//.*", "", (SUITE / "asv.conf.json").read_text())) | {
        "repo": str(SUITE.parent),
        "benchmark_dir": str(SUITE / "benchmarks"),
        **{f"{name}_dir": str(tmp_path / name) for name in ("env", "results", "html")},
    }
    (tmp_path / "asv.conf.json").write_text(json.dumps(settings))
    command = [sys.executable, "-m", "asv", "--config", str(tmp_path / "asv.conf.json"), "run", "--machine", machine]
    commit = run(["git", "rev-parse", "HEAD"]).stdout.strip()
    shown = run([*command, "--bench", "time_forward.*numpy_cpu.*T=10,", f"{commit}^!"]).stdout
    assert "time_forward" in shown
    (found,) = tmp_path.glob(f"results/{machine}/{commit[:8]}-commit-*.json")
    results = json.loads(found.read_text())
    assert results["params"]["machine"] == machine
    assert set(results["requirements"]) == {"numba", "numpy"}
    times, _, *_ = results["results"]["sequence.Forward.time_forward"]
    assert sum(time is not None and time > 0 for time in times) == 3
